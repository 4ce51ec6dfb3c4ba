"""The frames captured from the real Binance, where they are present beside the checkout.

They are not part of the project. The expected rows come from a second decoder, written here with nothing
but `json`, and for some frames they are spelled out.
"""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from mexcflow.exchanges.binance import Binance
from mexcflow.exchanges.binance_spot import BinanceSpot
from mexcflow.exchanges.book import Book
from mexcflow.model import BookUpdate, Candle, Kind, Ticker, Trade, Undecodable, Wanted

FRAMES = Path(__file__).resolve().parents[2] / "shared/data/frames"
CHANNELS = ("trade", "book", "ticker", "candle")
OF = {"binance_futures": Binance, "binance_spot": BinanceSpot}
READ = ("aggTrade", "depth", "depth20", "kline", "markPrice", "ticker")
SET_ASIDE = ("bookTicker", "forceOrder", "trade")

pytestmark = pytest.mark.skipif(
    not FRAMES.is_dir(), reason="the captured frames are not beside this checkout"
)


def lines(*patterns: str) -> list[str]:
    return [
        line
        for pattern in patterns
        for path in sorted(FRAMES.glob(pattern))
        for line in path.read_text().splitlines()
    ]


def exchange_of(market: str, line: str):
    """The exchange that wants the symbol of this frame alone."""
    frame = json.loads(line)
    data = frame.get("data", frame)
    symbol = data["s"] if "s" in data else frame["stream"].partition("@")[0].upper()
    return OF[market](Wanted(symbols=(symbol,), channels=CHANNELS, candle_interval="1m"))


def levels(side: list) -> list[tuple[str, str]]:
    return [(price, quantity) for price, quantity in side]


def expected(line: str) -> tuple[str, Trade | BookUpdate | Ticker | Candle]:
    frame = json.loads(line)
    data = frame.get("data", frame)
    event, symbol = data.get("e", ""), data.get("s", frame.get("stream", "").partition("@")[0].upper())
    if event == "aggTrade":
        side = {True: "sell", False: "buy"}[data["m"]]
        quantity = data["q"]
        row = Trade(symbol, data["T"] * 1000, str(data["a"]), data["p"], quantity, quantity, side)
        return "trade", row
    if event == "depthUpdate":
        top = "@depth@" not in frame["stream"]
        time_us = data.get("T", data["E"]) * 1000
        update = BookUpdate(symbol, time_us, top, levels(data["b"]), levels(data["a"]), data["u"], data["U"])
        update.previous = data.get("pu")
        return "book", update
    if event == "":
        sides = levels(data["bids"]), levels(data["asks"])
        return "book", BookUpdate(symbol, 0, True, *sides, data["lastUpdateId"])
    if event == "kline":
        k = data["k"]
        words = [k[key] for key in ("o", "h", "l", "c", "v", "q")]
        return "candle", Candle(symbol, data["E"] * 1000, k["i"], k["t"] * 1000, *words, k["n"], k["x"])
    if event == "24hrTicker":
        return "ticker", Ticker(symbol, data["E"] * 1000, last=data["c"])
    row = Ticker(symbol, data["E"] * 1000, mark=data["p"], index=data["i"], next_funding_us=data["T"] * 1000)
    row.funding_rate = data["r"]
    return "ticker", row


@pytest.mark.parametrize("market", OF)
@pytest.mark.parametrize("kind", [*READ, "mixed"])
def test_every_captured_frame_gives_exactly_its_rows(market, kind):
    found = [line for line in lines(f"{market}.{kind}.*") if "@arr" not in line and "@bookTicker" not in line]
    for line in found:
        exchange = exchange_of(market, line)
        reading = exchange.read(line.encode())
        channel, row = expected(line)
        assert (reading.kind, reading.channel, reading.rows) == (Kind.DATA, channel, (row,))
        assert exchange.is_market_data(line.encode())
    assert found or (market == "binance_spot" and kind in ("markPrice", "mixed"))


@pytest.mark.parametrize("market", OF)
def test_captured_frames_of_other_streams_are_refused(market):
    for kind in SET_ASIDE:
        for line in lines(f"{market}.{kind}.*"):
            exchange = OF[market](Wanted(symbols=("BTCUSDT", "牛来USDT"), channels=CHANNELS))
            with pytest.raises(Undecodable, match=r"^unknown (stream|event) "):
                exchange.read(line.encode())


