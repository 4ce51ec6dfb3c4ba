"""Decode, for typed tables: frames in, the rows of one batch out, and a tally of what the frames were.

As in `decode.py`, whatever arrives on the socket, the feed goes on: what cannot be decoded or assembled
becomes a row of `market_data.dead_letters`.
"""

import contextlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from mexcflow.exchanges import TypedExchange
from mexcflow.metrics import Tally
from mexcflow.model import DEAD_LETTER_CHARS, Frame, Kind, TypedReading, Undecodable
from mexcflow.pipeline.assemble import Assembler
from mexcflow.pipeline.blocks import Blocks, spelled_us
from mexcflow.pipeline.sequence import Gap
from mexcflow.store.market import DEAD_LETTERS
from mexcflow.store.tsv import escaped

logger = logging.getLogger(__name__)

_REASON_CHARS = 200
_LOOKED_AT = 4096
"""Bytes at the beginning of a dead letter in which its topic is looked for."""
_Counts = dict[tuple[str, str], list[int]]
"""By channel and symbol: the receive times of the first and the last frame, the frames, their rows."""


@dataclass
class Heard:
    """What one symbol's channels brought in a batch, for coverage; see `decode.Batch`."""

    first_ns: dict[str, int] = field(default_factory=dict)
    last_ns: int = 0
    messages: Counter[str] = field(default_factory=Counter)
    channel_rows: Counter[str] = field(default_factory=Counter)
    gaps: list[Gap] = field(default_factory=list)


@dataclass(frozen=True)
class TypedBatch:
    """The rows of one batch by table, what its frames came to, and what each symbol brought.

    `last_ns` is when the last frame came over the connection, 0 without one.
    """

    rows: Blocks
    tally: Tally
    heard: dict[str, Heard]
    last_ns: int


def read_typed(exchange: TypedExchange, payload: bytes) -> TypedReading:
    """Return the reading of one frame; a dead letter when the exchange's file cannot make sense of it."""
    try:
        return exchange.read(payload)
    except Exception as error:  # noqa: BLE001 - see the module's comment
        return TypedReading(Kind.DEAD_LETTER, text=_reason(error))


