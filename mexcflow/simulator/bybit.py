"""Bybit's linear contracts on localhost: topics, answers, snapshots and deltas.

What the real one does (PROTOCOLS 5), and so does this:

- an acknowledgement names no topic, only the request's `req_id`; an error names the topic in its text;
- one unknown topic fails its whole request; so does one that is subscribed already, which goes on all the
  same. Topics are spelled exactly, symbols in capitals;
- a pong says `"op":"ping"`;
- a book begins with a snapshot, right behind the acknowledgement, and goes on with deltas whose `u` rises by
  one; whoever comes later gets the state that the next delta follows. Level 1 is snapshots only;
- a ticker begins with a snapshot, and goes on with the fields that changed.

Known topics: orderbook.1/50/200/1000 (all of the market's 50 levels), publicTrade, tickers, kline.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import Any, ClassVar

import orjson

from mexcflow.model import Kind
from mexcflow.simulator import bybit_frames
from mexcflow.simulator.bybit_frames import BybitFrames, answer
from mexcflow.simulator.bybit_rest import BybitRest
from mexcflow.simulator.contracts import KNOWN_IN_BASE, Contract
from mexcflow.simulator.exchange import Message, Reply, RestAnswer, Rules
from mexcflow.simulator.market import Candle, Depth, Event, Ticker, Trades
from mexcflow.simulator.typed import Typed, TypedSession

DEPTHS = ("1", "50", "200", "1000")
INTERVALS = {
    "1": "1m", "3": "3m", "5": "5m", "15": "15m", "30": "30m", "60": "1h", "120": "2h", "240": "4h",
    "360": "6h", "720": "12h", "D": "1d",
}  # fmt: skip
"""Bybit's words for the intervals that are made here."""

_SNAPSHOT, _DELTA = "snapshot ", "delta "
_EVENTS: dict[str, type[Event]] = {
    "orderbook": Depth,
    "publicTrade": Trades,
    "tickers": Ticker,
    "kline": Candle,
}


_KINDS: dict[str, Collection[str]] = {"orderbook": DEPTHS, "kline": INTERVALS}
"""What stands between a channel and its symbol."""


class BybitSession(TypedSession):
    """One client's topics. `waiting` are those that still need a snapshot: nothing was published yet."""

    def __init__(self, exchange: "Bybit", connection: str) -> None:
        super().__init__()
        self._exchange = exchange
        self._connection = connection
        self._waiting: set[str] = set()
        self._live: dict[tuple[type[Event], str], list[str]] = {}

    def answer(self, request: bytes, now_ms: int) -> list[Reply]:
        """Take one request; snapshots stand behind the acknowledgement."""
        try:
            content = orjson.loads(request)
        except orjson.JSONDecodeError:
            content = None
        if not isinstance(content, dict):
            found = request[:1].decode(errors="replace")
            return [self._error("", "", f"Failed to decode incoming data:expect {{ or n, but found {found}")]
        op, args, id_ = content.get("op"), content.get("args"), content.get("req_id")
        id_ = id_ if isinstance(id_, str) else ""
        topics = [topic for topic in args if isinstance(topic, str)] if isinstance(args, list) else []
        if op == "ping":
            return [Reply(Kind.PONG, answer("ping", id_, self._connection, text="pong"))]
        if op == "subscribe":
            return self._subscribe(topics, id_, now_ms)
        if op == "unsubscribe":
            for topic in topics:
                self.unsubscribe(topic)
            return [Reply(Kind.ACK, answer("unsubscribe", id_, self._connection))]
        return [self._error(op if isinstance(op, str) else "", id_, "error:invalid op")]

    def _subscribe(self, topics: list[str], id_: str, now_ms: int) -> list[Reply]:
        for topic in topics:
            if self._exchange.source(topic) is None:
                return [self._error("subscribe", id_, f"error:handler not found,topic:{topic}")]
        for topic in topics:
            if topic in self.topics:
                return [self._error("subscribe", id_, f"error:already subscribed,topic:{topic}")]
        replies = [Reply(Kind.ACK, answer("subscribe", id_, self._connection))]
        for topic in dict.fromkeys(topics):
            self.subscribe(topic)
            snapshot = self._exchange.snapshot(topic, now_ms)
            replies += [Reply(Kind.DATA, snapshot)] if snapshot else []
        return replies

    def _error(self, op: str, id_: str, text: str) -> Reply:
        return Reply(Kind.ERROR, answer(op, id_, self._connection, error=text))

    def subscribe(self, topic: str) -> None:
        """Take a topic that exists."""
        super().subscribe(topic)
        if (key := self._exchange.source(topic)) is not None:
            self._live.setdefault(key, []).append(topic)
            if key[0] is Candle:
                self._exchange.candles.want(INTERVALS[topic.split(".")[1]])
            if self._exchange.is_to_wait(topic):
                self._waiting.add(topic)

    def unsubscribe(self, topic: str) -> None:
        """Forget a topic."""
        if topic in self.topics and (key := self._exchange.source(topic)) is not None:
            self._live[key].remove(topic)
            self._waiting.discard(topic)
        super().unsubscribe(topic)

    def variants(self, event: Event) -> tuple[str, ...]:
        """Return the topics that show the event, each with the kind of frame this client needs."""
        found = []
        for topic in self._live.get((type(event), event.contract.symbol), ()):
            if isinstance(event, Candle) and INTERVALS[topic.split(".")[1]] != event.interval:
                continue
            kind = _SNAPSHOT if topic in self._waiting or topic.startswith("orderbook.1.") else _DELTA
            self._waiting.discard(topic)
            found.append(kind + topic)
        return tuple(found)

    def garbage(self) -> tuple[Message, ...]:
        """Messages that cannot be decoded, naming the first symbol this client has subscribed to."""
        topic = next(iter(self.topics), "publicTrade.BTCUSDT")
        return bybit_frames.garbage(topic.rpartition(".")[2])


