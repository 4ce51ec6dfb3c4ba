"""OKX v5 on localhost, perpetual swaps: two sockets, an acknowledgement an argument, a text as ping.

What the real one does (PROTOCOLS 6, measured in August and September 2026), and so does this:

- candles are on /ws/v5/business, everything else on /ws/v5/public; the wrong socket, an unknown channel and
  an unknown instrument are the same error, 60018, of which only the text names channel and instrument;
- who is sent nothing and sends nothing for 30 s is cut; the text `ping` is answered by the text `pong`;
- `books` is a snapshot, then changes, each with the sequence number that it follows; its checksum is 0;
- trades are aggregated by price and side, so that ids jump;
- what is already known is sent right behind the acknowledgement, but trades.

The index is named without -SWAP. Requests for what this file does not know are 60012, with the request in
the text.
"""

from collections.abc import Iterable, Mapping
from itertools import count, groupby
from typing import ClassVar
from zlib import crc32

import orjson

from mexcflow.model import Kind
from mexcflow.simulator import okx_frames as wire
from mexcflow.simulator.candles import INTERVALS_S
from mexcflow.simulator.contracts import KNOWN, Contract
from mexcflow.simulator.exchange import Message, Reply, RestAnswer, Rules
from mexcflow.simulator.market import Candle, Depth, Event, Trades
from mexcflow.simulator.typed import Typed, TypedSession

PUBLIC, BUSINESS = "/ws/v5/public", "/ws/v5/business"
_TICKERS = ("tickers", "mark-price", "open-interest", "funding-rate")
INDEX = "index-tickers"


def _bar(interval: str) -> str:
    """Return the channel of an interval; bars of 6 h and more begin at Hong Kong's hours without utc."""
    number, unit = interval[:-1], interval[-1]
    if unit == "m":
        return f"candle{interval}"
    return f"candle{number}{unit.upper()}{'utc' if unit == 'd' or int(number) >= 6 else ''}"


CANDLES = {_bar(interval): interval for interval in INTERVALS_S}
"""Their channels, and our word for the interval."""
_BOOKS = {"books": 400, "books5": 5}


class OkxSession(TypedSession):
    """One client of one socket; a topic is 'channel instId'."""

    def __init__(self, exchange: "Okx", path: str, conn_id: str) -> None:
        super().__init__()
        self._exchange = exchange
        self._path = path
        self._conn_id = conn_id
        self._shown: set[str] = set()  # symbols whose book was sent whole

    def farewell(self, now_ms: int) -> list[bytes]:
        """Return the notice of an upgrade, 64008; the real one comes a minute ahead."""
        return [wire.notice(self._conn_id)]

    def answer(self, request: bytes, now_ms: int) -> list[Reply]:
        """Take one request: every argument has an answer of its own."""
        if request == b"ping":
            return [Reply(Kind.PONG, b"pong")]
        content = _content(request)
        op, args = content.get("op"), content.get("args")
        if op not in {"subscribe", "unsubscribe"} or not isinstance(args, list):
            text = f"Invalid request: {request.decode(errors='replace')}"
            return [Reply(Kind.ERROR, wire.error("60012", text, self._conn_id))]
        replies: list[Reply] = []
        for arg in args:
            replies += self._one(str(op), _arg(arg), content.get("id"), now_ms)
        return replies

    def _one(self, op: str, arg: wire.Arg, request_id: object, now_ms: int) -> list[Reply]:
        channel, symbol = arg.get("channel", ""), arg.get("instId", "")
        if not self._exchange.has(self._path, channel, symbol):
            text = (
                f"Subscribe failed, wrong URL or channel:{channel},instId:{symbol} doesn't exist. "
                "Please use the correct URL, channel and parameters referring to API document."
            )
            return [Reply(Kind.ERROR, wire.error("60018", text, self._conn_id))]
        topic = f"{channel} {symbol}"
        done = Reply(Kind.ACK, wire.done(op, arg, self._conn_id, request_id))
        if op == "unsubscribe":
            self.unsubscribe(topic)
            self._forget(channel, symbol)
            return [done]
        again = topic in self.topics
        self.subscribe(topic)
        return [done] if again else [done, *self._known(channel, symbol, now_ms)]

    def _forget(self, channel: str, symbol: str) -> None:
        if channel == "books":
            self._shown.discard(symbol)

    def _known(self, channel: str, symbol: str, now_ms: int) -> list[Reply]:
        """Return what there is of a channel already."""
        event = self._exchange.last(channel, symbol)
        if event is None:
            return []
        if channel == "books":
            self._shown.add(symbol)
        form = "snapshot" if channel == "books" else channel
        return [Reply(Kind.DATA, frame) for frame in self._exchange.frames(event, form, now_ms)]

    def variants(self, event: Event) -> tuple[str, ...]:
        """Return the channels that this client is sent of an event; 'snapshot' for the first of a book."""
        symbol = event.contract.symbol
        wanted = tuple(name for name in _channels(event) if f"{name} {_inst(name, symbol)}" in self.topics)
        if "books" in wanted and symbol not in self._shown:
            self._shown.add(symbol)
            return tuple("snapshot" if name == "books" else name for name in wanted)
        return wanted

    def garbage(self) -> tuple[Message, ...]:
        """Messages that cannot be decoded, naming the first symbol this client has subscribed to."""
        topic = next(iter(self.topics), "trades BTC-USDT-SWAP")
        return wire.garbage(topic.split()[1])


