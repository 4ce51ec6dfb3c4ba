"""Decode: frames in, one batch of rows out, and a tally of what the frames turned out to be.

The one broad `except` of the package is here: whatever arrives on the socket, the feed goes on. What
cannot be decoded becomes a dead letter, the first 500 characters of its text.
"""

import contextlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from mexcflow.exchanges import Exchange
from mexcflow.metrics import Tally
from mexcflow.model import DEAD_LETTER_CHARS, Frame, Kind, Reading, Row, Undecodable
from mexcflow.pipeline.sequence import Gap, Watch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """The rows of one INSERT into one table, and what its frames came to.

    For coverage: `first_ns` has the receive time of each channel's first acknowledgement or data (Unix
    ns), `last_ns` that of the last frame of any kind, 0 without one; `channel_rows` the rows of market
    data by channel, `gaps` what came twice or in the wrong order.
    """

    rows: list[Row]
    tally: Tally
    first_ns: dict[str, int] = field(default_factory=dict)
    last_ns: int = 0
    channel_rows: Counter[str] = field(default_factory=Counter)
    gaps: list[Gap] = field(default_factory=list)

    @property
    def messages(self) -> Counter[str]:
        """How many frames of each channel there were."""
        return self.tally.messages


def read_frame(exchange: Exchange, frame: Frame) -> Reading:
    """Return the reading of one frame; a dead letter when the exchange's file cannot make sense of it."""
    try:
        return exchange.read(frame.payload)
    except Exception as error:  # noqa: BLE001 - see the module's comment
        row: Row = (frame.received_ns // 1_000_000, "dl", _text(exchange, frame.payload))
        return Reading(Kind.DEAD_LETTER, rows=(row,), text=str(error) or type(error).__name__)


def decode(exchange: Exchange, frames: Sequence[Frame], watch: Watch | None = None) -> Batch:
    """Return the rows of these frames in order, and their tally; `watch` is that of their connection."""
    watch = watch or Watch()
    before = (watch.duplicates, watch.backwards)
    rows: list[Row] = []
    kinds: Counter[Kind] = Counter()
    messages: list[str] = []
    lags_ms: list[int] = []
    first_ns: dict[str, int] = {}
    more_rows: Counter[str] = Counter()
    data, see = Kind.DATA, watch.see
    for frame in frames:
        reading = read_frame(exchange, frame)
        channel, received_ns = reading.channel, frame.received_ns
        if reading.kind is data:
            rows.extend(reading.rows)
            messages.append(channel)
            lags_ms.append(received_ns // 1_000_000 - reading.rows[0][0])
            see(channel, reading.sequence, frame.payload, received_ns)
            if len(reading.rows) > 1:
                more_rows[channel] += len(reading.rows) - 1
        else:
            kinds[reading.kind] += 1
            if reading.kind is Kind.DEAD_LETTER:
                rows.extend(reading.rows)
                logger.debug("not decoded: %s: %.120r", reading.text, frame.payload)
        if channel not in first_ns and channel in exchange.channels:
            first_ns[channel] = received_ns
    if kinds[Kind.DEAD_LETTER]:
        logger.warning(
            "%d of %d frames could not be decoded; they are stored as dead letters",
            kinds[Kind.DEAD_LETTER],
            len(frames),
        )
    tally = _tally(len(frames), len(rows), kinds, messages, lags_ms)
    tally.duplicates, tally.backwards = watch.duplicates - before[0], watch.backwards - before[1]
    last_ns = frames[-1].received_ns if frames else 0
    return Batch(rows, tally, first_ns, last_ns, tally.messages + more_rows, watch.take_gaps())


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
