"""What is asked for of exchanges with typed tables: less than all, what cannot be, what is taken."""

import time
from collections import Counter

import pytest

from mexcflow.simulator import Simulator
from mexcflow.store import open_store
from tests.conftest import mexcflow, wait_for
from tests.test_record import statistics
from tests.typed_recording import SYMBOLS, UNKNOWN, received_all, record, simulated
from tests.typed_wire import coverage, said, stored


@pytest.mark.parametrize("name", ["binance", "kraken"])
def test_nothing_but_unknown_symbols_is_2_with_one_line(tmp_path, name):
    with Simulator(exchange=name) as exchange:
        done = mexcflow(
            "run", "--exchange", name, "--symbol", UNKNOWN[name], "--endpoint", exchange.address,
            cwd=tmp_path, timeout=30,
        )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert UNKNOWN[name] in done.stderr


@pytest.mark.parametrize("name", ["okx", "bybit"])
def test_unknown_symbols_do_not_end_the_recording_of_the_good_one(start, tmp_path, name):
    unknown = [UNKNOWN[name].replace("NOPE", f"NOPE{letter}") for letter in "AB"]
    with simulated(name) as exchange:
        running = record(start, exchange, name, *unknown, SYMBOLS[name][0], options=("--max-errors", "1"))
        wait_for(lambda: unknown[-1] in running.err, what=running.err)
        wait_for(lambda: statistics(running) and statistics(running)[-1]["exchange_errors"] > 2, seconds=30)
        wait_for(lambda: statistics(running)[-1]["messages"]["trade"] > 20, what=running.err)
        assert running.stop() == 0, running.err
    assert {row[0] for row in stored(tmp_path / "data").trades} == {SYMBOLS[name][0]}


@pytest.mark.parametrize("name", ["binance", "coinbase"])
def test_a_connection_that_is_taken_over_loses_and_doubles_no_trade_and_is_no_outage(start, tmp_path, name):
    with simulated(name, speed=3) as exchange:
        running = record(start, exchange, name, *SYMBOLS[name], options=("--lifetime", "2"))
        wait_for(lambda: running.err.count("a new connection has taken over") >= 1, what=running.err)
        sent = len(exchange.sent)
        wait_for(lambda: len(exchange.sent) > sent + 100)
        with exchange.silence():
            wait_for(lambda: statistics(running)[-1]["backlog_frames"] == 0)
            time.sleep(0.6)
            assert running.stop() == 0, running.err
        connections = [frames for _, frames in exchange.sent_to]
    sent = said(name, connections)
    have = stored(tmp_path / "data")
    assert len(have.trades) == len(set(have.trades))
    assert {row[:3] for row in have.trades} == {row[:3] for row in sent.trades}
    assert [row for row, count in Counter(have.books).items() if count > 1] == []
    assert {row[3:] for row in have.books} == {row[3:] for row in sent.books}
    assert not [
        row for row in coverage(tmp_path / "data") if row[2] == "gap" or row[3] not in ("", "stopped")
    ]
    assert len(exchange.sent_to) >= 2


def test_only_the_channels_that_are_asked_for_and_books_once_a_second(start, tmp_path):
    with simulated("bybit", speed=5) as exchange:
        running = record(
            start, exchange, "bybit", *SYMBOLS["bybit"],
            options=("--channels", "book", "--book-interval", "1s"),
        )  # fmt: skip
        wait_for(lambda: len(exchange.sent) > 1, what=running.err)
        time.sleep(3.5)
        assert running.stop() == 0, running.err
        sent = said("bybit", [frames for _, frames in exchange.sent_to])
    assert not sent.trades
    assert not sent.tickers
    have = stored(tmp_path / "data")
    assert not have.trades + have.tickers + list(have.candles.items())
    assert set(have.books) <= set(sent.books)
    with open_store(str(tmp_path / "data"), create=False) as store:
        seconds = store.query(
            "SELECT symbol, toUnixTimestamp64Micro(receive_time) FROM market_data.books ORDER BY ALL"
        )
    for symbol in SYMBOLS["bybit"]:
        times = [us for of, us in seconds if of == symbol]
        assert len(times) >= 3
        assert times == list(range(times[0], times[-1] + 1, 1_000_000))
        assert times[0] % 1_000_000 == 0


def test_only_trades(start, tmp_path):
    with simulated("okx", speed=20) as exchange:
        running = record(start, exchange, "okx", *SYMBOLS["okx"], options=("--channels", "trade"))
        wait_for(lambda: len(exchange.sent) > 100, what=running.err)
        with exchange.silence():
            wait_for(lambda: received_all(running, exchange), what=running.err)
            assert running.stop() == 0, running.err
        sent = said("okx", [frames for _, frames in exchange.sent_to])
    have = stored(tmp_path / "data")
    assert set(have.trades) == set(sent.trades)
    assert not have.books + have.tickers + list(have.candles.items())
    assert exchange.connections == 1  # the socket of the candles is not needed
    live = {(symbol, channel): rows for symbol, channel, state, _, _, rows in coverage(tmp_path / "data")
            if state == "live"}  # fmt: skip
    assert live == {(symbol, "trade"): count for symbol, count in Counter(r[0] for r in have.trades).items()}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--exchange", "kraken", "--symbol", "BTC/USD", "--candle-interval", "3m"), "3m"),
        (("--exchange", "coinbase", "--symbol", "BTC-USD", "--channels", "candle"), "candle"),
        (("--exchange", "bybit", "--symbol", "BTCUSDT", "--channels", "depth"), "depth"),
        (("--exchange", "bybit", "--symbol", "BTCUSDT", "--book-interval", "often"), "often"),
        (("--exchange", "bybit", "--symbol", "BTCUSDT", "--table", "trades"), "table"),
        (("--exchange", "bitmex", "--symbol", "XBTUSD"), "bitmex"),
        (("--symbol", "BTC_USDT", "--symbol", "ETH_USDT"), "BTC_USDT, ETH_USDT"),
    ],
)
def test_what_cannot_be_is_2_with_one_line(tmp_path, options, says):
    done = mexcflow("run", *options, cwd=tmp_path, timeout=30)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert says in done.stderr
    assert not (tmp_path / "data").exists()


def test_two_runs_that_share_a_symbol_are_73(start, tmp_path):
    with simulated("okx") as exchange:
        one, two = SYMBOLS["okx"]
        running = record(start, exchange, "okx", one, two, options=("--channels", "trade"))
        wait_for(lambda: exchange.connections, what=running.err)
        for symbols in ((two, "SOL-USDT-SWAP"), (one, two)):
            again = record(start, exchange, "okx", *symbols)
            assert again.process.wait(20) == 73, again.err
            last = again.err.splitlines()[-1]
            assert str(running.process.pid) in last
            assert symbols[0] in last
        assert running.stop() == 0
        assert exchange.connections == 1
