"""Recordings into typed tables, end to end: the real command against each simulated exchange.

What is compared is each table, row by row, with what the frames that were sent say: see `typed_wire.py`.
"""

import json
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal

import pytest

from mexcflow.simulator import Simulator
from mexcflow.simulator.binance import Binance
from mexcflow.simulator.exchange import RestAnswer
from tests.conftest import wait_for
from tests.test_record import assert_adds_up, statistics
from tests.typed_frames import CAPTURED, captured
from tests.typed_recording import SYMBOLS, UNKNOWN, received_all, record, simulated, sockets
from tests.typed_wire import Rows, coverage, dead_letters, ms, said, stored, trades_written


@pytest.fixture
def polled(monkeypatch) -> set[tuple]:
    """Symbol, time and open interest of each answer to a poll."""
    answers: set[tuple] = set()
    rest = Binance.rest

    def answered(exchange: Binance, path: str, query: Mapping[str, str], now_ms: int) -> RestAnswer | None:
        answer = rest(exchange, path, query, now_ms)
        if answer is not None and path.endswith("/openInterest") and answer.status == 200:
            told = json.loads(answer.body)
            answers.add((told["symbol"], ms(told["time"]), Decimal(told["openInterest"])))
        return answer

    monkeypatch.setattr(Binance, "rest", answered)
    return answers


@pytest.mark.parametrize("name", SYMBOLS)
def test_every_table_holds_what_was_sent_and_an_unknown_symbol_costs_the_others_nothing(
    start, tmp_path, name, polled
):
    symbols = SYMBOLS[name]
    with simulated(name, minute_ends_in_s=1.5) as exchange:
        running = record(start, exchange, name, symbols[0], UNKNOWN[name], symbols[1])
        wait_for(lambda: len(exchange.sent) > 900, what=running.err)
        with exchange.silence():
            wait_for(lambda: received_all(running, exchange), what=running.err)
            assert running.stop() == 0, running.err
        sent = said(name, [frames for _, frames in exchange.sent_to])
    have = stored(tmp_path / "data")
    assert set(have.trades) == set(sent.trades)
    assert len(have.trades) == trades_written(tmp_path / "data") == len(sent.trades)
    assert Counter(have.books) == Counter(sent.books)
    check_tickers(have.tickers, sent.tickers, polled)
    assert have.candles == sent.candles
    for rows in (have.trades, have.books, have.tickers):
        assert {row[0] for row in rows} == set(symbols)
    assert_adds_up(statistics(running)[-1])
    assert dead_letters(tmp_path / "data") == []
    assert UNKNOWN[name] in running.err
    assert exchange.connections == sockets(name)
    check_coverage(coverage(tmp_path / "data"), have)


def check_tickers(have: list[tuple], sent: list[tuple], polled: set[tuple]) -> None:
    """See that the rows are those that were sent; open interest may have been asked for between them."""
    if not polled:
        assert Counter(have) == Counter(sent)
        return
    more = Counter((*row[:5], *row[6:]) for row in have) - Counter((*row[:5], *row[6:]) for row in sent)
    assert len(have) == len(sent) + more.total()
    assert {row[:2] for row in more} <= {answer[:2] for answer in polled}
    told = {(answer[0], answer[2]) for answer in polled}
    assert {(row[0], row[5]) for row in have if row[5] is not None} <= told


def check_coverage(intervals: list[tuple], have: Rows) -> None:
    """See that each channel of each symbol has one live interval with all its rows, and no gap."""
    rows = Counter((row[0], "trade") for row in have.trades)
    rows += Counter((row[0], "book") for row in have.books)
    rows += Counter((row[0], "ticker") for row in have.tickers)
    live = [row for row in intervals if row[2] == "live"]
    assert {(row[0], row[1]): row[5] for row in live if row[1] != "candle"} == rows
    assert {row[0] for row in live if row[1] == "candle"} == {key[0] for key in have.candles}
    assert len({row[:2] for row in live}) == len(live)
    assert {row[2:4] for row in intervals} == {("live", ""), ("outage", "stopped")}


CASES = {
    "binance": (
        ("BTCUSDT", "ETHUSDT"),
        "trade,ticker,candle",
        ("binance_futures.aggTrade.jsonl", "binance_futures.kline.jsonl", "binance_futures.markPrice.jsonl"),
    ),
    "okx": (("BTC-USDT-SWAP",), "trade", ("okx_*.trades.*.jsonl", "okx_*.trades.jsonl")),
    "coinbase": (("BAND-GBP", "NU-GBP", "SKL-GBP"), "trade,book,ticker", ("coinbase.[lmt]*.2021.jsonl",)),
}
"""Symbols, channels, files. Kraken's captured session has books of a depth that we do not ask for."""


@pytest.mark.skipif(not CAPTURED.is_dir(), reason="the captured frames are not beside this checkout")
@pytest.mark.parametrize("name", CASES)
def test_captured_frames_of_the_real_exchange_come_out_exact(start, tmp_path, name, polled):
    symbols, channels, files = CASES[name]
    frames = [frame for frame in captured(*files) if any(f'"{symbol}"' in frame for symbol in symbols)]
    frames = [frame for frame in frames if name != "binance" or '"stream"' in frame]
    assert len(frames) > 1
    with Simulator(exchange=name, symbols=symbols, frames=frames, keep_sent=True) as exchange:
        running = record(start, exchange, name, *symbols, options=("--channels", channels))
        wait_for(lambda: len(exchange.sent) >= len(frames), what=running.err)
        wait_for(lambda: received_all(running, exchange), what=running.err)
        assert running.stop() == 0, running.err
        assert len(exchange.sent_to) == 1
        sent = said(name, [frames for _, frames in exchange.sent_to])
    have = stored(tmp_path / "data")
    assert set(have.trades) == set(sent.trades)
    assert Counter(have.books) == Counter(sent.books)
    check_tickers(have.tickers, sent.tickers, polled)
    assert have.candles == sent.candles
    assert have.trades + have.books
    assert dead_letters(tmp_path / "data") == []
