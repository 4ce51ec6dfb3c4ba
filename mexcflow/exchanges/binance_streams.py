"""How Binance's futures and its spot market are subscribed, and what they answer: combined streams.

Sources: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams,
https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams, and frames
seen live from 2021 to 2026.

Oddities that this file knows of:

- A frame is `{"stream":"btcusdt@aggTrade","data":{...}}`. The name of the stream is in small letters, the
  symbol inside in capitals; symbols may hold letters that are not ASCII. The stream alone tells the top of a
  book from its changes, and for spot even whose book it is.
- A misspelt stream and an unknown symbol are acknowledged like any other, and silent.
- serverShutdown asks to connect anew, at once. It comes as an event, or in a stream of its own.
- Heartbeats are websocket pings of the server; the pongs count as messages of ours.
"""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import ClassVar

import msgspec
import orjson
from msgspec import UNSET, Raw, UnsetType

from mexcflow.exchanges.binance_frames import Reader
from mexcflow.model import Kind, Request, Topic, TypedReading, Undecodable, Wanted

_HEAD = b'{"stream":"'
_NAME_AT = len(_HEAD)
_OF_SYSTEM = b'{"stream":"!'
_SHUTDOWN = "serverShutdown"
_TOPICS_A_REQUEST = 100  # too long a frame is dropped without a word: 437 names were seen to be too many
_INVALID_SYMBOL = -1121


class _Error(msgspec.Struct, gc=False):
    code: int
    msg: str = ""


class _Envelope(msgspec.Struct, gc=False):
    stream: str = ""
    e: str = ""
    s: str = ""
    symbol: str = ""
    result: Raw | UnsetType = UNSET
    error: _Error | None = None
    code: int | None = None
    msg: str = ""
    id: int | str | None = None


_decode_envelope = msgspec.json.Decoder(_Envelope).decode


class BinanceStreams:
    """Several symbols' combined streams; a market adds its names, its numbers and its book."""

    channel_streams: ClassVar[Mapping[str, Sequence[tuple[str, str]]]]
    """Socket and stream of each channel, without the symbol; `{}` stands for the candle's interval."""
    readers: ClassVar[Mapping[str, Reader]]
    """By the stream's name without its symbol, its speed ('@100ms') and its interval ('_1m')."""
    events: ClassVar[Mapping[str, Reader]]
    """By the type of event, for those that can be told apart without the name of a stream."""

    heartbeat: ClassVar[bytes] = b""
    ack_timeout_s: ClassVar[float] = 10.0
    book_depth: ClassVar[int] = 20
    whole_books: ClassVar[bool] = True
    book_levels: ClassVar[int] = 0
    consecutive_trades: ClassVar[bool] = True
    example: ClassVar[str] = "BTCUSDT"

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._symbols = {symbol.lower(): symbol for symbol in wanted.symbols}
        self._heads = {
            b'%b%b"' % (_HEAD, topic.name.encode()): self._reader(topic.name) for topic in self.topics()
        }

    def topics(self) -> tuple[Topic, ...]:
        """Return everything that is to be subscribed."""
        return tuple(
            Topic(socket, f"{symbol.lower()}@{stream.format(self._wanted.candle_interval)}", channel, symbol)
            for symbol in self._wanted.symbols
            for channel in self._wanted.channels
            for socket, stream in self.channel_streams[channel]
        )

    def requests(self, topics: tuple[Topic, ...], first_id: int) -> list[Request]:
        """Return the subscribe frames for topics of one socket, a hundred topics each."""
        parts = [topics[at : at + _TOPICS_A_REQUEST] for at in range(0, len(topics), _TOPICS_A_REQUEST)]
        return [Request(id_, part, _subscribe(part, id_)) for id_, part in zip(count(first_id), parts)]

    def renew(self, topic: Topic, first_id: int) -> list[bytes]:
        """Return nothing: every frame of a book is whole."""
        return []

    def is_market_data(self, payload: bytes) -> bool:
        """Say whether this looks like a frame of a stream."""
        if payload.startswith(_HEAD):
            return not payload.startswith(_OF_SYSTEM)
        return (b'"stream"' in payload or b'"e"' in payload) and _SHUTDOWN.encode() not in payload

    def is_book_delta(self, payload: bytes) -> bool:
        """Say no: the books that are subscribed come whole."""
        return False

    def unwrap(self, payload: bytes) -> bytes:
        """Return the message as it is: only text is sent."""
        return payload

    def read(self, payload: bytes) -> TypedReading:
        """Return what a message turned out to be; any exception means that it cannot be decoded."""
        # as sent, the name of the stream comes first
        known = self._heads.get(payload[: payload.find(b'"', _NAME_AT) + 1])
        if known is None:
            return self._read_any(payload)
        read_data, symbol = known
        return read_data(payload, symbol)

    def _read_any(self, payload: bytes) -> TypedReading:
        frame = _decode_envelope(payload)
        if _SHUTDOWN in (frame.e, frame.stream.lstrip("!")):
            return TypedReading(Kind.SKIPPED, restart=True)
        if frame.stream:
            read_data, symbol = self._reader(frame.stream)
            return read_data(payload, symbol)
        if frame.e in self.events:  # as it comes where streams are not combined
            return self.events[frame.e](b'{"data":%b}' % payload, self._symbol(frame.s.lower()))
        if frame.e:
            raise Undecodable(f"unknown event {frame.e[:40]!r}")
        if frame.symbol:  # of REST, which writes it in full
            return self.read_polled(payload, self._symbol(frame.symbol.lower()))
        return _read_answer(frame)

    def read_polled(self, payload: bytes, symbol: str) -> TypedReading:
        """Return what an answer of REST is read as."""
        raise Undecodable("neither data nor an answer")

    def _reader(self, stream: str) -> tuple[Reader, str]:
        name, _, kind = stream.partition("@")
        read_data = self.readers.get(kind.partition("@")[0].partition("_")[0])
        if read_data is None:
            raise Undecodable(f"unknown stream {stream[:40]!r}")
        return read_data, self._symbol(name)

    def _symbol(self, name: str) -> str:
        symbol = self._symbols.get(name)
        if symbol is None:
            raise Undecodable(f"a frame of {name[:40]!r}, which was not asked for")
        return symbol


def _subscribe(topics: tuple[Topic, ...], id_: int) -> bytes:
    return orjson.dumps({"method": "SUBSCRIBE", "params": [topic.name for topic in topics], "id": id_})


def _read_answer(frame: _Envelope) -> TypedReading:
    request = frame.id if isinstance(frame.id, int) else None
    error = frame.error
    if error is None and frame.code is not None:
        error = _Error(frame.code, frame.msg)
    if error is not None:
        text, permanent = f"{error.code}: {error.msg}", error.code == _INVALID_SYMBOL
        return TypedReading(Kind.ERROR, text=text, permanent=permanent, request=request)
    if frame.result is UNSET:
        raise Undecodable("neither data nor an answer")
    return TypedReading(Kind.ACK, request=request)
