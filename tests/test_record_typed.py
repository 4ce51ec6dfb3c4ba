"""Recordings into typed tables, end to end: the real command against each simulated exchange.

What is compared is each table, row by row, with what the frames that were sent say: see `typed_wire.py`.
"""

from collections import Counter

import pytest

from tests.conftest import wait_for
from tests.test_record import assert_adds_up, statistics
from tests.typed_recording import SYMBOLS, received_all, record, simulated
from tests.typed_wire import said, stored, trades_written


@pytest.mark.parametrize("name", SYMBOLS)
def test_every_table_holds_what_was_sent(start, tmp_path, name):
    symbols = SYMBOLS[name]
    with simulated(name, minute_ends_in_s=1.5) as exchange:
        running = record(start, exchange, name, *symbols)
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
