"""Binance's USD-M futures and spot market on localhost: streams, answers, silences.

What the real ones do (PROTOCOLS 2 and 3), and so does this:

- everything that is asked for is acknowledged: an unknown symbol, a misspelt stream or one of another
  socket are so, and silent;
- futures have two sockets: /public delivers books, /market all the rest; the old path without either still
  acknowledges everything, and delivers the books alone;
- `/stream` names the stream of each frame, `/ws` does not; streams may stand in the URL;
- the server pings, and who answers none for long is cut; so is who sends too many messages a second;
- a connection that ends of age is told so by a serverShutdown.

Known streams: aggTrade, depth5/10/20 and depth with any speed (all come as the market moves), bookTicker,
markPrice, ticker, kline. Others are silent. An answer to what is no request has the shape {"error": ...}.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson

from mexcflow.model import Kind
from mexcflow.simulator import binance_frames, binance_rest
from mexcflow.simulator.binance_frames import Data, FuturesFrames, SpotFrames, combined, raw
from mexcflow.simulator.candles import INTERVALS_S, Candles
from mexcflow.simulator.contracts import KNOWN_IN_BASE, Contract
from mexcflow.simulator.exchange import Message, Reply, RestAnswer, Rules
from mexcflow.simulator.market import Candle, Depth, Event, Ticker, Trades
from mexcflow.simulator.typed import Typed, TypedSession

Delivers = Mapping[str, type[Event]]
"""Kinds of streams, and the event that each comes from."""
PUBLIC: Delivers = dict.fromkeys(("depth", "depth5", "depth10", "depth20", "bookTicker"), Depth)
"""What /public delivers."""
MARKET: Delivers = {"aggTrade": Trades, "markPrice": Ticker, "ticker": Ticker, "kline": Candle}
"""What /market delivers."""
SPOT: Delivers = {kind: event for kind, event in {**PUBLIC, **MARKET}.items() if kind != "markPrice"}

_RAW = "raw "
"""Marks the form of an event that is sent without the name of its stream."""
_METHODS = "`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"


class BinanceSession(TypedSession):
    """One client's streams. `delivers` are the kinds of streams that its socket has."""

    def __init__(
        self,
        symbols: Mapping[str, str],
        delivers: Delivers,
        candles: Candles,
        intervals: frozenset[str],
        *,
        is_combined: bool,
    ) -> None:
        super().__init__()
        self._symbols = symbols  # by their names in small letters
        self._delivers = delivers
        self._candles = candles
        self._intervals = intervals
        self._is_combined = is_combined
        self._live: dict[tuple[type[Event], str, str], list[str]] = {}

    def subscribe(self, topic: str) -> None:
        """Take a stream, known or not."""
        is_new = topic not in self.topics
        super().subscribe(topic)
        if is_new and (key := self._source(topic)) is not None:
            if key[2]:
                self._candles.want(key[2])
            self._live.setdefault(key, []).append(topic)

    def unsubscribe(self, topic: str) -> None:
        """Forget a stream."""
        if topic in self.topics and (key := self._source(topic)) is not None:
            self._live[key].remove(topic)
        super().unsubscribe(topic)

    def _source(self, stream: str) -> tuple[type[Event], str, str] | None:
        """Return which events a stream shows: type, symbol and interval; None for one that is silent."""
        name, _, kind = stream.partition("@")
        kind, _, interval = kind.partition("@")[0].partition("_")
        event, symbol = self._delivers.get(kind), self._symbols.get(name)
        if event is None or symbol is None or (event is Candle) != (interval in self._intervals):
            return None
        return event, symbol, interval

    def variants(self, event: Event) -> tuple[str, ...]:
        """Return the names of the streams that show the event."""
        interval = event.interval if isinstance(event, Candle) else ""
        streams = self._live.get((type(event), event.contract.symbol, interval), ())
        return tuple(streams) if self._is_combined else tuple(_RAW + stream for stream in streams)

    def farewell(self, now_ms: int) -> list[bytes]:
        """Return the serverShutdown."""
        event = binance_frames.shutdown(now_ms)
        return [combined("!serverShutdown", event) if self._is_combined else raw(event)]

    def answer(self, request: bytes, now_ms: int) -> list[Reply]:
        """Take one request; every one is answered."""
        try:
            content = orjson.loads(request)
        except orjson.JSONDecodeError:
            return [_error(3, "Invalid JSON: expected value at line 1 column 1")]
        if not isinstance(content, dict) or "method" not in content:
            return [_error(2, f"Invalid request: missing field `method` at line 1 column {len(request)}")]
        id_, params = content.get("id"), content.get("params", [])
        if isinstance(id_, bool) or not isinstance(id_, int | str):
            return [_error(2, "Invalid request: request ID must be an unsigned integer")]
        return [self._do(content["method"], params if isinstance(params, list) else [], id_)]

    def _do(self, method: object, params: list[Any], id_: int | str) -> Reply:
        streams = [stream for stream in params if isinstance(stream, str)]
        result: object = None
        if method == "SUBSCRIBE":
            for stream in streams:
                self.subscribe(stream)
        elif method == "UNSUBSCRIBE":
            for stream in streams:
                self.unsubscribe(stream)
        elif method == "LIST_SUBSCRIPTIONS":
            result = list(self.topics)
        elif method == "GET_PROPERTY" and params == ["combined"]:
            result = self._is_combined
        elif method == "SET_PROPERTY" and params in (["combined", True], ["combined", False]):
            self._is_combined = params[1]
        elif method in ("GET_PROPERTY", "SET_PROPERTY"):
            return _error(0, "Unknown property", id_)
        else:
            text = f"unknown variant `{method}`, expected one of {_METHODS} at line 1 column 28"
            return _error(2, f"Invalid request: {text}", id_)
        return Reply(Kind.ACK, orjson.dumps({"result": result, "id": id_}))

    def garbage(self) -> tuple[Message, ...]:
        """Messages that cannot be decoded, naming the first symbol this client has subscribed to."""
        names = (stream.partition("@")[0] for stream in self.topics)
        known = (self._symbols[name] for name in names if name in self._symbols)
        return binance_frames.garbage(next(known, "BTCUSDT"))


