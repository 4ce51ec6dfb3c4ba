"""The files of a StripeLog table, read without the engine: how many of its INSERTs are whole.

A table is a folder with three files; a table without rows has none of them:

- `data.bin`, the rows: compressed frames, one after the other.
- `index.mrk`: compressed frames too, one for each INSERT, in the same order.
- `sizes.json`: `{"clickhouse":{"data%2Ebin":{"size":"N"},"index%2Emrk":{"size":"M"}}}`, the commit
  record ("yandex" for "clickhouse" in old versions). When it opens a table, the engine cuts longer files
  to these sizes; it takes shorter ones as they are and then cannot read them. Without the file the table
  is empty, and with one that is no JSON the engine does not start at all.

A frame, all numbers little endian: 16 bytes CityHash128 of what follows; 1 byte method (0x82 LZ4, 0x90
ZSTD, 0x02 not compressed); u32 size from the method on, so 9 more than the payload; u32 size of the
decompressed payload, 1 MiB as a rule and at most 1 GiB; the payload.

A decompressed frame of `index.mrk` lists the INSERT's blocks (one, unless it was huge). A block is: varuint
number of columns, varuint number of rows, and for each column its name and its type (each a varuint
length and the text), u64 offset of its first frame in `data.bin`, u64 offset within that frame, which is 0.

`data.bin`, decompressed, is ClickHouse's format Native. An INSERT begins with a small frame of its own:
varuint number of columns, varuint number of rows. Each column begins a new frame: name, type, then the
values; a String is a varuint length and its bytes. The index does not say where the last column ends:
either the next INSERT's first frame follows, or its strings have to be counted.

Recovery: follow the index from its beginning and check that each INSERT's frames are in `data.bin` from
end to end; the first one that is not ends the table. Both files are cut there, and `sizes.json` is
written anew (`repair.py`).

Limits: the last column has to be a String, as in our tables. The hashes are not compared: damage shows
when a size does not fit, or, in the last INSERT only, when a frame cannot be decompressed. A bit that
flipped further up is found by reading the rows (`mexcflow verify`).
"""

import struct
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import lz4.block

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_HASH_BYTES = 16
_HEADER = struct.Struct("<16xBII")
_LZ4, _ZSTD, _NONE = 0x82, 0x90, 0x02
_SIZES_BYTES = 9  # method and the two sizes count as part of the frame
_MAX_BYTES = 1 << 30
_OFFSETS = struct.Struct("<QQ")
_MAX_COLUMNS = 1000

TAIL_BYTES = 1 << 14
"""How much of the end of `index.mrk` is enough to find its last frame: ours has about 115 bytes."""


class DataFile(NamedTuple):
    """`data.bin` as far as it counts: its size, and how to read `count` bytes at an offset."""

    size: int
    read: Callable[[int, int], bytes]


class Insert(NamedTuple):
    """One INSERT as the index tells it: offsets are bytes in `data.bin`."""

    rows: int
    columns: tuple[int, ...]
    """Where each column of each block begins, ascending."""
    last_rows: int
    """Rows of the last block: so many strings the last column has."""
    last_head: bytes
    """Name and type of the last column, with which its first frame begins."""
    index_end: int
    """Where its frame in `index.mrk` ends."""


class Whole(NamedTuple):
    """What of a table is whole, from its beginning; `rows_behind` is what the index tells of the rest."""

    inserts: int
    rows: int
    data_bin_bytes: int
    index_mrk_bytes: int
    rows_behind: int


class _Damaged(Exception):
    """These bytes are not what they should be."""


def read_index(index: bytes) -> list[Insert]:
    """Return the INSERTs that `index.mrk` tells of, up to the first frame that is not whole."""
    found = []
    at = 0
    file = _in_memory(index)
    while at < len(index):
        try:
            raw, at = _frame(file, at)
            found.append(_insert(raw, at))
        except _Damaged:
            break
    return found


def whole_part(index: bytes, data: DataFile) -> Whole:
    """Return how much of a table is whole, from both files as they are: about 20 us an INSERT."""
    inserts = read_index(index)
    ends = list(_ends(inserts, data))
    while ends and not _can_be_read(data, inserts[len(ends) - 1], ends[-1]):
        ends.pop()
    whole = len(ends)
    return Whole(
        inserts=whole,
        rows=sum(insert.rows for insert in inserts[:whole]),
        data_bin_bytes=ends[-1] if ends else 0,
        index_mrk_bytes=inserts[whole - 1].index_end if ends else 0,
        rows_behind=sum(insert.rows for insert in inserts[whole:]),
    )


def ends_whole(index_tail: bytes, data: DataFile) -> bool:
    """Say whether the last INSERT is whole and ends where `data` ends: a glance at the end of both files.

    `index_tail` is the end of `index.mrk`, `TAIL_BYTES` of it or all there is.
    """
    insert = _last_insert(index_tail)
    if insert is None:
        return not index_tail and data.size == 0
    return _can_be_read(data, insert, data.size)


def _ends(inserts: list[Insert], data: DataFile) -> Iterator[int]:
    """Yield where each INSERT ends in `data.bin`, up to the first one that is not there as a whole."""
    start = 0
    for number, insert in enumerate(inserts):
        following = inserts[number + 1 : number + 2]
        try:
            if _frame_end(data, start) != insert.columns[0]:
                return
            _hop_through(data, insert.columns)
            try:
                start = _end_before(data, insert, following)
            except _Damaged:
                start = _end_by_counting(data, insert)
        except _Damaged:
            return
        yield start


