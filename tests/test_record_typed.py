"""Recordings into typed tables, end to end: the real command against each simulated exchange.

What is compared is each table, row by row, with what the frames that were sent say: see `typed_wire.py`.
"""

from collections import Counter

import pytest

from tests.conftest import wait_for
from tests.test_record import assert_adds_up, statistics
from tests.typed_recording import SYMBOLS, UNKNOWN, received_all, record, simulated, sockets
from tests.typed_wire import Rows, coverage, dead_letters, said, stored, trades_written


@pytest.mark.parametrize("name", SYMBOLS)
def test_every_table_holds_what_was_sent_and_an_unknown_symbol_costs_the_others_nothing(
    start, tmp_path, name
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
    assert Counter(have.tickers) == Counter(sent.tickers)
    assert have.candles == sent.candles
    for rows in (have.trades, have.books, have.tickers):
        assert {row[0] for row in rows} == set(symbols)
    assert_adds_up(statistics(running)[-1])
    assert dead_letters(tmp_path / "data") == []
    assert UNKNOWN[name] in running.err
    assert exchange.connections == sockets(name)
    check_coverage(coverage(tmp_path / "data"), have)


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
