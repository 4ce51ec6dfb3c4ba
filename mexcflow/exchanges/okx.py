"""OKX v5, swaps, over `wss://ws.okx.com:8443/ws/v5/public` and `/business` (candles alone).

Source: https://www.okx.com/docs-v5/en/, and frames seen live in 2022, 2025 and 2026.

| channel there | rows |
|---|---|
| trades | a trade each: what one taker's order did at one price; `side` is the taker's, `sz` contracts |
| books5 | a whole book of five levels a side, quantities in contracts |
| tickers, mark-price, index-tickers, open-interest, funding-rate | each a part of our `ticker` |
| candle1m, ... | a candle; it bears no time but its beginning |
| books | 400 levels, a snapshot and deltas: understood, not asked for |

Oddities that this file knows of:

- Quantities of swaps are contracts, open interest (`oi`) too; base units = contracts x ctVal x ctMult. A
  contract of an inverse swap (BTC-USD-SWAP) is so many dollars, in base units a quotient without an end:
  the contract sizes have no entry for it, so `base_quantity` stays empty.
- A candle's `volCcy` is in base units; for spot symbols in the quote currency, and `vol` in base units.
- The index of BTC-USDT-SWAP is BTC-USDT, that of BTC-USD_UM-SWAP is BTC-USD.
- `fundingTime` is the next settlement, at which `fundingRate` is due: our next funding time.
  `nextFundingTime` is the one after. In 2022 such frames had no `ts`.
- Each arg is acknowledged, or refused (60018), on its own; only the refusal's text names it.
- Ping and pong are those words, no JSON. Notice 64008 comes a minute before the server goes away.
- `tradeId` names one of the fills that a trade sums up, so it jumps; a book's `seqId` rises by more than 1.
- The `checksum` of books was a CRC-32 in 2022, when there were no `seqId`s, and is 0 in 2026.
- Bars of 6 hours and more begin at midnight in Hong Kong, unless the channel's name ends in `utc`.
"""

import re
import zlib
from collections.abc import Callable
from itertools import zip_longest
from typing import Any, ClassVar

import orjson

from mexcflow.exchanges import okx_frames
from mexcflow.exchanges.book import Book
from mexcflow.exchanges.numbers import exact, exact_or_none, times
from mexcflow.exchanges.okx_frames import AnyFrame, Arg
from mexcflow.exchanges.times import us_of_ms
from mexcflow.exchanges.typed import Limits, Listing
from mexcflow.model import (
    BookUpdate,
    Candle,
    Instrument,
    Kind,
    Request,
    Ticker,
    Topic,
    Trade,
    TypedReading,
    Undecodable,
    Wanted,
)

_REST = "https://www.okx.com/api/v5/public/"
_WEBSOCKET = "wss://ws.okx.com:8443/ws/v5/"
_INTERVALS = {
    "1m": "1m", "3m": "3m", "5m": "5m", "15m": "15m", "30m": "30m", "1h": "1H", "2h": "2H", "4h": "4H",
    "6h": "6Hutc", "12h": "12Hutc", "1d": "1Dutc", "1w": "1Wutc", "1M": "1Mutc",
}  # fmt: skip
_CANDLES = {f"candle{bar}": interval for interval, bar in _INTERVALS.items()}
_INDEX = "index-tickers"
_SAYS = {
    "tickers": "last",
    "mark-price": "mark_px",
    _INDEX: "idx_px",
    "open-interest": "oi",
    "funding-rate": "funding_rate",
}
"""The channels of our `ticker`, and what each has to say."""
_CHANNELS = {"trade": ("trades",), "book": ("books5",), "ticker": tuple(_SAYS)}
_CLOSED = {"0": False, "1": True}
_ARGS = 300  # a request, which may have 64 KB
_CHECKED_LEVELS = 25
_UNKNOWN, _TOO_FREQUENT, _UPGRADE = "60018", "60014", "64008"
_NAMED_ARGS = re.compile(r"channel:([^,\s]+),instId:([^,\s]+)").findall