def decode_typed(exchange: TypedExchange, frames: Sequence[Frame], assembler: Assembler) -> TypedBatch:
    """Return what these frames become, in order; the assembler knows what came before them."""
    kinds: Counter[Kind] = Counter()
    messages: Counter[str] = Counter()
    lags_ms: list[int] = []
    counts: _Counts = {}
    polled: _Counts = {}
    last_ns = refused = 0
    before = (assembler.duplicates, assembler.backwards)
    read, data = exchange.read, Kind.DATA
    for frame in frames:
        payload, received_ns = frame.payload, frame.received_ns
        alive_ns, last_ns = last_ns, received_ns
        if received_ns >= assembler.due_ns:
            assembler.tick(received_ns // 1000)
        reading = None
        try:
            reading = read(payload)
            rows = assembler.take(reading, received_ns) if reading.kind is data else 0
        except Exception as error:  # noqa: BLE001 - see the module's comment
            channel = reading.channel if reading else ""
            kinds[Kind.DEAD_LETTER] += 1
            assembler.lost(payload, received_ns)
            assembler.blocks.add(DEAD_LETTERS, _dead_letter(exchange, frame, channel, _reason(error)))
            continue
        if reading.kind is not data:
            kinds[reading.kind] += 1
            refused += reading.permanent
            continue
        channel, of_frame = reading.channel, reading.rows
        messages[channel] += 1
        if reading.polled:  # it proves nothing of the connection, and may be as old as it likes
            last_ns = alive_ns
            _count_several(polled, reading, rows, received_ns)
            continue
        if len(of_frame) == 1:
            symbol = of_frame[0].symbol
            count = counts.get((channel, symbol))
            if count is None:
                counts[channel, symbol] = [received_ns, received_ns, 1, rows]
            else:
                count[1] = received_ns
                count[2] += 1
                count[3] += rows
        else:
            _count_several(counts, reading, rows, received_ns)
        # a candle may bear no time but its beginning
        if of_frame and channel != "candle" and (newest_us := of_frame[-1].time_us):
            lags_ms.append(received_ns // 1_000_000 - newest_us // 1000)
    tally = _tally(kinds, messages, lags_ms)
    # one unknown symbol of many, refused a topic at a time, must not end the others' recording
    tally.errors = tally.exchange_errors - refused
    tally.duplicates = assembler.duplicates - before[0]
    tally.backwards = assembler.backwards - before[1]
    return _batch(frames, assembler, tally, _heard(counts, polled), last_ns)


def _batch(
    frames: Sequence[Frame], assembler: Assembler, tally: Tally, heard: dict[str, Heard], last_ns: int
) -> TypedBatch:
    blocks, gaps = assembler.taken()
    for symbol, gap in gaps:
        heard.setdefault(symbol, Heard()).gaps.append(gap)
    tally.frames, tally.rows = len(frames), len(blocks)
    if tally.dead_letters:
        logger.warning(
            "%d of %d frames could not be decoded; they are in market_data.dead_letters",
            tally.dead_letters,
            len(frames),
        )
    return TypedBatch(blocks, tally, heard, last_ns)


def _tally(kinds: Counter[Kind], messages: Counter[str], lags_ms: list[int]) -> Tally:
    return Tally(
        messages=messages,
        acks=kinds[Kind.ACK],
        pongs=kinds[Kind.PONG],
        skipped=kinds[Kind.SKIPPED],
        exchange_errors=kinds[Kind.ERROR],
        dead_letters=kinds[Kind.DEAD_LETTER],
        lags_ms=Counter(lags_ms),
    )


def _count_several(counts: _Counts, reading: TypedReading, rows: int, received_ns: int) -> None:
    """Count a frame that has several rows, perhaps of several symbols; or none."""
    channel, of_frame = reading.channel, reading.rows
    symbols = {row.symbol for row in of_frame}
    for symbol in symbols:
        count = counts.setdefault((channel, symbol), [received_ns, received_ns, 0, 0])
        count[1] = received_ns
        count[2] += 1
        count[3] += rows if len(symbols) == 1 else sum(row.symbol == symbol for row in of_frame)


def _heard(counts: _Counts, polled: _Counts) -> dict[str, Heard]:
    heard: dict[str, Heard] = {}
    for (channel, symbol), (first_ns, last_ns, frames, rows) in counts.items():
        one = heard.setdefault(symbol, Heard())
        one.first_ns[channel] = first_ns
        one.last_ns = max(one.last_ns, last_ns)
        one.messages[channel] = frames
        one.channel_rows[channel] = rows
    for (channel, symbol), (_, _, frames, rows) in polled.items():
        one = heard.setdefault(symbol, Heard())
        one.messages[channel] += frames
        one.channel_rows[channel] += rows
    return heard


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:_REASON_CHARS] or type(error).__name__


def _dead_letter(exchange: TypedExchange, frame: Frame, channel: str, reason: str) -> str:
    payload = frame.payload
    with contextlib.suppress(Undecodable):  # damaged: keep it as it came
        payload = exchange.unwrap(payload)
    text = payload[: 4 * DEAD_LETTER_CHARS].decode("utf-8", "replace")[:DEAD_LETTER_CHARS]
    at = spelled_us(frame.received_ns // 1000)
    named, symbol = _about(exchange, payload[:_LOOKED_AT])
    about = f"{exchange.name}\t{escaped(symbol)}\t{channel or named}"
    return f"{about}\t{at}\t{escaped(reason)}\t{escaped(text)}\n"


def _about(exchange: TypedExchange, payload: bytes) -> tuple[str, str]:
    """Return channel and symbol of the topic that a frame names; "" for what is none or could be several."""
    channels, symbols = set(), set()
    for topic in exchange.topics():
        if all(f'"{word}"'.encode() in payload for word in topic.name.split(":")):
            channels.add(topic.channel)
            symbols.add(topic.symbol)
    if not channels:
        symbols = {one.symbol for one in exchange.topics() if f'"{one.symbol}"'.encode() in payload}
        channels = {"book"} if not exchange.whole_books and exchange.is_book_delta(payload) else channels
    return _only(channels), _only(symbols)


def _only(words: set[str]) -> str:
    return words.pop() if len(words) == 1 else ""
