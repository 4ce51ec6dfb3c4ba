"""The journal's format: what a stream's folder holds, byte for byte.

A stranger can write a reader from this page.

**Folder.** One a stream, e.g. `journal/mexc/BTC_USDT/`. State is in a file's name:

| name | what |
|---|---|
| `00000007.open` | the segment that is written to (a second one for as long as its seal takes) |
| `00000006.sealed` | a segment that never changes any more |
| `archive/00000005-20261121T140000Z.zst` | an acknowledged segment as one zstd frame; when it ends, UTC |
| `archive/<uuid of a table>.rows.zst` | which frames the rows of a rebuilt table came from |
| `corrupt/00000006-0000012345.bin` | bytes that were no record, set aside: from which segment and offset |
| `*.new` in `archive/` and `corrupt/` | one of these that was not finished, and will be written again |
| `lock` | held with flock by the one writer; its text says who that is |

Segments are numbered from 1 without holes, oldest first. Whatever has a name that is not in this table
does not belong to the journal.

**Segment.** Records, one behind the other, and nothing else. All numbers are little-endian:

| offset | bytes | what |
|---|---|---|
| 0 | 2 | marker, A7 4A |
| 2 | 4 | length of the payload, unsigned, at most 64 MiB |
| 6 | 4 | CRC-32 (that of zlib) of bytes 10 to 18 and the payload, begun with the segment's number for 0 |
| 10 | 8 | time, signed: Unix time in ns |
| 18 | 1 | kind |
| 19 | length | payload |

The length is not under the checksum; a wrong one makes the checksum fail all the same, because it is then
taken of other bytes. The segment's number is: after a power cut the disk may show old bytes, a segment that
was deleted long ago, in the place of what was not synced; they must not be taken for records of this one.

| kind | name | payload | its time |
|---|---|---|---|
| 1 | frame | a websocket message, verbatim | when its last byte was read |
| 2 | connected | `run`, `host`, `channels`, `url`, `handover` | when the connection stood |
| 3 | disconnected | `reason`; `since_ns`: since when no data came | when it was noticed |
| 4 | batch | see below | before its INSERT |
| 5 | acknowledged | see below | when the table had it |
| 6 | segment | see below | when it was begun |

- batch: `name`, `number`, `table`, `uuid` of the table, `rows_before`: what the table had, `rows`, `frames`,
  `start`, `end`.
- acknowledged: `end`, `frames` and `controls` (records of kinds 2 and 3) acknowledged so far, `name` of the
  batch or '', `state`: what the writer wants to find again. Mostly it goes forward; it goes back when the
  table was found without its newest rows.
- segment: `format` (1), `exchange`, `symbol`, `journal` (its id), `run`, `host`, and `ledger`: what all
  records before this segment come to, so that nobody has to read them.

All payloads but frames are JSON objects; a reader ignores keys it does not know. `start` and `end` are
positions, `[segment, offset]`: a batch is made of the frames from the record at `start` to before `end`.
A segment begins with a record of kind 6, in this frame in every format to come: so it is known as one that
this version cannot read, and left alone.

**Limits.** A power cut may take what was not synced yet: at most the last fsync interval. A frame may be
64 MiB. A segment is sealed at 16 MiB or after 10 minutes, so it is at most one read of the socket longer.

**Recovery.** What follows the last whole record of a segment that was not sealed is a torn tail: it is
copied to `corrupt/` (unless it is nothing but zeros), cut and counted. Bytes that are no record, with a
whole record somewhere behind them, are corrupt: the next record is found by its marker and its checksum,
and what is between is copied to `corrupt/` and reported.
The newest record of kind 5 says what the table has. A batch behind it is in doubt: it was sent, or was
about to be, and the table's row count decides. Everything behind the acknowledged position that is a
frame is decoded and inserted (again).
"""

import struct
import zlib
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import msgspec

from mexcflow.model import Frame

FORMAT = 1
MARKER = b"\xa7\x4a"
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024

_HEAD = struct.Struct("<HIIqB")
_SEALED_HEAD = struct.Struct("<qB")  # the part of the head that is under the checksum
HEAD_BYTES = _HEAD.size
_MARK = int.from_bytes(MARKER, "little")
_KINDS = frozenset(range(1, 7))


class Kind(IntEnum):
    """What a record is; see the table above."""

    FRAME = 1
    CONNECTED = 2
    DISCONNECTED = 3
    BATCH = 4
    ACKNOWLEDGED = 5
    SEGMENT = 6


class Record(msgspec.Struct, frozen=True, gc=False):
    """One entry of the journal; the payload of every kind but FRAME is a JSON object."""

    kind: Kind
    at_ns: int
    payload: bytes


class Position(NamedTuple):
    """Where a record begins: the segment's number, and the offset in it."""

    segment: int
    offset: int


class Parsed(NamedTuple):
    """What `parse` found: frames, or one other record; where it stopped, and why."""

    frames: list[Frame]
    record: Record | None
    at: int
    problem: "Problem | None"


class Problem(IntEnum):
    """Why `parse` could not go on: the record goes beyond the buffer, or this is no record."""

    CUT = 1
    DAMAGED = 2


def encode(kind: Kind, at_ns: int, payloads: Sequence[bytes], segment: int) -> bytes:
    """Return one record for each payload, all of one kind and time, for the segment of that number."""
    pack, crc32, number = _HEAD.pack, zlib.crc32, int(kind)
    start = crc32(_SEALED_HEAD.pack(at_ns, number), segment & 0xFFFFFFFF)
    parts: list[bytes] = []
    for payload in payloads:
        parts.append(pack(_MARK, len(payload), crc32(payload, start), at_ns, number))
        parts.append(payload)
    return b"".join(parts)


def parse(buffer: bytes, at: int, at_most: int, segment: int) -> Parsed:
    """Read frames from `at` on, at most `at_most`, up to a record of another kind; or that one record."""
    unpack, crc32, frame_kind = _HEAD.unpack_from, zlib.crc32, int(Kind.FRAME)
    frames: list[Frame] = []
    last_ns, last_kind, start = None, 0, 0
    end = len(buffer)
    while len(frames) < at_most and end - at >= HEAD_BYTES:
        mark, size, checksum, at_ns, kind = unpack(buffer, at)
        if mark != _MARK or size > MAX_PAYLOAD_BYTES or kind not in _KINDS:
            return Parsed(frames, None, at, Problem.DAMAGED)
        first = at + HEAD_BYTES
        if first + size > end:
            return Parsed(frames, None, at, Problem.CUT)
        payload = buffer[first : first + size]
        if at_ns != last_ns or kind != last_kind:
            last_ns, last_kind = at_ns, kind
            start = crc32(_SEALED_HEAD.pack(at_ns, kind), segment & 0xFFFFFFFF)
        if crc32(payload, start) != checksum:
            return Parsed(frames, None, at, Problem.DAMAGED)
        if kind != frame_kind:
            if frames:
                return Parsed(frames, None, at, None)
            return Parsed(frames, Record(Kind(kind), at_ns, payload), first + size, None)
        at = first + size
        frames.append(Frame(at_ns, payload))
    full = len(frames) == at_most or at == end
    return Parsed(frames, None, at, None if full else Problem.CUT)


def needed(buffer: bytes, at: int) -> int:
    """Return how many bytes the record at `at` has by its head; HEAD_BYTES if that is not whole."""
    if len(buffer) - at < HEAD_BYTES:
        return HEAD_BYTES
    size: int = _HEAD.unpack_from(buffer, at)[1]
    return HEAD_BYTES + size
