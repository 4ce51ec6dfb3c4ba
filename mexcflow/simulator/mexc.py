"""MEXC futures on localhost: its requests, acknowledgements, errors and silences.

What the real one does (PROTOCOLS 1.2 and 1.3, measured in September 2026), and so does this:

- an acknowledgement carries no symbol; only the text of an error names the contract;
- an unknown method gets no answer at all, and neither does a frame that is no JSON;
- a list instead of one symbol subscribes the first and says nothing about the rest;
- a second subscription is acknowledged again and does not double the data; for depth.full the last
  limit wins;
- only the JSON ping is a heartbeat.

Known channels: ticker, deal, depth.full. Others (kline, depth, funding.rate, ...) are unknown methods here.
"""

from collections.abc import Iterable, Mapping
from typing import ClassVar

import orjson

from mexcflow.model import Kind
from mexcflow.simulator import mexc_frames, mexc_rest
from mexcflow.simulator.book import LEVELS
from mexcflow.simulator.contracts import contracts
from mexcflow.simulator.exchange import Message, Reply, RestAnswer, Rules
from mexcflow.simulator.market import Candle, Depth, Event, Ticker, Trades
from mexcflow.simulator.mexc_frames import MexcFrames, control
from mexcflow.simulator.spelling import OddSpelling

LIMITS = (5, 10, 20)
"""Levels a side that may be asked for; 20 is the default."""

_CHANNEL_OF: dict[type[Event], str] = {Ticker: "ticker", Trades: "deal", Depth: "depth.full"}
_CHANNELS = frozenset(_CHANNEL_OF.values())
_UNSUBSCRIBE = ("unsub.", "usub.")  # clients write the first, the manual the second


class MexcSession:
    """One client's subscriptions: (channel, symbol) to the number of levels (0 where there are none)."""

    def __init__(self, symbols: Iterable[str]) -> None:
        self._symbols = frozenset(symbols)
        self._subscriptions: dict[tuple[str, str], int] = {}
        self.accepted = 0

    @property
    def subscribed(self) -> bool:
        """Whether the client wants anything at present."""
        return bool(self._subscriptions)

    def greeting(self, now_ms: int) -> list[bytes]:
        """Return nothing: it does not greet."""
        return []

    def beats(self, now_ms: int) -> list[bytes]:
        """Return nothing: heartbeats are the client's business."""
        return []

    def farewell(self, now_ms: int) -> list[bytes]:
        """Return nothing: it ends without a word."""
        return []

    def answer(self, request: bytes, now_ms: int) -> list[Reply]:
        """Take one request; [] means silence."""
        reply = self._answer(request, now_ms)
        return [] if reply is None else [reply]

    def _answer(self, request: bytes, now_ms: int) -> Reply | None:
        try:
            content = orjson.loads(request)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(content, dict) or not isinstance(method := content.get("method"), str):
            return None
        if method == "ping":
            return Reply(Kind.PONG, mexc_frames.pong(now_ms))
        if method.startswith("sub.") and method[4:] in _CHANNELS:
            return self._subscribe(method[4:], _param(content), now_ms)
        for prefix in _UNSUBSCRIBE:
            if method.startswith(prefix) and (channel := method.removeprefix(prefix)) in _CHANNELS:
                return self._unsubscribe(channel, _param(content), now_ms)
        return None

    def _subscribe(self, channel: str, param: dict[str, object], now_ms: int) -> Reply:
        symbol = _symbol(param)
        if symbol not in self._symbols:
            return _unknown_contract(symbol, now_ms)
        limit = param.get("limit", max(LIMITS)) if channel == "depth.full" else 0
        if not isinstance(limit, int) or (channel == "depth.full" and limit not in LIMITS):
            return Reply(Kind.ERROR, control("rs.error", "Not support limit", now_ms))
        self._subscriptions[channel, symbol] = limit
        self.accepted += 1
        return Reply(Kind.ACK, control(f"rs.sub.{channel}", "success", now_ms))

    def _unsubscribe(self, channel: str, param: dict[str, object], now_ms: int) -> Reply:
        symbol = _symbol(param)
        if symbol not in self._symbols:
            return _unknown_contract(symbol, now_ms)
        self._subscriptions.pop((channel, symbol), None)
        return Reply(Kind.ACK, control(f"rs.unsub.{channel}", "success", now_ms))

    def variants(self, event: Event) -> tuple[str, ...]:
        """Return the number of levels as text ('0' for ticker and deals), () if not subscribed."""
        limit = self._subscriptions.get((_CHANNEL_OF[type(event)], event.contract.symbol))
        return () if limit is None else (str(limit),)

    def garbage(self) -> tuple[Message, ...]:
        """Messages that cannot be decoded, naming the first symbol this client has subscribed to."""
        symbol = next((symbol for _, symbol in self._subscriptions), "BTC_USDT")
        return mexc_frames.garbage(symbol)