class Okx:
    """Several swaps of OKX over two sockets; quantities are contracts."""

    name: ClassVar[str] = "okx"
    channels: ClassVar[tuple[str, ...]] = ("trade", "book", "ticker", "candle")
    sockets: ClassVar[dict[str, str]] = {"public": _WEBSOCKET + "public", "business": _WEBSOCKET + "business"}
    # 480 requests an hour, of which we send one or two; 1,200 topics were accepted
    limits: ClassVar[Limits] = Limits(messages_per_s=3, topics=1200, connects_per_s=3)
    ping_url: ClassVar[str] = _REST + "time"
    instruments_url: ClassVar[str] = _REST + "instruments?instType=SWAP"
    heartbeat: ClassVar[bytes] = b"ping"
    silence_s: ClassVar[float] = 65.0  # a candle comes once a minute
    ack_timeout_s: ClassVar[float] = 10.0
    intervals: ClassVar[tuple[str, ...]] = tuple(_INTERVALS)
    book_depth: ClassVar[int] = 5
    whole_books: ClassVar[bool] = True
    book_levels: ClassVar[int] = 5
    consecutive_trades: ClassVar[bool] = False
    example: ClassVar[str] = "BTC-USDT-SWAP"

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._candle = f"candle{_INTERVALS[wanted.candle_interval]}"
        self._sizes = {s: "1" if _is_spot(s) else wanted.contract_sizes.get(s) for s in wanted.symbols}
        self._of_index: dict[str, list[str]] = {}
        for symbol in wanted.symbols:
            self._of_index.setdefault(_index_of(symbol), []).append(symbol)

    def topics(self) -> tuple[Topic, ...]:
        """Return a topic a symbol and channel there; two symbols with the same index share that one."""
        topics: dict[str, Topic] = {}
        for symbol in self._wanted.symbols:
            for channel in self._wanted.channels:
                socket = "business" if channel == "candle" else "public"
                for theirs in _CHANNELS.get(channel, (self._candle,)):
                    name = f"{theirs}:{_index_of(symbol) if theirs == _INDEX else symbol}"
                    topics.setdefault(name, Topic(socket, name, channel, symbol))
        return tuple(topics.values())

    def requests(self, topics: tuple[Topic, ...], first_id: int) -> list[Request]:
        """Return as few requests as may be: each arg has an answer of its own."""
        groups = [topics[at : at + _ARGS] for at in range(0, len(topics), _ARGS)]
        return [Request(id_, group, _subscribe(group, id_)) for id_, group in enumerate(groups, first_id)]

    def renew(self, topic: Topic, first_id: int) -> list[bytes]:
        """Return nothing: every frame of books5 is a snapshot."""
        return []

    def is_market_data(self, payload: bytes) -> bool:
        """Say whether there is data; answers have none."""
        return b'"data"' in payload

    def is_book_delta(self, payload: bytes) -> bool:
        """Say whether the channel books is named, books5 is not."""
        return b'"books"' in payload

    def unwrap(self, payload: bytes) -> bytes:
        """Return the message as it is: nothing is compressed."""
        return payload

    def read(self, payload: bytes) -> TypedReading:
        """Return what a message turned out to be; any exception means that it cannot be decoded."""
        # behind `{"arg":{"channel":"` stands the channel, unless the keys come in another order
        name = payload[19 : payload.find(b'"', 19)]
        read_data = _BY_NAME.get(name) if b'"data"' in payload else None
        if read_data is None:
            if payload == b"pong":
                return TypedReading(Kind.PONG)
            frame = okx_frames.read_any(payload)
            if frame.event or frame.arg is None:
                return _control(frame)
            read_data = _BY_CHANNEL.get(frame.arg.channel)
            if read_data is None:
                raise Undecodable(f"unknown channel {frame.arg.channel[:40]!r}")
        return read_data(self, payload)

    def check_book(self, book: Book | None, last: int | None, update: BookUpdate) -> str:
        """Return why an update does not follow the one before, or that the checksum is another."""
        if update.is_snapshot:
            if book is None and last is not None and (update.sequence or last) < last:
                return f"backwards: seqId {update.sequence} after {last}"
        elif update.previous is not None and update.previous != last:
            return f"gap: prevSeqId {update.previous} after {'no snapshot' if last is None else last}"
        if update.checksum and book is not None and (found := _checksum(book)) != update.checksum:
            return f"checksum {found} where it should be {update.checksum}"
        return ""

    @staticmethod
    def read_instruments(body: bytes) -> Listing:
        """Return all swaps."""
        answer = orjson.loads(body)
        if answer["code"] != "0":
            raise Undecodable(f"no list of symbols: {answer['code']} {answer['msg'][:200]}")
        return Listing([_instrument(row) for row in answer["data"] if row["ctVal"]])

    def _trades(self, payload: bytes) -> TypedReading:
        frame = okx_frames.read_trades(payload)
        symbol = self._symbol_of(frame.arg)
        size, rows = self._sizes[symbol], []
        for t in frame.data:
            if t.inst_id != symbol:
                raise Undecodable(f"a trade of {t.inst_id[:40]!r} in a frame of {symbol}")
            quantity = exact(t.sz)
            base = None if size is None else times(quantity, size)
            rows.append(Trade(symbol, us_of_ms(t.ts), t.trade_id, exact(t.px), quantity, base, t.side))
        return TypedReading(Kind.DATA if rows else Kind.SKIPPED, "trade", rows)

    def _books(self, payload: bytes) -> TypedReading:
        frame = okx_frames.read_books(payload)
        symbol, is_snapshot = self._symbol_of(frame.arg), frame.action != "update"
        if (frame.arg.channel == "books") is (frame.action is None):
            raise Undecodable(f"{frame.arg.channel} with the action {frame.action}")
        rows = []
        for book in frame.data:
            bids = [(level.price, level.quantity) for level in book.bids]
            asks = [(level.price, level.quantity) for level in book.asks]
            row = BookUpdate(symbol, us_of_ms(book.ts), is_snapshot, bids, asks, book.seq_id)
            row.previous = None if is_snapshot else book.prev_seq_id
            row.checksum = book.checksum or None
            rows.append(row)
        return TypedReading(Kind.DATA if rows else Kind.SKIPPED, "book", rows)

    def _parts(self, payload: bytes) -> TypedReading:
        frame = okx_frames.read_parts(payload)
        channel, named = frame.arg.channel, frame.arg.inst_id
        symbols = self._of_index[named] if channel == _INDEX else [self._symbol_of(frame.arg)]
        rows = []
        for part in frame.data:
            if part.inst_id != named or getattr(part, _SAYS[channel]) is None:
                raise Undecodable(f"{channel} of {named[:40]!r} without {_SAYS[channel]}, or of another")
            said = part.last, part.mark_px, part.idx_px, part.oi, part.funding_rate
            last, mark, index, interest, funding = map(exact_or_none, said)
            due_us = us_of_ms(part.funding_time) if part.funding_time else None
            at_us = us_of_ms(part.ts) if part.ts else 0
            if getattr(part, _SAYS[channel]):
                rows += [Ticker(s, at_us, last, mark, index, interest, funding, due_us) for s in symbols]
        return TypedReading(Kind.DATA if rows else Kind.SKIPPED, "ticker", rows)

    def _candles(self, payload: bytes) -> TypedReading:
        frame = okx_frames.read_candles(payload)
        # not only what is wanted: an earlier run may have left some of another interval
        symbol, interval, rows = self._symbol_of(frame.arg), _CANDLES[frame.arg.channel], []
        volume_at = 5 if _is_spot(symbol) else 6
        for values in frame.data:
            open_us = us_of_ms(values[0])
            prices = exact(values[1]), exact(values[2]), exact(values[3]), exact(values[4])
            row = Candle(symbol, 0, interval, open_us, *prices, exact(values[volume_at]))
            if len(values) > 7:
                row.quote_volume, row.closed = exact(values[7]), _CLOSED[values[8]]
            rows.append(row)
        return TypedReading(Kind.DATA if rows else Kind.SKIPPED, "candle", rows)

    def _symbol_of(self, arg: Arg) -> str:
        if arg.inst_id not in self._sizes:
            raise Undecodable(f"nobody asked for {arg.channel[:40]!r} of {arg.inst_id[:40]!r}")
        return arg.inst_id


