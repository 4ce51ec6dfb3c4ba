"""Decoding for typed tables: each frame is rows or a dead letter, and no INSERT is refused for what was sent.

Frames of every exchange get a nasty value in one of their fields, and go through the real engine.
"""

import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

import msgspec
import pytest

from mexcflow.exchanges import TYPED
from mexcflow.model import BookUpdate, Candle, Frame, Kind, Ticker, Trade, TypedReading
from mexcflow.pipeline.assemble import Assembler
from mexcflow.pipeline.typed_decode import decode_typed
from mexcflow.store import open_store
from mexcflow.store.market import BOOKS, CANDLES, DEAD_LETTERS, TICKERS, TRADES, ensure_market
from mexcflow.store.tokens import once
from tests.assembling import exchange_of, simulated

SEED = int(os.environ.get("NASTY_SEED", "0")) or int.from_bytes(os.urandom(3), "big")
ROUNDS = 15
AT_US = 1_790_000_000_123_456
TABLES = (TRADES, CANDLES, BOOKS, TICKERS, DEAD_LETTERS)
KEYS = {TRADES: (0, 1, 2, 4), CANDLES: (0, 1, 2, 3)}
"""Which fields of those tables make a row the same: the one received last stays."""
WORDS = (
    "1_0", "+1", " 1", "1 ", "１２", "٣", "NaN", "nan", "Infinity", "-inf", "1e5", "1E-7", "1e-30", "1e400",
    "", ".", "0x10", "1.", ".5", "00012", "-0", "-5", "1,2", "]", "[]", "\\N", "\t", "\n", "\x00", "1\t2",
    "null", "'", "99999999999999999999", "100000000000000000000", "0.000000000000000001",
    "0.0000000000000000001",
    "25329.000000000000000000000000000000", "12345678901234567890.123456789012345678", "buy", "a" * 5000,
    "0001-01-01T00:00:00.000000Z", "2299-12-31T23:59:59.999999Z", "2001-09-09T01:46:40Z",
)  # fmt: skip
RAW = (
    "-1", "0", "1.5", "1e5", "1e-30", "1E400", "-0", "00012", "NaN", "true", "null", "[]", "{}",
    "9999999999999", "10000000000000", "1000000000000", "9223372036854775807", "9223372036854775808",
    "18446744073709551616",
    "1" + "0" * 30, '"\\ud800"', '"\\u0000"', "0.1234567890123456789", "100000000000000000000.5",
)  # fmt: skip


def leaves(value: object, path: tuple = ()) -> Iterator[tuple]:
    """Yield the path of each value that is neither list nor object."""
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    inner = list(children)
    if not inner:
        yield path
    for key, child in inner:
        yield from leaves(child, (*path, key))


def mutant(frame: bytes, rng: random.Random) -> bytes:
    """Return the frame with one of its values replaced; numbers keep their digits."""
    parsed = json.loads(frame, parse_float=Digits, parse_int=Digits)
    path = rng.choice(list(leaves(parsed)))
    said = rng.choice(RAW) if rng.random() < 0.5 else json.dumps(rng.choice(WORDS), ensure_ascii=False)
    if not path:
        return said.encode()
    parent = parsed
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = Digits(said)
    return spelled(parsed).encode("utf-8", "replace")


class Digits(str):
    """What goes into JSON as it is."""


