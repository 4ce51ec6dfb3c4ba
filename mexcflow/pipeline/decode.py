"""Decode: frames in, one batch of rows out, and a tally of what the frames turned out to be.

The one broad `except` of the package is here: whatever arrives on the socket, the feed goes on. What
cannot be decoded becomes a dead letter, the first 500 characters of its text.
"""

import contextlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mexcflow.exchanges import Exchange
from mexcflow.metrics import Tally
from mexcflow.model import DEAD_LETTER_CHARS, Frame, Kind, Reading, Row, Undecodable

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """The rows of one INSERT into one table, and what its frames came to."""

    rows: list[Row]
    tally: Tally


def read_frame(exchange: Exchange, frame: Frame) -> Reading:
    """Return the reading of one frame; a dead letter when the exchange's file cannot make sense of it."""
    try:
        return exchange.read(frame.payload)
    except Exception as error:  # noqa: BLE001 - see the module's comment
        row: Row = (frame.received_ns // 1_000_000, "dl", _text(exchange, frame.payload))
        return Reading(Kind.DEAD_LETTER, rows=(row,), text=str(error) or type(error).__name__)


def decode(exchange: Exchange, frames: Sequence[Frame]) -> Batch:
    """Return the rows of these frames in order, and their tally."""
    rows: list[Row] = []
    kinds: Counter[Kind] = Counter()
    messages: list[str] = []
    lags_ms: list[int] = []
    data = Kind.DATA
    for frame in frames:
        reading = read_frame(exchange, frame)
        if reading.kind is data:
            rows.extend(reading.rows)
            messages.append(reading.channel)
            lags_ms.append(frame.received_ns // 1_000_000 - reading.rows[0][0])
        else:
            kinds[reading.kind] += 1
            if reading.kind is Kind.DEAD_LETTER:
                rows.extend(reading.rows)
                logger.debug("not decoded: %s: %.120r", reading.text, frame.payload)
    if kinds[Kind.DEAD_LETTER]:
        logger.warning(
            "%d of %d frames could not be decoded; they are stored as dead letters",
            kinds[Kind.DEAD_LETTER],
            len(frames),
        )
    return Batch(rows, _tally(len(frames), len(rows), kinds, messages, lags_ms))


def _tally(frames: int, rows: int, kinds: Counter[Kind], messages: list[str], lags_ms: list[int]) -> Tally:
    return Tally(
        frames=frames,
        rows=rows,
        messages=Counter(messages),
        acks=kinds[Kind.ACK],
        pongs=kinds[Kind.PONG],
        skipped=kinds[Kind.SKIPPED],
        exchange_errors=kinds[Kind.ERROR],
        errors=kinds[Kind.ERROR],
        dead_letters=kinds[Kind.DEAD_LETTER],
        lags_ms=Counter(lags_ms),
    )


def _text(exchange: Exchange, payload: bytes) -> str:
    with contextlib.suppress(Undecodable):  # damaged: keep it as it came
        payload = exchange.unwrap(payload)
    # four bytes a character at most: no need to decode megabytes for 500 characters
    return payload[: 4 * DEAD_LETTER_CHARS].decode("utf-8", "replace")[:DEAD_LETTER_CHARS]
