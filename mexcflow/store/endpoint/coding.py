"""Content-Encoding: what clients send packed, and what they want packed."""

import zlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Protocol

from mexcflow.store.endpoint.refusal import Refusal

_PIECE = 1 << 20
"""At most this much comes out of a decoder at a time, however small what went in."""

WANTED = ("lz4", "zstd", "gzip", "deflate")
"""In the order in which an answer is packed when a client takes several: the cheapest first."""


class Encoder(Protocol):
    """Packs an answer piece by piece."""

    def compress(self, data: bytes, /) -> bytes:
        """Return what comes out for `data`; may be nothing yet."""

    def flush(self) -> bytes:
        """Return what is left, with the end of the format."""


def _zstd() -> ModuleType:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        from backports import zstd
    found: ModuleType = zstd
    return found


def _lz4() -> ModuleType:
    try:
        import lz4.frame as lz4
    except ImportError:
        raise Refusal(48, "lz4 is not installed here: use gzip or zstd") from None
    found: ModuleType = lz4
    return found


def _decompressor(name: str) -> Any:  # noqa: ANN401, three libraries' own
    if name in ("gzip", "x-gzip"):
        return zlib.decompressobj(wbits=31)
    if name == "deflate":
        return zlib.decompressobj()
    if name == "zstd":
        return _zstd().ZstdDecompressor()
    if name == "lz4":
        return _lz4().LZ4FrameDecompressor()
    raise Refusal(48, f"Content-Encoding {name[:40]} is not taken: use gzip, deflate, zstd, lz4 or none")


class Decoder:
    """Unpacks a body piece by piece, also one of several frames one after the other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._inner = _decompressor(name)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what comes out for `data`, a megabyte at a time; raises `Refusal` for what is broken."""
        try:
            while data:
                if self._inner.eof:
                    self._inner = _decompressor(self._name)
                self._begun = True
                yield from self._frame(data)
                data = self._inner.unused_data if self._inner.eof else b""
        except Refusal:
            raise
        except (zlib.error, RuntimeError, _zstd().ZstdError) as error:
            raise Refusal(117, f"The body is not {self._name}: {error}", status=400) from error

    def _frame(self, data: bytes) -> Iterator[bytes]:
        inner = self._inner
        if self._name not in ("zstd", "lz4"):
            while piece := inner.decompress(data, _PIECE):
                yield piece
                data = inner.unconsumed_tail
            return
        piece = inner.decompress(data, max_length=_PIECE)
        while piece:
            yield piece
            if inner.eof or inner.needs_input:
                return
            piece = inner.decompress(b"", max_length=_PIECE)

    def finish(self) -> None:
        """Raise `Refusal` when the body ended before its encoding did."""
        if self._begun and not self._inner.eof:
            raise Refusal(33, f"Cannot read all data: the body's {self._name} is cut", status=400)


def wanted(accept: str) -> str:
    """Return how to pack for a client that accepts this; '' for not at all."""
    names = {
        part.partition(";")[0].strip().lower()
        for part in accept.split(",")
        if "q=0" not in part.split(";")[1:]
    }
    return next((name for name in WANTED if name in names), "")


def encoder(name: str) -> Encoder:
    """Return what packs an answer; loopback is fast, so the quickest level."""
    if name == "lz4":
        return _Lz4()
    if name == "zstd":
        packed: Encoder = _zstd().ZstdCompressor(level=1)
        return packed
    return zlib.compressobj(1, wbits=31 if name == "gzip" else 15)


class _Lz4:
    def __init__(self) -> None:
        self._inner = _lz4().LZ4FrameCompressor()
        self._head: bytes = self._inner.begin()

    def compress(self, data: bytes, /) -> bytes:
        head, self._head = self._head, b""
        return head + bytes(self._inner.compress(data))

    def flush(self) -> bytes:
        head, self._head = self._head, b""
        return head + bytes(self._inner.flush())
