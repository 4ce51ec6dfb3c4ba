"""Coinbase Exchange on localhost: subscribe at once, the whole state as acknowledgement, the maker's side.

What the real one does (PROTOCOLS 7), and so does this:

- who has not subscribed within 5 s is cut; no ping is needed, and `heartbeat` comes once a second a product;
- the acknowledgement lists all channels and products of the connection, whatever was asked for; level2_batch
  is called level2_50 there, as was recorded in August 2026;
- a request with anything wrong in it is ignored as a whole, with an error that names one culprit;
- `last_match`, the book and the last ticker come right behind the acknowledgement, as far as there is any;
- `match` has the maker's side, `ticker` the taker's; a ticker comes with each frame's last trade;
- the book is a snapshot, then changes without any number: a lost one shows nowhere.

The texts of errors that were not captured are ours: those of frames that are no subscription.
"""

from collections.abc import Iterable, Mapping
from typing import ClassVar

import orjson

from mexcflow.model import Kind
from mexcflow.simulator import coinbase_frames as wire
from mexcflow.simulator.contracts import KNOWN, Contract, finest
from mexcflow.simulator.exchange import Message, Reply, RestAnswer, Rules
from mexcflow.simulator.market import Depth, Event, Trade, Trades
from mexcflow.simulator.spelling import iso_us
from mexcflow.simulator.typed import Typed, TypedSession

CHANNELS = ("heartbeat", "matches", "ticker", "level2_batch")
_ACKNOWLEDGED_AS = {"level2_batch": "level2_50", "level2_50": "level2_50"}
_MEMBERS_ONLY = frozenset({"level2", "level3", "full"})
_LOCKED = (
    "level2, level3, and full channels now require authentication. "
    "https://docs.cloud.coinbase.com/exchange/docs/websocket-auth"
)

Pair = tuple[str, str]
"""A channel and a product."""


class Refused(ValueError):
    """A request that is ignored, with the reason."""


class CoinbaseSession(TypedSession):
    """One client; a topic is 'channel product'."""

    def __init__(self, exchange: "Coinbase") -> None:
        super().__init__()
        self._exchange = exchange
        self._shown: set[str] = set()  # topics whose beginning was sent: book, last match

    def beats(self, now_ms: int) -> list[bytes]:
        """Return the heartbeats of the products that were asked for and have been traded."""
        products = [topic.split()[1] for topic in self.topics if topic.startswith("heartbeat ")]
        last = self._exchange.last_trades
        return [wire.heartbeat(name, last[name][0].trade_id, now_ms) for name in products if name in last]

    def answer(self, request: bytes, now_ms: int) -> list[Reply]:
        """Take one request: it is done as a whole or not at all."""
        try:
            content = _content(request)
            pairs = self._pairs(content)
        except Refused as refused:
            return [Reply(Kind.ERROR, wire.error(str(refused)))]
        new = [pair for pair in pairs if " ".join(pair) not in self.topics]
        for channel, name in pairs:
            if content["type"] == "subscribe":
                self.subscribe(f"{channel} {name}")
            else:
                self.unsubscribe(f"{channel} {name}")
                self._shown.discard(f"{channel} {name}")
        done = Reply(Kind.ACK, wire.subscriptions(self._state()))
        if content["type"] == "unsubscribe":
            return [done]
        return [done, *(reply for pair in new for reply in self._known(*pair, now_ms))]

    def _pairs(self, content: dict[str, object]) -> list[Pair]:
        if content.get("type") not in {"subscribe", "unsubscribe"}:
            raise Refused("Type has to be either subscribe or unsubscribe")
        channels, products = content.get("channels"), _texts(content.get("product_ids"))
        if not isinstance(channels, list) or not channels:
            raise Refused("No channels provided")
        pairs: list[Pair] = []
        for channel in channels:
            name, own = (channel, []) if isinstance(channel, str) else _channel(channel)
            if name in _MEMBERS_ONLY:
                raise Refused(_LOCKED)
            if name not in CHANNELS and name not in _ACKNOWLEDGED_AS:
                raise Refused(f"{name} is not a valid channel")
            known = "level2_batch" if name in _ACKNOWLEDGED_AS else name
            pairs += [(known, product) for product in own or products or self._all(content, known)]
        for _, product in pairs:
            if product not in self._exchange.by_symbol:
                raise Refused(f"{product} is not a valid product")
        if not pairs:
            raise Refused(" is not a valid product")
        return pairs

    def _all(self, content: dict[str, object], channel: str) -> list[str]:
        """Return the products of a channel that is given up as a whole."""
        if content["type"] == "subscribe":
            return []
        return [topic.split()[1] for topic in self.topics if topic.split()[0] == channel]

    def _state(self) -> list[tuple[str, list[str]]]:
        products: dict[str, list[str]] = {}
        for topic in self.topics:
            channel, product = topic.split()
            products.setdefault(_ACKNOWLEDGED_AS.get(channel, channel), []).append(product)
        return list(products.items())

    def _known(self, channel: str, product: str, now_ms: int) -> list[Reply]:
        """Return what there is of a channel already."""
        frame = self._exchange.last(channel, product)
        if frame is None:
            return []
        self._shown.add(f"{channel} {product}")
        return [Reply(Kind.DATA, frame)]

    def variants(self, event: Event) -> tuple[str, ...]:
        """Return the channels that this client is sent of an event; 'first ...' what begins with more."""
        if isinstance(event, Trades):
            channels: tuple[str, ...] = ("matches", "ticker")
        elif isinstance(event, Depth):
            channels = ("level2_batch",)
        else:
            return ()
        wanted = []
        for channel in channels:
            topic = f"{channel} {event.contract.symbol}"
            if topic in self.topics:
                wanted.append(channel if topic in self._shown else f"first {channel}")
                self._shown.add(topic)
        return tuple(wanted)

    def garbage(self) -> tuple[Message, ...]:
        """Messages that cannot be decoded, naming the first product this client has subscribed to."""
        return wire.garbage(next(iter(self.topics), "matches BTC-USD").split()[1])


