"""The owner of a data folder goes, or stands still, at one exact moment of a guest's work: no row twice.

Real processes: `mexcflow engine` owns the folder, `mexcflow run` is its guest. Where the moment lies within a
request, a proxy with faults stands between the two: it is written into endpoint.json.
"""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mexcflow.errors import StoreUnavailable
from mexcflow.simulator import Settings, Simulator
from mexcflow.store import Store, open_store
from mexcflow.store.owner import read_address
from tests.conftest import Running, wait_for
from tests.fault_proxy import FaultProxy
from tests.kill.frames import Delivery, judge, without_end
from tests.kill.round import Trial, stored
from tests.recording import append, deals, good, insert, open_journal, rows_in

OPTIONS = ("--flush-interval", "0.1", "--fsync", "1")
SYMBOLS = ("BTC_USDT", "ETH_USDT")


class Guest:
    """`mexcflow run` of one symbol, and what it was delivered."""

    def __init__(self, folder: Path, symbol: str) -> None:
        self.symbol = symbol
        self.folder = folder
        self.log = folder / f"{symbol}.log"
        self.table = symbol.partition("_")[0].lower()
        settings = Settings(recording=lambda: without_end(symbol), rate=300.0, keep_sent=True)
        self._exchange = Simulator.of(settings)
        self._exchange.__enter__()
        self.trial = Trial(self._exchange, folder, OPTIONS, symbol=symbol)
        self._deliveries: list[Delivery] = []

    def said(self) -> list[str]:
        """What it logged."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line)["message"] for line in lines if line.startswith("{")]

    def logged(self, part: str) -> None:
        """Wait until it has logged something like this."""
        wait_for(lambda: any(part in line for line in self.said()), seconds=30, what=f"{part} in {self.log}")

    def has_rows(self) -> None:
        """Wait until the table has some."""
        files = "data/store/*/*/data.bin"
        wait_for(lambda: any(file.stat().st_size for file in self.folder.glob(files)), seconds=30, what=files)

    def ends_with_every_row_once(self) -> None:
        """Stop it in order, and compare the table with what it was delivered."""
        self._deliveries += self.trial.end(signal.SIGINT)

    def judge(self) -> None:
        verdict = judge(stored(self.folder / "data", self.table), self._deliveries, self.symbol)
        assert verdict.exact, (verdict.lost[:3], verdict.doubled[:3], verdict.in_order)
        assert verdict.rows > 50

    def give_up(self) -> None:
        self.trial.give_up()
        self._exchange.__exit__(None, None, None)


@pytest.fixture
def record(tmp_path) -> Iterator[Callable[..., Guest]]:
    """Start recordings; in the end nothing is left of them."""
    guests: list[Guest] = []

    def started(symbol: str = SYMBOLS[0]) -> Guest:
        guests.append(Guest(tmp_path, symbol))
        return guests[-1]

    yield started
    for guest in guests:
        guest.give_up()


@pytest.fixture
def engine(start, tmp_path) -> Running:
    """`mexcflow engine`, which owns the folder `data`."""
    running = start("engine")
    wait_for(lambda: "answers on" in running.out, seconds=30, what=running.err)
    return running


@pytest.fixture
def proxy(engine, tmp_path) -> Iterator[FaultProxy]:
    """Stands between the owner and whoever becomes its guest from now on."""
    address = read_address(tmp_path / "data")
    with FaultProxy(int(address.url.rpartition(":")[2])) as proxy:
        file, ended = tmp_path / "data/endpoint.json", threading.Event()

        def stand_between() -> None:
            """The owner puts its own address back, and a guest may start late on a busy machine."""
            while not ended.wait(0.02):
                with contextlib.suppress(OSError):
                    said = file.read_text()
                    if address.url in said:
                        new = file.with_name("endpoint.new")
                        new.write_text(said.replace(address.url, f"http://127.0.0.1:{proxy.port}"))
                        new.chmod(0o600)
                        new.replace(file)

        thread = threading.Thread(target=stand_between)
        thread.start()
        wait_for(lambda: str(proxy.port) in file.read_text())
        yield proxy
        ended.set()
        thread.join()


def kill(running: Running) -> None:
    running.process.kill()
    running.process.wait()


@pytest.mark.parametrize(
    ("moment", "verdict"), [("hold", "absent"), ("stall", "present"), ("slow", "absent")]
)
def test_the_owner_is_killed_before_an_insert_after_it_and_in_the_middle_of_its_body(
    engine, proxy, record, moment, verdict
):
    guest = record()
    guest.trial.wait_for_frames()
    guest.has_rows()
    fault = proxy.slow(10, times=1) if moment == "slow" else getattr(proxy, moment)(times=1)
    wait_for(lambda: fault.met)
    if moment == "stall":
        assert fault.executed.wait(15)
    kill(engine)
    fault.lift()
    guest.logged(f": {verdict}")
    guest.logged("this process owns it now")
    guest.ends_with_every_row_once()
    guest.judge()


@pytest.mark.parametrize("spares", [2, 4])  # so many requests of the guest are answered
def test_the_owner_is_killed_while_a_guest_opens_the_folder(engine, proxy, record, spares):
    fault = proxy.hold(inserts_only=False, times=1, spares=spares)
    guest = record()
    wait_for(lambda: fault.met, seconds=30)
    kill(engine)
    fault.lift()
    guest.trial.wait_for_frames()
    guest.has_rows()
    guest.ends_with_every_row_once()
    guest.judge()


def test_the_owner_stops_in_order_while_a_guests_insert_is_on_its_way_and_the_guest_has_no_error(
    engine, proxy, record
):
    guest = record()
    guest.trial.wait_for_frames()
    guest.has_rows()
    fault = proxy.slow(10, times=1)
    wait_for(lambda: fault.met)
    engine.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    fault.lift()
    assert engine.process.wait(15) == 0
    guest.logged("this process owns it now")
    guest.ends_with_every_row_once()
    guest.judge()


@pytest.mark.parametrize("then", ["goes on", "is killed"])
def test_the_owner_stands_still_for_a_while(engine, record, then):
    guest = record()
    guest.trial.wait_for_frames()
    guest.has_rows()
    os.kill(engine.process.pid, signal.SIGSTOP)
    time.sleep(1)
    if then == "is killed":
        kill(engine)
        guest.logged("this process owns it now")
    else:
        os.kill(engine.process.pid, signal.SIGCONT)
    guest.ends_with_every_row_once()
    guest.judge()
    assert not any("failed" in line for line in guest.said()) or then == "is killed"


def test_an_engine_that_is_told_to_stop_while_it_stands_still_stops_when_it_goes_on(engine, record):
    guest = record()
    guest.trial.wait_for_frames()
    guest.has_rows()
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGCONT):
        os.kill(engine.process.pid, number)
        time.sleep(0.1)
    assert engine.process.wait(30) == 0
    guest.logged("this process owns it now")
    guest.ends_with_every_row_once()
    guest.judge()


def test_of_two_guests_that_come_back_at_once_one_becomes_the_owner(engine, record):
    guests = [record(symbol) for symbol in SYMBOLS]
    for guest in guests:
        guest.trial.wait_for_frames()
        guest.has_rows()
    kill(engine)
    new = ("this process owns it now", "it has a new owner")
    for guest in guests:
        wait_for(lambda said=guest.said: any(one in line for line in said() for one in new), seconds=30)
    said = [line for guest in guests for line in guest.said() if any(one in line for one in new)]
    assert sorted(line.rpartition(": ")[2] for line in said) == sorted(("it has a new owner", new[0]))
    for guest in guests:  # the owner may be the first to go: the other one takes over once more
        guest.ends_with_every_row_once()
    for guest in guests:
        guest.judge()


class Going:
    """A store whose owner goes at a call of `method`, once."""

    def __init__(self, store: Store, method: str) -> None:
        self._store = store
        self._method = method

    def __getattr__(self, name: str) -> object:
        if name == self._method:
            self._method = ""
            return self._gone
        return getattr(self._store, name)

    def _gone(self, *_: object, **__: object) -> None:
        raise StoreUnavailable("the owner is gone")


@pytest.mark.parametrize("method", ["table_folder", "sync", "insert_rows", "query"])
def test_the_owner_goes_at_one_call_of_the_insert_thread(tmp_path, method):
    journal = open_journal(tmp_path)
    append(journal, deals(0, 50))
    with open_store(str(tmp_path)) as store:
        insert(Going(store, method), journal, sync_interval_s=0)
        assert not journal.backlog
    journal.close()
    assert rows_in(tmp_path) == good(0, 50)
