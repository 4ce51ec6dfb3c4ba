"""What is asked for of exchanges with typed tables: less than all, what is not there, what is taken."""

from collections import Counter

import pytest

from mexcflow.simulator import Simulator
from tests.conftest import mexcflow, wait_for
from tests.typed_recording import SYMBOLS, received_all, record, simulated
from tests.typed_wire import coverage, said, stored

UNKNOWN = {
    "binance": "NOPEUSDT",
    "binance_spot": "NOPEUSDT",
    "bybit": "NOPEUSDT",
    "okx": "NOPE-USDT-SWAP",
    "coinbase": "NOPE-USD",
    "kraken": "NOPE/USD",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_symbol_is_named_and_costs_the_good_one_nothing(start, tmp_path, name):
    good = SYMBOLS[name][0]
    with simulated(name, speed=20) as exchange:
        running = record(start, exchange, name, UNKNOWN[name], good)
        wait_for(lambda: len(exchange.sent) > 300, what=running.err)
        with exchange.silence():
            wait_for(lambda: received_all(running, exchange), what=running.err)
            assert running.stop() == 0, running.err
        sent = said(name, [frames for _, frames in exchange.sent_to])
    have = stored(tmp_path / "data")
    assert set(have.trades) == set(sent.trades)
    assert Counter(have.books) == Counter(sent.books)
    assert {row[0] for row in coverage(tmp_path / "data")} == {good}
    assert UNKNOWN[name] in running.err
    assert exchange.connections == 1 + (name in ("binance", "okx"))


@pytest.mark.parametrize("name", UNKNOWN)
def test_nothing_but_unknown_symbols_is_2_with_one_line(tmp_path, name):
    with Simulator(exchange=name) as exchange:
        done = mexcflow(
            "run", "--exchange", name, "--symbol", UNKNOWN[name], "--endpoint", exchange.address,
            cwd=tmp_path, timeout=30,
        )  # fmt: skip
    assert done.returncode == 2, done.stderr
    said_last = done.stderr.strip().splitlines()
    assert UNKNOWN[name] in done.stderr
    assert "Traceback" not in done.stderr
    assert said_last