def _hop_through(data: DataFile, columns: tuple[int, ...]) -> None:
    """Raise unless a frame begins at each of these offsets, and whole frames lie between them."""
    at = columns[0]
    for column in columns[1:]:
        while at < column:
            at = _frame_end(data, at)
        if at != column:
            raise _Damaged


def _end_before(data: DataFile, insert: Insert, following: list[Insert]) -> int:
    """Return the end of an INSERT that another one follows: where the small frame before that begins."""
    if not following:
        raise _Damaged
    end, at = 0, insert.columns[-1]
    while at < following[0].columns[0]:
        end, at = at, _frame_end(data, at)
    if at != following[0].columns[0] or end <= insert.columns[-1]:
        raise _Damaged
    return end


def _end_by_counting(data: DataFile, insert: Insert) -> int:
    """Return the end of an INSERT, found by counting the strings of its last column."""
    raw, at = bytearray(), insert.columns[-1]
    place, left = len(insert.last_head), insert.last_rows
    while left or place < len(raw):
        more, at = _frame(data, at)
        raw += more
        if not raw.startswith(insert.last_head):
            raise _Damaged
        while left:
            try:
                length, text = _varuint(raw, place)
            except _Damaged:
                break  # its length goes on in the next frame
            if text + length > len(raw):
                break  # so does the string
            place, left = text + length, left - 1
        if not left and place != len(raw):
            raise _Damaged
    return at


def _can_be_read(data: DataFile, insert: Insert, end: int) -> bool:
    """Say whether every frame of an INSERT can be decompressed and its last string ends at `end`."""
    try:
        _hop_through(data, insert.columns)
        at = insert.columns[0]
        while at < insert.columns[-1]:
            _, at = _frame(data, at)
        return _end_by_counting(data, insert) == end
    except _Damaged:
        return False


def _last_insert(tail: bytes) -> Insert | None:
    """Return what the last frame of an index says, searched from its end; None if there is none."""
    for at in range(len(tail) - _HEADER.size, -1, -1):
        method, size, _ = _HEADER.unpack_from(tail, at)
        if method in (_LZ4, _ZSTD, _NONE) and at + _HASH_BYTES + size == len(tail):
            try:
                raw, end = _frame(_in_memory(tail), at)
                return _insert(raw, end)
            except _Damaged:
                continue  # bytes that only looked like a frame
    return None


def _insert(raw: bytes, index_end: int) -> Insert:
    """Return what a decompressed frame of the index says."""
    at = rows = block_rows = 0
    offsets: list[int] = []
    head = b""
    while at < len(raw):
        columns, at = _varuint(raw, at)
        block_rows, at = _varuint(raw, at)
        rows += block_rows
        if not 0 < columns <= _MAX_COLUMNS:
            raise _Damaged
        for _ in range(columns):
            begin = at
            for _text in ("name", "type"):
                length, at = _varuint(raw, at)
                at += length
            head = raw[begin:at]
            if at + _OFFSETS.size > len(raw):
                raise _Damaged
            offset, within = _OFFSETS.unpack_from(raw, at)
            if within or (offsets and offset <= offsets[-1]):
                raise _Damaged
            offsets.append(offset)
            at += _OFFSETS.size
    if not offsets or not head.endswith(b"\x06String"):
        raise _Damaged
    return Insert(rows, tuple(offsets), block_rows, head, index_end)


def _frame(file: DataFile, at: int) -> tuple[bytes, int]:
    """Return a frame's decompressed payload and where the frame ends."""
    end = _frame_end(file, at)
    header = file.read(at, _HEADER.size)
    payload = file.read(at + _HEADER.size, end - at - _HEADER.size)
    method, _, raw_size = _HEADER.unpack(header)
    try:
        if method == _LZ4:
            payload = lz4.block.decompress(payload, uncompressed_size=raw_size)
        elif method == _ZSTD:
            payload = zstd.decompress(payload)
    except (lz4.block.LZ4BlockError, zstd.ZstdError) as error:
        raise _Damaged from error
    if len(payload) != raw_size:
        raise _Damaged
    return payload, end


def _frame_end(file: DataFile, at: int) -> int:
    """Return where the frame at this offset ends, from its header alone."""
    if at + _HEADER.size > file.size:
        raise _Damaged
    method, size, raw_size = _HEADER.unpack(file.read(at, _HEADER.size))
    end = at + _HASH_BYTES + int(size)
    possible = _SIZES_BYTES < size <= _MAX_BYTES and 0 < raw_size <= _MAX_BYTES
    if method not in (_LZ4, _ZSTD, _NONE) or not possible or end > file.size:
        raise _Damaged
    return end


def _varuint(raw: bytes | bytearray, at: int) -> tuple[int, int]:
    """Return a number of 7 bits a byte, the lowest first, and where it ends."""
    value = shift = 0
    while at < len(raw) and shift < 64:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise _Damaged


def _in_memory(raw: bytes) -> DataFile:
    return DataFile(len(raw), lambda at, count: raw[at : at + count])