class Okx(Typed):
    """The exchange. A contract of the generated market is a lot, 0.01 of the exchange's contracts."""

    rules: ClassVar[Rules] = Rules(paths=(PUBLIC, BUSINESS), heartbeat_s=30, traffic_counts=True)
    levels: ClassVar[int] = _BOOKS["books"]

    def __init__(self, symbols: Iterable[str] = (), *, odd_numbers: bool = False) -> None:
        super().__init__(symbols, odd_numbers=odd_numbers)
        self._connections = count(1)
        self._indices = {wire.index_of(symbol) for symbol in self.by_symbol}

    @classmethod
    def known(cls) -> tuple[Contract, ...]:
        """Return the usual three: contracts of 0.01 BTC, 0.1 ETH and 1 SOL."""
        bitcoin, ether, sol = (contract._replace(symbol=cls.symbol_of(contract)) for contract in KNOWN)
        return bitcoin, _finer(ether), _finer(sol)

    @classmethod
    def symbol_of(cls, contract: Contract) -> str:
        """Return BTC-USDT-SWAP."""
        return f"{contract.base}-{contract.quote}-SWAP"

    def session(self, path: str, query: Mapping[str, str]) -> OkxSession | None:
        """Return a new client of one of the two sockets."""
        if path not in self.rules.paths:
            return None
        return OkxSession(self, path, f"{crc32(b'%d' % next(self._connections)):08x}")

    def has(self, path: str, channel: str, symbol: str) -> bool:
        """Whether this socket carries the channel, and the channel this instrument."""
        if path == BUSINESS:
            return channel in CANDLES and symbol in self.by_symbol
        if channel == INDEX:
            return symbol in self._indices
        return (channel in _TICKERS or channel in _BOOKS or channel == "trades") and symbol in self.by_symbol

    def last(self, channel: str, symbol: str) -> Event | None:
        """Return the event that a new subscriber of the channel is shown, None if there is none yet."""
        if channel in _BOOKS:
            published = self.books.latest(symbol)
            return None if published is None else published.depth
        if channel in CANDLES:
            self.candles.want(CANDLES[channel])
            return self.candles.open_one(symbol, CANDLES[channel])
        if channel == "trades":
            return None
        return self.tickers.get(f"{symbol}-SWAP" if channel == INDEX else symbol)

    def frames(self, event: Event, variant: str, now_ms: int) -> list[bytes]:
        """Spell the event for a channel."""
        if isinstance(event, Trades):
            groups = groupby(event.trades, key=lambda trade: (trade.price_ticks, trade.aggressor_buys))
            return [wire.trades(event.contract, tuple(group), now_ms) for _, group in groups]
        if isinstance(event, Depth):
            return [self._book(event, variant, now_ms)]
        if isinstance(event, Candle):
            return [wire.candle(variant, event)]
        return [_TICKER_FRAMES[variant](event, now_ms)]

    def _book(self, event: Depth, variant: str, now_ms: int) -> bytes:
        if variant == "books5":
            return wire.books5(event, now_ms)
        symbol = event.contract.symbol
        before = self.books.before(symbol)
        if variant == "snapshot" or before is None:
            return wire.books(event, None, now_ms)
        return wire.books(event, self.books.changes(symbol), now_ms, before.depth.version)

    def rest(self, path: str, query: Mapping[str, str], now_ms: int) -> RestAnswer | None:
        """Answer with the time, the instruments or a book."""
        if path == "/api/v5/public/time":
            return RestAnswer(wire.answer([{"ts": str(now_ms)}]))
        if path == "/api/v5/public/instruments":
            return RestAnswer(self._instruments(query))
        if path == "/api/v5/market/books":
            return RestAnswer(self._rest_book(query, now_ms))
        return None

    def _instruments(self, query: Mapping[str, str]) -> bytes:
        kind, symbol = query.get("instType", ""), query.get("instId", "")
        if kind not in {"SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION"}:
            return wire.answer([], "51000", "Parameter instType error")
        if symbol and (kind != "SWAP" or symbol not in self.by_symbol):
            return wire.answer([], "51001", "Instrument ID does not exist")
        swaps = self.contracts if kind == "SWAP" else ()
        return wire.answer([wire.instrument(one) for one in swaps if symbol in {"", one.symbol}])

    def _rest_book(self, query: Mapping[str, str], now_ms: int) -> bytes:
        symbol = query.get("instId", "")
        if symbol not in self.by_symbol:
            return wire.answer([], "51001", "Instrument ID, Instrument ID code, or Spread ID doesn't exist.")
        published = self.books.latest(symbol)
        if published is None:
            return wire.answer([])
        size = query.get("sz", "1")
        return wire.rest_book(published.depth, int(size) if size.isdecimal() else 1, now_ms)