def spelled(value: object) -> str:
    if isinstance(value, Digits):
        return value
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{spelled(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(spelled, value)) + "]"
    return json.dumps(value)


class Market:
    """A database with the typed tables."""

    def __init__(self, store) -> None:
        self.store = store
        self._inserts = 0
        ensure_market(store)

    def insert(self, blocks) -> dict:
        """Insert blocks into empty tables; returns how many rows each table has then."""
        self._inserts += 1
        for table in TABLES:
            self.store.command(f"TRUNCATE TABLE {table.name}")
        for table, block in blocks:
            self.store.insert_block(table.name, table.columns, block, once(f"{self._inserts}"))
        counts = {table: self.store.query(f"SELECT count() FROM {table.name} FINAL") for table in KEYS}
        counts |= {table: self.store.query(f"SELECT count() FROM {table.name}") for table in TABLES[2:]}
        return {table: count for table, [(count,)] in counts.items() if count}


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    with open_store(str(tmp_path_factory.mktemp("market") / "data")) as store:
        yield Market(store)


@pytest.mark.parametrize("book_interval_us", [0, 1_000_000], ids=["every book", "sampled"])
@pytest.mark.parametrize("name", TYPED)
def test_whatever_value_a_frame_has_every_row_of_it_is_taken(name, book_interval_us, market):
    rng = random.Random(f"{SEED} {name}")
    symbols, tape = simulated(name)
    originals = [event.payload for event in tape[:90] if isinstance(event, Frame)]
    frames = [
        Frame((AT_US + n * 10_000) * 1000, mutant(one, rng) if rng.random() < 0.3 else one)
        for n, one in enumerate(originals * ROUNDS)
    ]
    exchange = exchange_of(name, symbols)
    assembler = Assembler(exchange, book_interval_us=book_interval_us)
    batch = decode_typed(exchange, frames, assembler)
    assert batch.tally.dead_letters == batch.rows.of(DEAD_LETTERS) > len(frames) // 20, f"NASTY_SEED={SEED}"
    said = {
        table: len({tuple(line.split("\t")[n] for n in KEYS[table]) for line in batch.rows.lines(table)})
        if table in KEYS
        else batch.rows.of(table)
        for table in TABLES
        if batch.rows.of(table)
    }
    assert said.keys() >= {TRADES, BOOKS, TICKERS}
    assert market.insert(batch.rows) == said, f"NASTY_SEED={SEED}"
    json.loads(msgspec.json.encode(assembler.checkpoint()))


@pytest.mark.parametrize(
    ("name", "key"), [("kraken", "trade_id"), ("kraken", "trades"), ("coinbase", "trade_id")]
)
def test_a_count_that_no_column_holds_is_refused(name, key):
    symbols, tape = simulated(name)
    exchange = exchange_of(name, symbols)
    field = re.compile(rf'("{key}": ?)[0-9]+'.encode())
    frames = [one.payload for one in tape if isinstance(one, Frame) and field.search(one.payload)]
    frame = next(frame for frame in frames if key != "trades" or b'"ohlc"' in frame)
    exchange.read(field.sub(rb"\g<1>%d" % (2**63 - 1), frame))
    with pytest.raises(msgspec.ValidationError):
        exchange.read(field.sub(rb"\g<1>%d" % 2**64, frame))


@pytest.mark.parametrize("us", [0, 1, -1, 10**15 - 1, 10**16 - 1, 10**16, 2**62])
def test_whatever_a_clock_says_a_row_is_taken(us, market):
    """Times that an exchange's file lets through are real ones; a clock of ours may say anything."""
    assembler = Assembler(exchange_of("okx", ("A",)))
    rows = {
        "book": BookUpdate("A", us, True, [("1", "1")], []),
        "ticker": Ticker("A", us, "1", next_funding_us=us),
        "candle": Candle("A", us, "1m", us, "1", "1", "1", "1", "1"),
        "trade": Trade("A", AT_US, "1", "1", "1", "1", "buy"),
    }
    assembler.tick(us)
    for channel, row in rows.items():
        assembler.take(TypedReading(Kind.DATA, channel, (row,)), us * 1000)
    assert market.insert(assembler.taken()[0]) == dict.fromkeys((TRADES, CANDLES, BOOKS, TICKERS), 1)


def test_the_numbers_in_the_table_are_those_that_were_sent(market):
    """Each trade's price and quantity against the text of its row."""
    exchange = exchange_of("okx", ("A-USDT-SWAP",))
    assembler = Assembler(exchange)
    numbers = [
        "0.000000000000000001",
        "99999999999999999999.999999999999999999",
        "00012",
        "84000.10",
        "0",
        "-5",
    ]
    rows = [Trade("A-USDT-SWAP", AT_US, f"exact {n}", n, n, None if n == "0" else n, "buy") for n in numbers]
    assembler.take(TypedReading(Kind.DATA, "trade", rows), AT_US * 1000)
    market.insert(assembler.taken()[0])
    stored = market.store.query(
        "SELECT toString(price), toString(quantity), toString(base_quantity), toString(side) "
        "FROM market_data.trades WHERE trade_id LIKE 'exact %'"
    )
    found = Counter((Decimal(p), Decimal(q), b and Decimal(b), side) for p, q, b, side in stored)
    assert found == Counter(
        (Decimal(n), Decimal(n), None if n == "0" else Decimal(n), "buy") for n in numbers
    )


@pytest.mark.parametrize(
    ("name", "frame", "about"),
    [
        ("bybit", '{"topic":"orderbook.50.BTCUSDT","data":{"b":[[1]]}}', ("BTCUSDT", "book")),
        (
            "okx",
            '{"arg":{"channel":"candle1m","instId":"BTC-USDT-SWAP"},"data":[[1]]}',
            ("BTC-USDT-SWAP", "candle"),
        ),
        ("kraken", '{"channel":"trade","data":[{"symbol":"BTC/USD"}]}', ("BTC/USD", "trade")),
        ("kraken", '{"channel":"trade","data":[{"symbol":"BTC/USD"},{"symbol":"ETH/USD"}]}', ("", "trade")),
        ("binance", '{"stream":"btcusdt@aggTrade","data":{}}', ("BTCUSDT", "trade")),
        ("coinbase", '{"type":"l2update","product_id":"BTC-USD"}', ("BTC-USD", "book")),
        ("coinbase", '{"type":"match","product_id":"BTC-USD"}', ("BTC-USD", "")),
        ("coinbase", "<html>", ("", "")),
    ],
)
def test_a_dead_letter_says_what_it_is_about_as_far_as_it_names_it(name, frame, about):
    symbols = {
        "okx": ("BTC-USDT-SWAP", "ETH-USDT-SWAP"),
        "kraken": ("BTC/USD", "ETH/USD"),
        "coinbase": ("BTC-USD", "ETH-USD"),
    }.get(name, ("BTCUSDT", "ETHUSDT"))
    exchange = exchange_of(name, symbols)
    batch = decode_typed(exchange, [Frame(AT_US * 1000, frame.encode())], Assembler(exchange))
    (line,) = batch.rows.lines(DEAD_LETTERS)
    assert tuple(line.split("\t")[1:3]) == about