def test_some_captured_frames_spelled_out():
    rows = []
    for market, kind in (
        ("binance_futures", "aggTrade.jsonl"),
        ("binance_futures", "markPrice.jsonl"),
        ("binance_futures", "kline.jsonl"),
        ("binance_spot", "aggTrade.jsonl"),
        ("binance_spot", "depth20.2021_2022.trimmed.jsonl"),
    ):
        for line in lines(f"{market}.{kind}"):
            rows += exchange_of(market, line).read(line.encode()).rows
    trade = Trade("BTCUSDT", 1790526538883000, "3466782974", "84551.10", "0.030", "0.030", "buy")
    assert rows[0] == trade
    spot = Trade(
        "BTCUSDT", 1781416576889000, "3988316038", "64348.95000000", "0.00009000", "0.00009000", "sell"
    )
    assert spot in rows
    mark = Ticker("BTCUSDT", 1790526539000000, None, "84551.10762319", "84590.87304348", None, "0.00000801")
    mark.next_funding_us = 1790553600000000
    assert mark in rows
    closed = [row for row in rows if isinstance(row, Candle) and row.closed]
    prices = ("84550.20", "84558.90", "84536.70", "84551.00", "104.497", "8835238.50740")
    assert closed == [
        Candle("BTCUSDT", 1790526540255000, "1m", 1790526480000000, *prices, trades=1490, closed=True)
    ]
    bids = [("1782.00000000", "6.48300000"), ("1781.95000000", "0.03000000")]
    asks = [("1782.01000000", "15.46080000"), ("1782.02000000", "0.00780000")]
    assert rows[-1] == BookUpdate("ETHUSDT", 0, True, bids, asks, 17044571457)


def test_captured_trade_ids_rise_by_one():
    for pattern, pairs in (
        ("binance_futures.aggTrade.2021.jsonl", 60),
        ("binance_futures.aggTrade.jsonl", 10),
    ):
        last: dict[str, int] = {}
        seen = 0
        for line in lines(pattern):
            if not line.startswith('{"stream"'):  # of another day
                continue
            (row,) = exchange_of("binance_futures", line).read(line.encode()).rows
            if row.symbol in last:
                assert int(row.id) == last[row.symbol] + 1
                seen += 1
            last[row.symbol] = int(row.id)
        assert seen >= pairs


def sides(book: Book) -> tuple[list, list]:
    return book.bids.top(10_000), book.asks.top(10_000)


class Plain:
    """A book in two dictionaries."""

    def __init__(self, body: dict) -> None:
        self.sides = [{Decimal(p): (p, q) for p, q in body[side]} for side in ("bids", "asks")]

    def take(self, data: dict) -> None:
        for kept, changes in zip(self.sides, (data["b"], data["a"]), strict=True):
            for price, quantity in changes:
                kept.pop(Decimal(price), None)
                if Decimal(quantity):
                    kept[Decimal(price)] = (price, quantity)

    def sorted(self) -> tuple[list, list]:
        bids, asks = self.sides
        return [bids[key] for key in sorted(bids, reverse=True)], [asks[key] for key in sorted(asks)]


@pytest.mark.parametrize(
    ("market", "symbols", "applied"),
    [
        ("binance_futures", ("SUSHIUSDT", "AKROUSDT", "KEEPUSDT"), (193, 143, 92)),
        ("binance_spot", ("NKNUSDT", "BLZETH", "LRCBTC"), (111, 9, 7)),
    ],
)
def test_captured_changes_rebuild_each_book_level_by_level(market, symbols, applied):
    changes = lines(f"{market}.depth.2021.jsonl")
    counts = []
    for symbol, body in zip(symbols, lines(f"{market}.rest_depth.2021.jsonl"), strict=True):
        exchange = OF[market](Wanted(symbols=(symbol,), channels=CHANNELS))
        snapshot = exchange.read_snapshot(body.encode(), symbol)
        book, plain, last = Book(exchange.book_levels), Plain(json.loads(body)), snapshot.sequence
        book.apply(snapshot)
        assert exchange.check_book(book, None, snapshot) == ""
        assert sides(book) == plain.sorted()
        counts.append(0)
        for line in changes:
            if f'"s":"{symbol}"' not in line:
                continue
            (update,) = exchange.read(line.encode()).rows
            if update.sequence <= snapshot.sequence:  # in the snapshot already
                continue
            book.apply(update)
            plain.take(json.loads(line)["data"])
            assert exchange.check_book(book, last, update) == ""
            assert sides(book) == plain.sorted()
            last = update.sequence
            counts[-1] += 1
    assert tuple(counts) == applied


@pytest.mark.parametrize(
    ("market", "symbol"), [("binance_futures", "SUSHIUSDT"), ("binance_spot", "NKNUSDT")]
)
def test_a_captured_sequence_with_a_frame_left_out_shows_the_hole(market, symbol):
    exchange = OF[market](Wanted(symbols=(symbol,), channels=CHANNELS))
    updates = [
        exchange.read(line.encode()).rows[0]
        for line in lines(f"{market}.depth.2021.jsonl")
        if f'"s":"{symbol}"' in line
    ]
    for before, _, after in zip(updates, updates[1:], updates[2:], strict=False):
        why = exchange.check_book(None, before.sequence, after)
        number = after.previous if after.previous is not None else after.first
        assert str(number) in why
        assert why.endswith(f"after u {before.sequence}")


def test_the_captured_answer_to_a_poll_is_open_interest():
    (line,) = lines("binance_futures.rest_openInterest.2021_2022.jsonl")
    said = json.loads(line)
    exchange = Binance(Wanted(symbols=(said["symbol"],), channels=CHANNELS))
    reading = exchange.read(line.encode())
    row = Ticker(said["symbol"], said["time"] * 1000, open_interest=said["openInterest"])
    assert (reading.kind, reading.channel, reading.polled) == (Kind.DATA, "ticker", True)
    assert list(reading.rows) == [row]