class Bybit(Typed):
    """Linear contracts, in base units."""

    rules: ClassVar[Rules] = Rules(paths=("/v5/public/linear",), heartbeat_s=600)
    levels: ClassVar[int] = 50
    trade_lag_ms: ClassVar[int] = 1

    def __init__(self, symbols: Sequence[str] = (), *, odd_numbers: bool = False) -> None:
        super().__init__(symbols, odd_numbers=odd_numbers)
        self._wire = BybitFrames(self.spell)
        self._rest = BybitRest(self)
        self._connections = count(1)
        self._fields: dict[str, dict[str, str]] = {}
        self._changed: dict[str, dict[str, str]] = {}

    @classmethod
    def known(cls) -> tuple[Contract, ...]:
        """Return the usual three: BTCUSDT, ETHUSDT, SOLUSDT."""
        return tuple(one._replace(symbol=f"{one.base}{one.quote}") for one in KNOWN_IN_BASE)

    def session(self, path: str, query: Mapping[str, str]) -> BybitSession | None:
        """Return a new client of the linear socket."""
        if path not in self.rules.paths:
            return None
        return BybitSession(self, f"simulated-{next(self._connections):05}")

    def source(self, topic: str) -> tuple[type[Event], str] | None:
        """Return which events a topic shows: type and symbol; None for one that does not exist."""
        channel, _, rest = topic.partition(".")
        if channel in _KINDS:
            kind, _, rest = rest.partition(".")
            if kind not in _KINDS[channel]:
                return None
        return (_EVENTS[channel], rest) if channel in _EVENTS and rest in self.by_symbol else None

    def is_to_wait(self, topic: str) -> bool:
        """Say whether a snapshot belongs to a topic, but there is nothing yet to show."""
        channel, symbol = topic.partition(".")[0], topic.rpartition(".")[2]
        if channel == "orderbook":
            return self.books.latest(symbol) is None
        return channel == "tickers" and symbol not in self._fields

    def take(self, event: Event, now_ms: int) -> None:
        """Keep what a snapshot shows, and which fields of a ticker changed."""
        super().take(event, now_ms)
        if isinstance(event, Ticker):
            symbol = event.contract.symbol
            fields = self._wire.ticker_fields(event, self.books.latest(symbol), now_ms)
            had = self._fields.get(symbol, {})
            self._changed[symbol] = {key: text for key, text in fields.items() if had.get(key) != text}
            self._fields[symbol] = fields

    def snapshot(self, topic: str, now_ms: int) -> bytes:
        """Return the state of a book or a ticker as it was last published; b"" if there is none."""
        channel, *middle, symbol = topic.split(".")
        book = self.books.latest(symbol)
        if channel == "orderbook" and book is not None:
            return self._wire.snapshot(book, int(middle[0]), now_ms)
        if channel == "tickers" and symbol in self._fields:
            return bybit_frames.ticker("snapshot", self._fields[symbol], self._sequence(symbol), now_ms)
        return b""

    def frames(self, event: Event, variant: str, now_ms: int) -> list[bytes]:
        """Spell the event for the wire; `variant` is the kind of frame and the topic."""
        kind, _, topic = variant.partition(" ")
        if isinstance(event, Trades):
            return [self._wire.trades(event, now_ms - self.trade_lag_ms, now_ms)]
        if isinstance(event, Candle):
            return [self._wire.candle(event, topic.split(".")[1], now_ms)]
        if variant.startswith(_SNAPSHOT):
            return [self.snapshot(topic, now_ms)]
        symbol = event.contract.symbol
        if isinstance(event, Ticker):
            changed = {"symbol": symbol, **self._changed[symbol]}
            sequence = self._sequence(symbol)
            return [bybit_frames.ticker(kind, changed, sequence, now_ms)] if len(changed) > 1 else []
        book = self.books.latest(symbol)
        if book is None:
            return []
        return [self._wire.delta(book, self.books.changes(symbol), int(topic.split(".")[1]), now_ms)]

    def _sequence(self, symbol: str) -> int:
        book = self.books.latest(symbol)
        return 0 if book is None else book.depth.version

    def rest(self, path: str, query: Mapping[str, str], now_ms: int) -> RestAnswer | None:
        """Answer time, instruments-info and orderbook."""
        content: Any = self._rest.answer(path, query, now_ms)
        return None if content is None else RestAnswer(orjson.dumps(content))
