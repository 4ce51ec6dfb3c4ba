"""What an exchange's list says when a run begins: no run depends on the database for it, nor on the list."""

import threading
import time

import pytest

from mexcflow.clock import SYSTEM_CLOCK, SystemClock
from mexcflow.config import Instance
from mexcflow.errors import StoreUnavailable
from mexcflow.pipeline import reference
from mexcflow.pipeline.reference import Reference
from mexcflow.simulator import Simulator
from mexcflow.store import open_store

NOWHERE = "ws://127.0.0.1:1"
SYMBOLS = ("BTC-USDT-SWAP", "ETH-USDT-SWAP")
SIZES = {"BTC-USDT-SWAP": "0.01", "ETH-USDT-SWAP": "0.1"}
WRITTEN = [("okx", "BTC-USDT-SWAP", "0.01"), ("okx", "ETH-USDT-SWAP", "0.1")]


class Away:
    """A store whose server was killed a moment ago."""

    def __getattr__(self, name: str) -> object:
        def fail(*_: object, **__: object) -> None:
            raise StoreUnavailable(f"{name}: Connection refused")

        return fail


class Clock(SystemClock):
    """Waits take no time, and are written down."""

    def __init__(self) -> None:
        self.waits = []

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        return event.is_set()


def instance_at(endpoint: str) -> Instance:
    return Instance(exchange="okx", symbols=SYMBOLS, endpoint=endpoint)


def written(store) -> list[tuple[object, ...]]:
    return store.query(
        "SELECT exchange, symbol, toString(contract_size) FROM market_data.contracts ORDER BY symbol"
    )


def join_reference() -> None:
    for thread in threading.enumerate():
        if thread.name == "reference":
            thread.join(10)


def is_looking() -> bool:
    return any(thread.name == "reference" for thread in threading.enumerate())


@pytest.mark.parametrize("rest", [True, False])
def test_a_database_that_goes_away_at_this_moment_ends_no_run(caplog, rest):
    with Simulator(exchange="okx") as exchange:
        instance = instance_at(exchange.address if rest else NOWHERE)
        sizes = Reference(instance, SYSTEM_CLOCK).sizes(Away())
    assert sizes == (SIZES if rest else {})
    assert "Connection refused" in caplog.text


def test_a_list_that_was_away_is_written_down_when_it_is_back(tmp_path, monkeypatch, caplog):
    clock = Clock()
    real = reference.find_instruments
    with Simulator(exchange="okx") as exchange, open_store(str(tmp_path / "data")) as store:

        def find(*args, endpoint, **options):  # away for the first two minutes
            return real(*args, endpoint=endpoint if len(clock.waits) > 2 else NOWHERE, **options)

        monkeypatch.setattr(reference, "find_instruments", find)
        looked_up = Reference(instance_at(exchange.address), clock)
        assert looked_up.sizes(store) == {}
        end = looked_up.keep_looking(lambda: store)
        join_reference()
        assert not is_looking()
        end()
        assert written(store) == WRITTEN
    assert clock.waits == [60.0] * 3
    assert [one.getMessage() for one in caplog.records if one.levelname == "WARNING"] == [
        "going on without the list of symbols of okx: "
        "http://127.0.0.1:1/api/v5/public/instruments: Connection refused"
    ]


def test_a_list_that_no_database_took_is_written_down_when_there_is_one(tmp_path):
    clock = Clock()
    with Simulator(exchange="okx") as exchange, open_store(str(tmp_path / "data")) as store:

        def connect():
            return store if len(clock.waits) > 2 else Away()

        looked_up = Reference(instance_at(exchange.address), clock)
        assert looked_up.sizes(None) == SIZES
        looked_up.keep_looking(connect)
        join_reference()
        assert written(store) == WRITTEN
    assert clock.waits == [60.0] * 3


def test_what_is_written_down_is_not_looked_for_again(tmp_path):
    with Simulator(exchange="okx") as exchange, open_store(str(tmp_path / "data")) as store:
        looked_up = Reference(instance_at(exchange.address), SYSTEM_CLOCK)
        assert looked_up.sizes(store) == SIZES
        end = looked_up.keep_looking(lambda: store)
        assert not is_looking()
        end()
        assert written(store) == WRITTEN


def test_the_end_of_a_run_does_not_wait_for_the_next_look():
    looked_up = Reference(instance_at(NOWHERE), SYSTEM_CLOCK)
    assert looked_up.sizes(None) == {}
    end = looked_up.keep_looking(Away)
    assert is_looking()
    started = time.monotonic()
    end()
    assert time.monotonic() - started < 1
    assert not is_looking()
