"""The words the pipeline is written in: frame, row, reading.

A frame is one websocket message as bytes. A reading is what a frame turned out to be. A row is what
goes into a table, in column order.
"""

from enum import StrEnum

import msgspec

Row = tuple[int, str, str]
"""A row of a string table, in column order: `ts` (Unix ms), `mt` ('t', 'd', 'dp', 'dl'), `m`."""

DEAD_LETTER_CHARS = 500
"""How much of a frame that cannot be decoded is kept."""


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One websocket message, verbatim, with the time (Unix ns) its last byte was read."""

    received_ns: int
    payload: bytes


class Kind(StrEnum):
    """What a frame can turn out to be; every frame is exactly one of these."""

    DATA = "data"  # market data: rows
    ACK = "ack"  # the exchange accepted a subscription
    PONG = "pong"  # answer to our heartbeat
    ERROR = "error"  # the exchange complains
    SKIPPED = "skipped"  # market data with nothing in it, e.g. an empty list of deals
    DEAD_LETTER = "dead_letter"  # could not be decoded


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What one frame turned out to be.

    `channel` is in our words ('ticker', 'deal', 'depth') and set for DATA, SKIPPED and ACK.
    `rows` is set for DATA, dead letters included. `text` is the exchange's own text for ERROR and the
    reason for DEAD_LETTER. `permanent` marks an ERROR that would come again: an unknown contract.
    `sequence` is the exchange's own number of a DATA frame within its channel, 0 or more; None without one.
    """

    kind: Kind
    channel: str = ""
    rows: tuple[Row, ...] = ()
    text: str = ""
    permanent: bool = False
    sequence: int | None = None


class Undecodable(ValueError):
    """Raised inside an exchange's file for a frame that can never be decoded; becomes a dead letter."""