class Coinbase(Typed):
    """The exchange; quantities count 10**-8 base units."""

    rules: ClassVar[Rules] = Rules(paths=("/",), subscribe_within_s=5.0, beat_every_s=1.0, messages_per_s=100)
    levels: ClassVar[int] = 100

    def __init__(self, symbols: Iterable[str] = (), *, odd_numbers: bool = False) -> None:
        super().__init__(symbols, odd_numbers=odd_numbers)
        self.last_trades: dict[str, tuple[Trade, int]] = {}  # with the ms they were sent at

    @classmethod
    def known(cls) -> tuple[Contract, ...]:
        """Return the usual three against dollars, BTC in cents."""
        bitcoin, ether, sol = (finest(one._replace(symbol=cls.symbol_of(one), quote="USD")) for one in KNOWN)
        return bitcoin._replace(scale=2, first_price_ticks=bitcoin.first_price_ticks * 10), ether, sol

    @classmethod
    def symbol_of(cls, contract: Contract) -> str:
        """Return BTC-USD."""
        return f"{contract.base}-USD"

    def session(self, path: str, query: Mapping[str, str]) -> CoinbaseSession:
        """Return a new client; any path will do."""
        return CoinbaseSession(self)

    def take(self, event: Event, now_ms: int) -> None:
        """Keep the last trade, too."""
        super().take(event, now_ms)
        if isinstance(event, Trades):
            self.last_trades[event.contract.symbol] = (event.trades[-1], now_ms)

    def last(self, channel: str, product: str) -> bytes | None:
        """Return what a new subscriber of the channel is shown, None if there is nothing yet."""
        published = self.books.latest(product)
        if channel == "level2_batch":
            return None if published is None else wire.snapshot(published.depth)
        if channel == "heartbeat" or product not in self.last_trades:
            return None
        trade, at_ms = self.last_trades[product]
        if channel == "matches":
            return wire.match(self.by_symbol[product], trade, at_ms, kind="last_match")
        return self._ticker(product, trade, at_ms)

    def _ticker(self, product: str, trade: Trade, at_ms: int) -> bytes | None:
        published, day = self.books.latest(product), self.tickers.get(product)
        if published is None or day is None:
            return None
        return wire.ticker(trade, day, published.depth, at_ms)

    def frames(self, event: Event, variant: str, now_ms: int) -> list[bytes]:
        """Spell the event for a channel."""
        first, channel = variant.startswith("first "), variant.removeprefix("first ")
        symbol = event.contract.symbol
        if isinstance(event, Depth):
            if first or self.books.before(symbol) is None:
                return [wire.snapshot(event)]
            return [wire.l2update(event.contract, self.books.changes(symbol), now_ms)]
        if not isinstance(event, Trades):
            return []
        if channel == "ticker":
            frame = self._ticker(symbol, event.trades[-1], now_ms)
            return [] if frame is None else [frame]
        matches = [wire.match(event.contract, trade, now_ms) for trade in event.trades]
        return [_before(event, now_ms), *matches] if first else matches

    def rest(self, path: str, query: Mapping[str, str], now_ms: int) -> RestAnswer | None:
        """Answer with the time, the products, one of them or its book."""
        if path == "/time":
            epoch = f"{now_ms // 1000}.{now_ms % 1000:03d}"
            return RestAnswer(f'{{"iso":"{iso_us(now_ms)}","epoch":{epoch}}}'.encode())
        if path == "/products":
            return RestAnswer(orjson.dumps([wire.product(one) for one in self.contracts]))
        root, _, rest = path.partition("/products/")
        product, _, what = rest.partition("/")
        if root or product not in self.by_symbol or what not in {"", "book"}:
            return RestAnswer(b'{"message":"NotFound"}', 404) if rest else None
        if not what:
            return RestAnswer(orjson.dumps(wire.product(self.by_symbol[product])))
        published = self.books.latest(product)
        if published is None:
            return RestAnswer(b'{"message":"Book not available"}', 503)
        levels = None if query.get("level") == "2" else 1
        return RestAnswer(wire.rest_book(published.depth, levels, now_ms))


def _before(event: Trades, now_ms: int) -> bytes:
    """Return the last match before the first trades: made up, with the id before theirs."""
    first = event.trades[0]
    earlier = first._replace(trade_id=first.trade_id - 1, age_ms=first.age_ms + 700)
    return wire.match(event.contract, earlier, now_ms, kind="last_match")


def _content(request: bytes) -> dict[str, object]:
    try:
        content = orjson.loads(request)
    except orjson.JSONDecodeError as error:
        raise Refused("Malformed JSON") from error
    if not isinstance(content, dict):
        raise Refused("Malformed JSON")
    return content


def _channel(channel: object) -> tuple[str, list[str]]:
    """Return name and products of a channel that brings its own."""
    if not isinstance(channel, dict) or not isinstance(channel.get("name"), str):
        raise Refused("No channels provided")
    return channel["name"], _texts(channel.get("product_ids"))


def _texts(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