_TICKER_FRAMES = {
    "tickers": wire.ticker,
    "mark-price": wire.mark_price,
    INDEX: wire.index_ticker,
    "open-interest": wire.open_interest,
    "funding-rate": wire.funding_rate,
}


def _finer(contract: Contract) -> Contract:
    """Return a contract of a tenth of the size, with ten times as many traded."""
    return contract._replace(
        contract_size=contract.contract_size / 10,
        level_contracts=contract.level_contracts * 10,
        trade_contracts=contract.trade_contracts * 10,
        open_interest=contract.open_interest * 10,
    )


def _channels(event: Event) -> tuple[str, ...]:
    if isinstance(event, Trades):
        return ("trades",)
    if isinstance(event, Depth):
        return tuple(_BOOKS)
    if isinstance(event, Candle):
        return tuple(name for name, interval in CANDLES.items() if interval == event.interval)
    return tuple(_TICKER_FRAMES)


def _inst(channel: str, symbol: str) -> str:
    return wire.index_of(symbol) if channel == INDEX else symbol


def _content(request: bytes) -> dict[str, object]:
    """Return a request, {} if it is none."""
    try:
        content = orjson.loads(request)
    except orjson.JSONDecodeError:
        return {}
    return content if isinstance(content, dict) else {}


def _arg(arg: object) -> wire.Arg:
    """Return the texts of an argument, as they are repeated in its acknowledgement."""
    if not isinstance(arg, dict):
        return {}
    return {str(key): value for key, value in arg.items() if isinstance(value, str)}
