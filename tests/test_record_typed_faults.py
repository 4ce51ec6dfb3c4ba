"""Typed tables when an exchange misbehaves: nothing wrong is stored, what is missing is written down."""

import re
from collections import Counter
from decimal import Decimal

import pytest

from mexcflow.simulator import Faults
from mexcflow.simulator.market import Depth
from mexcflow.simulator.published import Books
from tests.conftest import wait_for
from tests.test_record import assert_adds_up, statistics
from tests.typed_recording import SYMBOLS, received_all, record, simulated, sockets
from tests.typed_wire import DEPTHS, Levels, coverage, dead_letters, said, stored

TAIL = 60
"""Messages that may have been on their way when a connection was cut."""
PROVED = {"bybit": 50, "coinbase": 20, "kraken": 10}
"""Levels a side that the exchange's rule covers: Kraken's checksum is of ten."""
DISTURBED = {
    "binance": Faults(
        drop_every_s=1.2,
        garbage_every_s=0.2,
        duplicate_every_s=0.3,
        out_of_order_every_s=0.37,
        lose_every_s=0.41,
    ),
    "coinbase": Faults(drop_every_s=1.2, garbage_every_s=0.2, duplicate_every_s=0.3),  # has no numbers
}


@pytest.fixture
def truth(monkeypatch) -> dict[str, list[tuple[Levels, Levels]]]:
    """Every state that the books of the simulated exchange had, by symbol."""
    states: dict[str, list[tuple[Levels, Levels]]] = {}
    take = Books.take

    def taken(books: Books, depth: Depth) -> None:
        contract = depth.contract
        sides = [
            tuple(
                (Decimal(level.price_ticks).scaleb(-contract.scale), level.contracts * contract.contract_size)
                for level in side
            )
            for side in (depth.bids, depth.asks)
        ]
        states.setdefault(contract.symbol, []).append((sides[0], sides[1]))
        take(books, depth)

    monkeypatch.setattr(Books, "take", taken)
    return states


@pytest.mark.parametrize("name", ["binance", "bybit", "coinbase", "kraken"])
def test_what_is_stored_is_true_whatever_happens_to_the_connection(start, tmp_path, name, truth):
    with simulated(name, faults=DISTURBED.get(name, DISTURBED["binance"])) as exchange:
        running = record(start, exchange, name, *SYMBOLS[name], options=("--max-errors", "1000"))
        wait_for(lambda: exchange.connections >= 3 * sockets(name), what=running.err, seconds=30)
        before = len(exchange.sent)
        wait_for(lambda: len(exchange.sent) > before + 300, what=running.err)
        assert running.stop() == 0, running.err
        connections = [frames for _, frames in exchange.sent_to]
        garbage = [one.decode("utf-8", "replace")[:500] for one in exchange.garbage]
    readable = [[frame for frame in frames if frame not in exchange.garbage] for frames in connections]
    have = stored(tmp_path / "data")
    trades = [said(name, [frames]).trades for frames in readable]
    sure = {row for frames in readable for row in said(name, [frames[:-TAIL]]).trades}
    assert sure <= set(have.trades) <= {row for rows in trades for row in rows}
    check_books(name, have.books, said(name, readable).books if name not in DEPTHS else [], truth)
    letters = dead_letters(tmp_path / "data")
    assert {letter[0] for letter in letters} == {name}
    assert all(letter[3] for letter in letters)
    assert not Counter(letter[4] for letter in letters) - Counter(garbage)
    assert len(letters) > len(garbage) / 2
    assert_adds_up(statistics(running)[-1])
    states = Counter((symbol, state) for symbol, _, state, *_ in coverage(tmp_path / "data"))
    assert all(states[symbol, "outage"] for symbol in SYMBOLS[name])
    assert "Traceback" not in running.err


def check_books(name: str, books: list[tuple], sent: list[tuple], truth: dict) -> None:
    """See that each stored book was one, of its symbol, and that there are such of the end."""
    if name not in DEPTHS:
        assert set(books) <= set(sent)
        return
    depth = PROVED[name]
    for symbol in SYMBOLS[name]:
        states = [(bids[:depth], asks[:depth]) for bids, asks in truth[symbol]]
        rows = [(bids[:depth], asks[:depth]) for of, _, _, bids, asks in books if of == symbol]
        assert len(rows) > 20
        assert not [row for row in rows if row not in states]
        assert set(rows) & set(states[-60:])


GAPS = {
    "binance": (r"pu (\d+) after u (\d+)", r"(\d+) trades? missing: (\d+) after (\d+)"),
    "bybit": (r"gap: u (\d+) after (\d+)", ""),
    "coinbase": ("", r"(\d+) trades? missing: (\d+) after (\d+)"),
    "kraken": (
        r"the book comes to the checksum (\d+), Kraken's is (\d+)",
        r"(\d+) trades? missing: (\d+) after (\d+)",
    ),
}
"""How a hole in the book and one in the trades is written down."""


@pytest.mark.parametrize("name", GAPS)
def test_a_lost_frame_is_written_down_with_both_numbers_and_the_book_is_whole_again(
    start, tmp_path, name, truth
):
    symbol, other = SYMBOLS[name]
    book, trade = GAPS[name]
    with simulated(name) as exchange:
        running = record(start, exchange, name, symbol, other)
        wait_for(lambda: len(exchange.sent) > 300, what=running.err)
        if book:
            exchange.lose(f"Depth {symbol}", 3)
        if trade:
            exchange.lose(f"Trades {symbol}")
        wait_for(lambda: len(exchange.lost) >= 3 * bool(book) + bool(trade), what=running.err)
        before = len(exchange.sent)
        wait_for(lambda: len(exchange.sent) > before + 500, what=running.err)
        with exchange.silence():
            wait_for(lambda: received_all(running, exchange), what=running.err)
            assert running.stop() == 0, running.err
        lost = [frame for frame in exchange.lost if b"depth" not in frame and b"book" not in frame]
        sent = said(name, [frames for _, frames in exchange.sent_to])
    gaps = [row[:4] for row in coverage(tmp_path / "data") if row[2] == "gap"]
    assert {row[0] for row in gaps} == {symbol}
    have = stored(tmp_path / "data")
    assert set(have.trades) == set(sent.trades)
    found = {channel: reason for _, channel, _, reason in gaps}
    if book:
        assert re.fullmatch(book, found["book"]), found
        check_books(name, have.books, sent.books, truth)
    if trade:
        missing = {row[2] for row in said(name, [lost]).trades}
        count, after, last = map(int, re.fullmatch(trade, found["trade"]).groups())
        assert missing == {str(number) for number in range(last + 1, after)}
        assert count == len(missing)
    assert set(found) == ({"book"} if book else set()) | ({"trade"} if trade else set())
    assert len(gaps) == len(found)
    assert exchange.connections == sockets(name)