class Mexc:
    """The exchange: which contracts it knows, and how it spells its frames.

    `symbols` are known besides the usual three.
    """

    rules: ClassVar[Rules] = Rules(paths=("/edge",), heartbeat_s=60)
    levels: ClassVar[int] = LEVELS

    def __init__(self, symbols: Iterable[str] = (), *, odd_numbers: bool = False) -> None:
        self.contracts = contracts(tuple(symbols))
        self._symbols = frozenset(contract.symbol for contract in self.contracts)
        self._frames = MexcFrames(OddSpelling()) if odd_numbers else MexcFrames()

    def session(self, path: str, query: Mapping[str, str]) -> MexcSession:
        """Return a new client, subscribed to nothing; any path will do."""
        return MexcSession(self._symbols)

    def take(self, event: Event, now_ms: int) -> None:
        """Keep nothing: every frame is whole."""

    def due(self, now_ms: int) -> list[Event]:
        """Return nothing: it has no candles here."""
        return []

    def frames(self, event: Event, variant: str, now_ms: int) -> list[bytes]:
        """Spell the event for the wire, in one message."""
        return [self.frame(event, variant, now_ms)]

    def frame(self, event: Event, variant: str, now_ms: int) -> bytes:
        """Spell the event for the wire."""
        if isinstance(event, Ticker):
            return self._frames.ticker(event, now_ms)
        if isinstance(event, Trades):
            return self._frames.deals(event, now_ms)
        if isinstance(event, Candle):
            raise NotImplementedError("kline is an unknown method here")
        return self._frames.depth_full(event, int(variant), now_ms)

    def no_heartbeat(self, now_ms: int) -> bytes:
        """Last words before the cut after 60 s without a ping, word for word."""
        return control("rs.error", "more than 60 seconds no response, close the channel", now_ms)

    def rest(self, path: str, query: Mapping[str, str], now_ms: int) -> RestAnswer | None:
        """Answer a ping with the time, and list the contracts; there is no other REST here."""
        if path == mexc_rest.DETAIL:
            listed = contracts(tuple(sorted(self._symbols)))
            return RestAnswer(mexc_rest.contract_detail(listed, query.get("symbol", "")))
        if path != "/api/v1/contract/ping":
            return None
        return RestAnswer(orjson.dumps({"success": True, "code": 0, "data": now_ms}))


def _only(value: object) -> object:
    """Where MEXC wants one and gets a list it takes the first, silently."""
    return value[0] if isinstance(value, list) and value else value


def _param(content: dict[str, object]) -> dict[str, object]:
    """Return what a request is about; {} if it says nothing usable."""
    param = _only(content.get("param"))
    return param if isinstance(param, dict) else {}


def _symbol(param: dict[str, object]) -> str:
    """Return the symbol asked for, '' if there is none."""
    symbol = _only(param.get("symbol"))
    return symbol if isinstance(symbol, str) else ""


def _unknown_contract(symbol: str, now_ms: int) -> Reply:
    return Reply(Kind.ERROR, control("rs.error", f"Contract [{symbol}] not exists", now_ms))