_BY_CHANNEL: dict[str, Callable[[Okx, bytes], TypedReading]] = {
    "trades": Okx._trades,
    "books5": Okx._books,
    "books": Okx._books,
    **dict.fromkeys(_SAYS, Okx._parts),
    **dict.fromkeys(_CANDLES, Okx._candles),
}
_BY_NAME = {name.encode(): read_data for name, read_data in _BY_CHANNEL.items()}


def _control(frame: AnyFrame) -> TypedReading:
    if frame.event == "subscribe" and frame.arg is not None:
        return TypedReading(Kind.ACK, topics=(f"{frame.arg.channel}:{frame.arg.inst_id}",))
    if frame.event.endswith("error"):
        topics = tuple(f"{channel}:{name}" for channel, name in _NAMED_ARGS(frame.msg))
        fails_whole = frame.id.isdecimal() and not topics and frame.code != _TOO_FREQUENT
        request = int(frame.id) if fails_whole else None
        text, permanent = f"{frame.code} {frame.msg}", frame.code == _UNKNOWN
        return TypedReading(Kind.ERROR, text=text, permanent=permanent, topics=topics, request=request)
    if frame.event == "notice":
        return TypedReading(Kind.SKIPPED, text=frame.msg, restart=frame.code == _UPGRADE)
    if frame.event in ("unsubscribe", "channel-conn-count"):
        return TypedReading(Kind.SKIPPED)
    raise Undecodable(f"unknown event {frame.event[:40]!r}")


def _checksum(book: Book) -> int:
    """Return the CRC-32, signed, of the best levels, a bid and an ask by turns, with the digits as sent."""
    words: list[str] = []
    for bid, ask in zip_longest(book.bids.top(_CHECKED_LEVELS), book.asks.top(_CHECKED_LEVELS), fillvalue=()):
        words += (*bid, *ask)
    crc = zlib.crc32(":".join(words).encode())
    return crc - 2**32 if crc >= 2**31 else crc


def _subscribe(topics: tuple[Topic, ...], request: int) -> bytes:
    args = [dict(zip(("channel", "instId"), topic.name.split(":", 1), strict=True)) for topic in topics]
    return orjson.dumps({"op": "subscribe", "args": args, "id": str(request)})


def _is_spot(symbol: str) -> bool:
    return symbol.count("-") == 1


def _index_of(symbol: str) -> str:
    return "-".join(symbol.split("-")[:2]).partition("_")[0]


def _instrument(row: dict[str, Any]) -> Instrument:
    symbol, state = row["instId"], row["state"]
    base, quote = _index_of(symbol).split("-")
    return Instrument(
        symbol=symbol,
        base=base,
        quote=quote,
        kind="perpetual" if row["instType"] == "SWAP" else "future",
        contract_size=times(exact(row["ctVal"]), exact(row["ctMult"])),
        inverse=row["ctType"] == "inverse",
        tick_size=row["tickSz"],
        quantity_step=row["lotSz"],
        state="trading" if state == "live" else state,
    )
