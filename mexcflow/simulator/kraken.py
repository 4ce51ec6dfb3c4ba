"""Kraken's WebSocket v2 on localhost: an acknowledgement a symbol, bare numbers, a checksum for a sequence.

What the real one does (PROTOCOLS 8, captured in August and September 2026), and so does this:

- a `status` comes first; `heartbeat` in each second in which a client that subscribed got nothing else;
- errors leave the socket open: an unknown pair is named, also XBT/USD, a wrong depth names no pair, and what
  was subscribed is `Already subscribed`: for a new snapshot, unsubscribe before;
- a book is a snapshot, then changes within the depth, in no order: what is pushed out of sight is not
  removed, what comes into sight is sent again. The checksum is of the digits as they are sent;
- trades begin with the last 50 if a snapshot was asked for (books, tickers and candles: unless it was not);
- candles have no flag when they are closed, a minute without trades has none; they begin with the last few.

REST still says XBT and XDG, unless it is asked with assetVersion=1. Texts of errors that were not captured
are ours.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from itertools import count
from typing import ClassVar

from mexcflow.model import Kind
from mexcflow.simulator import kraken_frames as wire
from mexcflow.simulator.contracts import KNOWN, Contract, finest
from mexcflow.simulator.exchange import Message, Reply, RestAnswer, Rules
from mexcflow.simulator.kraken_requests import (
    INTERVALS,
    OPTION_OF,
    Wish,
    content_of,
    options_of,
    symbols_of,
    wrong_with,
)
from mexcflow.simulator.market import Candle, Depth, Event, Trade, Trades
from mexcflow.simulator.spelling import iso_us
from mexcflow.simulator.typed import Typed, TypedSession

RECENT_TRADES = 50
RECENT_CANDLES = 12


class KrakenSession(TypedSession):
    """One client."""

    def __init__(self, exchange: "Kraken", connection_id: int) -> None:
        super().__init__()
        self._exchange = exchange
        self._connection_id = connection_id
        self._wishes: dict[str, Wish] = {}  # by topic
        self._due: set[str] = set()  # topics whose snapshot has not been sent
        self._idle = True

    def greeting(self, now_ms: int) -> list[bytes]:
        """Return the status."""
        return [wire.status(self._connection_id)]

    def beats(self, now_ms: int) -> list[bytes]:
        """Return a heartbeat if nothing was sent since the last time."""
        idle, self._idle = self._idle, True
        return [wire.HEARTBEAT] if idle and self.topics else []

    def answer(self, request: bytes, now_ms: int) -> list[Reply]:
        """Take one request: every symbol has an answer of its own."""
        content = content_of(request)
        method, request_id = content.get("method"), content.get("req_id")
        if method == "ping":
            return [Reply(Kind.PONG, wire.pong(request_id, now_ms))]
        params = content.get("params")
        if method not in {"subscribe", "unsubscribe"} or not isinstance(params, dict):
            return [_refused("Malformed request", str(method or ""), None, request_id, now_ms)]
        error = wrong_with(params)
        if error:
            return [_refused(error, method, None, request_id, now_ms)]
        replies: list[Reply] = []
        for symbol in symbols_of(params):
            replies += self._one(method, symbol, params, request_id, now_ms)
        return replies

    def _one(
        self, method: str, symbol: str, params: dict[str, object], request_id: object, now_ms: int
    ) -> list[Reply]:
        if symbol not in self._exchange.by_symbol:
            return [_refused(f"Currency pair not supported {symbol}", method, symbol, request_id, now_ms)]
        channel = str(params["channel"])
        wish = Wish(channel, symbol, str(options_of(params).get(OPTION_OF.get(channel, ""), "")))
        there = wish.topic in self.topics
        if there == (method == "subscribe"):
            error = "Already subscribed" if there else "Subscription Not Found"
            return [_refused(error, method, symbol, request_id, now_ms)]
        result = {"channel": channel, **options_of(params), "symbol": symbol}
        if method == "unsubscribe":
            self.unsubscribe(wish.topic)
            self._due.discard(wish.topic)
            del self._wishes[wish.topic]
            result.pop("snapshot")
            return [Reply(Kind.ACK, wire.accepted(method, result, request_id, now_ms))]
        if channel == "ohlc":
            self._exchange.candles.want(INTERVALS[int(wish.option)])
            result["warnings"] = ["timestamp is deprecated, use interval_begin"]
        self.subscribe(wish.topic)
        self._wishes[wish.topic] = wish
        done = Reply(Kind.ACK, wire.accepted(method, result, request_id, now_ms))
        return [done, *self._snapshot(wish, now_ms)] if result["snapshot"] else [done]

    def _snapshot(self, wish: Wish, now_ms: int) -> list[Reply]:
        """Return the snapshot, if there is anything; else it is sent when there is."""
        frame = self._exchange.snapshot(wish.channel, wish.symbol, wish.option, now_ms)
        if frame is None:
            self._due.add(wish.topic)
            return []
        self._idle = False
        return [Reply(Kind.DATA, frame)]

    def variants(self, event: Event) -> tuple[str, ...]:
        """Return 'channel option' for each subscription that this is for, with 'first ' for its snapshot."""
        symbol = event.contract.symbol
        wanted = []
        for wish in self._wishes.values():
            if wish.symbol == symbol and wish.concerns(event):
                first = "first " if wish.topic in self._due else ""
                self._due.discard(wish.topic)
                wanted.append(f"{first}{wish.channel} {wish.option}")
        self._idle = self._idle and not wanted
        return tuple(wanted)

    def garbage(self) -> tuple[Message, ...]:
        """Messages that cannot be decoded, naming the first symbol this client has subscribed to."""
        return wire.garbage(next(iter(self.topics), "trade BTC/USD").split()[1])


class Kraken(Typed):
    """The exchange; quantities count 10**-8 base units."""

    rules: ClassVar[Rules] = Rules(paths=("/v2",), beat_every_s=1.0)
    levels: ClassVar[int] = 100

    def __init__(self, symbols: Iterable[str] = (), *, odd_numbers: bool = False) -> None:
        super().__init__(symbols, odd_numbers=odd_numbers)
        self._connections = count(16_174_536_464_690_282_295, 7_919)
        self._trades: dict[str, deque[tuple[Trade, int]]] = {}
        self._candles: dict[tuple[str, str], deque[Candle]] = {}
        self._repeats = False  # whether the last candle taken says nothing new

    @classmethod
    def known(cls) -> tuple[Contract, ...]:
        """Return the usual three against dollars."""
        return tuple(finest(one._replace(symbol=cls.symbol_of(one), quote="USD")) for one in KNOWN)

    @classmethod
    def symbol_of(cls, contract: Contract) -> str:
        """Return BTC/USD."""
        return f"{contract.base}/USD"

    def session(self, path: str, query: Mapping[str, str]) -> KrakenSession | None:
        """Return a new client of v2."""
        return KrakenSession(self, next(self._connections)) if path == "/v2" else None

    def take(self, event: Event, now_ms: int) -> None:
        """Keep the last trades and candles, too."""
        super().take(event, now_ms)
        symbol = event.contract.symbol
        if isinstance(event, Trades):
            kept = self._trades.get(symbol) or self._trades.setdefault(symbol, _history(event, now_ms))
            kept.extend((trade, now_ms - trade.age_ms) for trade in event.trades)
        elif isinstance(event, Candle):
            key = (symbol, event.interval)
            candles = self._candles.get(key) or self._candles.setdefault(key, _earlier(event))
            open_one = event._replace(closed=False)
            self._repeats = candles[-1] == open_one
            if candles[-1].open_ms == event.open_ms:
                candles.pop()
            candles.append(open_one)

    def snapshot(self, channel: str, symbol: str, option: str, now_ms: int) -> bytes | None:
        """Return the snapshot of a channel; None while there is nothing to show."""
        published, day = self.books.latest(symbol), self.tickers.get(symbol)
        if channel == "trade":
            kept = self._trades.get(symbol)
            return None if kept is None else wire.trades(self.by_symbol[symbol], kept, "snapshot")
        if channel == "ohlc":
            candles = self._candles.get((symbol, INTERVALS[int(option)]))
            return None if candles is None else wire.ohlc(tuple(candles), now_ms, "snapshot")
        if published is None:
            return None
        if channel == "book":
            return wire.book(published.depth, None, int(option), now_ms)
        return None if day is None else wire.ticker(day, published.depth, now_ms, "snapshot")

    def frames(self, event: Event, variant: str, now_ms: int) -> list[bytes]:
        """Spell the event for a channel."""
        symbol = event.contract.symbol
        channel, option = variant.removeprefix("first ").split(" ", 1)
        if variant.startswith("first "):
            frame = self.snapshot(channel, symbol, option, now_ms)
            return [] if frame is None else [frame]
        if channel == "ticker":
            return self._ticker(symbol, event, now_ms)
        if isinstance(event, Trades):
            rows = [(trade, now_ms - trade.age_ms) for trade in event.trades]
            return [wire.trades(event.contract, rows, "update")]
        if isinstance(event, Depth):
            changes = self.books.changes(symbol, int(option))
            return [wire.book(event, changes, int(option), now_ms)] if any(changes) else []
        return (
            [wire.ohlc([event], now_ms, "update")] if isinstance(event, Candle) and not self._repeats else []
        )

    def _ticker(self, symbol: str, event: Event, now_ms: int) -> list[bytes]:
        published, day = self.books.latest(symbol), self.tickers.get(symbol)
        if published is None or day is None:
            return []
        if isinstance(event, Trades):
            day = day._replace(last_ticks=event.trades[-1].price_ticks)
        return [wire.ticker(day, published.depth, now_ms, "update")]

    def rest(self, path: str, query: Mapping[str, str], now_ms: int) -> RestAnswer | None:
        """Answer with the time, the pairs or a book."""
        if path == "/0/public/Time":
            return RestAnswer(wire.rest({"unixtime": now_ms // 1000, "rfc1123": ""}))
        if path == "/0/public/SystemStatus":
            return RestAnswer(wire.rest({"status": "online", "timestamp": f"{iso_us(now_ms)[:19]}Z"}))
        if path not in {"/0/public/AssetPairs", "/0/public/Depth"}:
            return None
        legacy = query.get("assetVersion") != "1"
        pairs = [self._find(name) for name in query.get("pair", "").split(",") if name]
        if any(pair is None for pair in pairs) or (path.endswith("Depth") and not pairs):
            return RestAnswer(wire.rest(None, "EQuery:Unknown asset pair"))
        wanted = [pair for pair in pairs if pair is not None]
        if path.endswith("Depth"):
            return RestAnswer(self._rest_depth(wanted[0], query, now_ms))
        lines = (wire.asset_pair(one, legacy=legacy) for one in wanted or self.contracts)
        return RestAnswer(wire.rest(dict(lines)))

    def _find(self, name: str) -> Contract | None:
        for contract in self.contracts:
            key, line = wire.asset_pair(contract, legacy=True)
            if name in {key, contract.symbol, line["altname"], line["wsname"]}:
                return contract
        return None

    def _rest_depth(self, contract: Contract, query: Mapping[str, str], now_ms: int) -> bytes:
        published, size = self.books.latest(contract.symbol), query.get("count", "100")
        if published is None:
            return wire.rest(None, "EService:Unavailable")
        book = wire.rest_depth(published.depth, int(size) if size.isdecimal() else 100, now_ms)
        return wire.rest({wire.legacy_key(contract.symbol): book})


def _history(event: Trades, now_ms: int) -> deque[tuple[Trade, int]]:
    """Return the trades before the first ones: made up, one every 0.7 s, with the ids before theirs."""
    first = event.trades[0]
    earlier = (
        (first._replace(trade_id=first.trade_id - back, aggressor_buys=back % 3 > 0), now_ms - back * 700)
        for back in range(RECENT_TRADES, 0, -1)
    )
    return deque(earlier, maxlen=RECENT_TRADES)


def _earlier(event: Candle) -> deque[Candle]:
    """Return the candles before the first one: made up, with one interval missing that had no trade."""
    length_ms, ticks = event.end_ms - event.open_ms, event.open_ticks
    flat = event._replace(high_ticks=ticks, low_ticks=ticks, close_ticks=ticks, closed=False)
    earlier = (
        flat._replace(open_ms=event.open_ms - back * length_ms, end_ms=event.end_ms - back * length_ms)
        for back in (4, 3, 1)
    )
    return deque(earlier, maxlen=RECENT_CANDLES)


def _refused(error: str, method: str, symbol: str | None, request_id: object, now_ms: int) -> Reply:
    return Reply(Kind.ERROR, wire.refused(error, method, symbol, request_id, now_ms))