class Binance(Typed):
    """USD-M futures."""

    rules: ClassVar[Rules] = Rules(
        paths=("/public/stream", "/market/stream"),
        server_ping_s=180,
        heartbeat_s=180 + 600,  # a pong may take ten minutes
        messages_per_s=10,
    )
    trade_lag_ms: ClassVar[int] = 150
    """So long aggTrade waits to aggregate."""
    roots: ClassVar[Mapping[str, Delivers]] = {"/public": PUBLIC, "/market": MARKET, "": PUBLIC}
    """What comes before /stream and /ws, and which streams are delivered there."""
    intervals: ClassVar[frozenset[str]] = frozenset(INTERVALS_S) - {"1s"}
    frames_of: ClassVar[type[FuturesFrames]] = FuturesFrames
    rest_of: ClassVar[type[binance_rest.FuturesRest]] = binance_rest.FuturesRest

    def __init__(self, symbols: Sequence[str] = (), *, odd_numbers: bool = False) -> None:
        super().__init__(symbols, odd_numbers=odd_numbers)
        self._wire = self.frames_of(self.spell)
        self._rest = self.rest_of(self)
        self._names = {symbol.lower(): symbol for symbol in self.by_symbol}

    @classmethod
    def known(cls) -> tuple[Contract, ...]:
        """Return the usual three: BTCUSDT, ETHUSDT, SOLUSDT."""
        return tuple(one._replace(symbol=f"{one.base}{one.quote}") for one in KNOWN_IN_BASE)

    def session(self, path: str, query: Mapping[str, str]) -> BinanceSession | None:
        """Return a new client of /stream or /ws behind one of the roots; streams may stand in the URL."""
        for root, delivers in self.roots.items():
            rest = path.removeprefix(root)
            if not path.startswith(root) or rest.split("/")[1:2] not in (["stream"], ["ws"]):
                continue
            is_combined = rest.startswith("/stream")
            session = BinanceSession(
                self._names, delivers, self.candles, self.intervals, is_combined=is_combined
            )
            streams = query.get("streams", "").split("/") if is_combined else rest.split("/")[2:]
            for stream in filter(None, streams):
                session.subscribe(stream)
            return session
        return None

    def frames(self, event: Event, variant: str, now_ms: int) -> list[bytes]:
        """Spell the event for the wire; `variant` is the stream."""
        stream = variant.removeprefix(_RAW)
        events = self._data(event, stream, now_ms)
        if variant.startswith(_RAW):
            return [raw(data) for data in events]
        return [combined(stream, data) for data in events]

    def _data(self, event: Event, stream: str, now_ms: int) -> Sequence[Data | bytes]:
        wire, kind = self._wire, stream.split("@")[1]
        if isinstance(event, Trades):
            at_ms = now_ms - self.trade_lag_ms
            return [wire.trade(event.contract, trade, now_ms, at_ms) for trade in event.trades]
        if isinstance(event, Candle):
            return [wire.candle(event, now_ms)]
        if isinstance(event, Ticker):
            return [wire.mark(event, now_ms) if kind == "markPrice" else wire.day(event, now_ms)]
        symbol = event.contract.symbol
        book, before = self.books.latest(symbol), self.books.before(symbol)
        if book is None:
            return []
        if kind == "bookTicker":
            return [wire.best(book, now_ms)]
        if kind == "depth":
            return [wire.changes(book, before, self.books.changes(symbol), now_ms)]
        return [wire.top(book, before, int(kind.removeprefix("depth")), now_ms)]

    def rest(self, path: str, query: Mapping[str, str], now_ms: int) -> RestAnswer | None:
        """Answer ping, time, exchangeInfo, depth and, for futures, openInterest."""
        return self._rest.answer(path, query, now_ms)


class BinanceSpot(Binance):
    """The spot market: one socket for everything."""

    rules: ClassVar[Rules] = Rules(
        paths=("/stream",),
        server_ping_s=20,
        heartbeat_s=20 + 60,  # a pong may take a minute
        messages_per_s=5,
    )
    trade_lag_ms: ClassVar[int] = 5
    roots: ClassVar[Mapping[str, Delivers]] = {"": SPOT}
    intervals: ClassVar[frozenset[str]] = frozenset(INTERVALS_S)
    frames_of: ClassVar[type[FuturesFrames]] = SpotFrames
    rest_of: ClassVar[type[binance_rest.FuturesRest]] = binance_rest.SpotRest


def _error(code: int, text: str, id_: int | str | None = None) -> Reply:
    error: Data = {"error": {"code": code, "msg": text}}
    return Reply(Kind.ERROR, orjson.dumps(error if id_ is None else error | {"id": id_}))
