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
    """The rows of one batch by table, what its frames came to, and what each symbol brought."""

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
    heard: dict[str, Heard] = {}
    before = (assembler.duplicates, assembler.backwards)
    read, data = exchange.read, Kind.DATA
    for frame in frames:
        payload, received_ns = frame.payload, frame.received_ns
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
            continue
        messages[reading.channel] += 1
        newest_us = _hear(heard, reading, rows, received_ns)
        if newest_us:
            lags_ms.append(received_ns // 1_000_000 - newest_us // 1000)
    blocks, gaps = assembler.taken()
    for symbol, gap in gaps:
        heard.setdefault(symbol, Heard()).gaps.append(gap)
    tally = Tally(
        frames=len(frames),
        rows=len(blocks),
        messages=messages,
        acks=kinds[Kind.ACK],
        pongs=kinds[Kind.PONG],
        skipped=kinds[Kind.SKIPPED],
        exchange_errors=kinds[Kind.ERROR],
        errors=kinds[Kind.ERROR],
        dead_letters=kinds[Kind.DEAD_LETTER],
        duplicates=assembler.duplicates - before[0],
        backwards=assembler.backwards - before[1],
        lags_ms=Counter(lags_ms),
    )
    if tally.dead_letters:
        logger.warning(
            "%d of %d frames could not be decoded; they are in market_data.dead_letters",
            tally.dead_letters,
            len(frames),
        )
    return TypedBatch(blocks, tally, heard, frames[-1].received_ns if frames else 0)


def _hear(heard: dict[str, Heard], reading: TypedReading, rows: int, received_ns: int) -> int:
    """Count a frame for its symbols; returns its event time (0: it has none)."""
    channel, of_frame = reading.channel, reading.rows
    symbols = (of_frame[0].symbol,) if len(of_frame) == 1 else {row.symbol for row in of_frame}
    for symbol in symbols:
        one = heard.get(symbol)
        if one is None:
            one = heard[symbol] = Heard()
        if channel not in one.first_ns:
            one.first_ns[channel] = received_ns
        one.last_ns = received_ns
        one.messages[channel] += 1
        alone = len(symbols) == 1
        one.channel_rows[channel] += rows if alone else sum(row.symbol == symbol for row in of_frame)
    # a candle may bear no time but its beginning
    return of_frame[-1].time_us if of_frame and channel != "candle" else 0


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:_REASON_CHARS] or type(error).__name__


def _dead_letter(exchange: TypedExchange, frame: Frame, channel: str, reason: str) -> str:
    payload = frame.payload
    with contextlib.suppress(Undecodable):  # damaged: keep it as it came
        payload = exchange.unwrap(payload)
    text = payload[: 4 * DEAD_LETTER_CHARS].decode("utf-8", "replace")[:DEAD_LETTER_CHARS]
    at = spelled_us(frame.received_ns // 1000)
    return f"{exchange.name}\t\t{channel}\t{at}\t{escaped(reason)}\t{escaped(text)}\n"
