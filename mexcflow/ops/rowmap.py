"""Where the rows of a rebuilt table came from: `archive/<uuid of the table>.rows.zst` beside the raw archive.

The journal's records name the table that a batch went into by its uuid, and a rebuilt table has another
one. So what the records say of the old table is written down here for the new one, before the two change
places: a later rebuild reads it, and then the records of what was recorded since.

JSON, a line each, as one zstd file: first `{"format": 1, "uuid", "table", "database", "segment"}` (the last
segment that any line speaks of), then `[segment, offset, segment, offset, frames, rows before, rows]`.
"""

import os
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec

from mexcflow.errors import Permanent
from mexcflow.journal import Position
from mexcflow.journal.files import failing
from mexcflow.journal.retention import ARCHIVE
from mexcflow.ops.layout import Piece, Pieces

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_SUFFIX = ".rows.zst"
_FORMAT = 1


class Heading(msgspec.Struct, frozen=True, kw_only=True):
    """The first line: which table of which database, and the last segment that is spoken of."""

    uuid: str
    table: str
    database: str
    segment: int
    format: int = _FORMAT


_read_heading = msgspec.json.Decoder(Heading).decode
_read_line = msgspec.json.Decoder(tuple[int, int, int, int, int, int, int]).decode
_write = msgspec.json.Encoder().encode


def write_map(folder: Path, heading: Heading, pieces: Iterable[Piece]) -> Path:
    """Write a table's map into the archive of a stream's folder: whole and on the disk, or not at all."""
    path = _path(folder, heading.uuid)
    new = path.with_suffix(".new")
    with failing(path):
        path.parent.mkdir(exist_ok=True)
        with new.open("wb") as out:
            with zstd.open(out, "wb") as packed:
                packed.write(_write(heading) + b"\n")
                for start, end, frames, before, rows in pieces:
                    packed.write(_write((*start, *end, frames, before, rows)) + b"\n")
            out.flush()
            os.fsync(out.fileno())
        new.rename(path)
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return path


def read_map(folder: Path, uuid: str, *, first_segment: int) -> Pieces:
    """Return what is written down for that table, without what was before that segment."""
    pieces = Pieces()
    path = _path(folder, uuid)
    if not path.is_file():
        return pieces
    try:
        with failing(path), zstd.open(path, "rb") as lines:
            heading = _read_heading(lines.readline())
            if heading.format != _FORMAT:
                raise _damaged(path, f"its format is {heading.format}, not {_FORMAT}")
            for line in lines:
                one, two, three, four, frames, before, rows = _read_line(line)
                if one >= first_segment:
                    pieces.place(Piece(Position(one, two), Position(three, four), frames, before, rows))
    except (zstd.ZstdError, EOFError, msgspec.DecodeError) as error:
        raise _damaged(path, str(error)) from error
    return pieces


def expire_maps(folder: Path, *, first_segment: int, database: str, uuids: Collection[str]) -> list[Path]:
    """Remove the maps of tables that this database no longer has, and those whose frames are all gone."""
    archive = folder / ARCHIVE
    gone = []
    for path in sorted(archive.glob(f"*{_SUFFIX}")) if archive.is_dir() else []:
        try:
            with failing(path), zstd.open(path, "rb") as lines:
                heading = _read_heading(lines.readline())
        except (zstd.ZstdError, EOFError, msgspec.DecodeError):
            continue  # whoever needs it is told
        dropped = heading.database == database and heading.uuid not in uuids
        if dropped or heading.segment < first_segment:
            with failing(path):
                path.unlink()
            gone.append(path)
    return gone


def _path(folder: Path, uuid: str) -> Path:
    return folder / ARCHIVE / f"{uuid}{_SUFFIX}"


def _damaged(path: Path, why: str) -> Permanent:
    return Permanent(
        f"{path} is damaged: {why}",
        hint="Move it away: the rows it speaks of are then kept as they are in the table",
    )
