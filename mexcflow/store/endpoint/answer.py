"""The answer: held back until its end or its first megabyte, then streamed; packed when the client wants it.

A failure before that becomes a status and an exception code. A failure behind it is written into the
stream, after the marker that current servers send, and the connection is cut: no short result looks whole.
"""

import asyncio
import re
import secrets
import tempfile
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import IO, Any

import orjson

from mexcflow.store.endpoint.coding import Encoder, encoder, wanted
from mexcflow.store.endpoint.engine import Outcome
from mexcflow.store.endpoint.pipe import Pipe
from mexcflow.store.endpoint.refusal import ClientGone, Refusal
from mexcflow.store.endpoint.request import Request
from mexcflow.store.endpoint.upload import check_disk, no_space

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_HELD_BYTES = 1 << 20
_HELD_S = 0.1
"""A result that comes slowly is streamed after so long, and not held until there is a megabyte of it."""
_SMALL_BYTES = 1 << 16
"""Packed by the event loop itself; more is packed in a thread."""
_SPOOL_BYTES = 1 << 24
"""Of a result that the client wants only as a whole so much is in memory, the rest on the disk."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_CONTENT_TYPES = {
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "CSVWithNamesAndTypes": "text/csv; charset=UTF-8; header=present",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "XML": "application/xml; charset=UTF-8",
    "Markdown": "text/markdown; charset=UTF-8",
}
_BEGINNINGS = {
    "JSON": "application/json; charset=UTF-8",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    "Pretty": "text/plain; charset=UTF-8",
    "Vertical": "text/plain; charset=UTF-8",
    "Values": "text/plain; charset=UTF-8",
}


def content_type(fmt: str) -> str:
    """Return the media type of a ClickHouse format."""
    if fmt in _CONTENT_TYPES:
        return _CONTENT_TYPES[fmt]
    return next(
        (kind for name, kind in _BEGINNINGS.items() if fmt.startswith(name)), "application/octet-stream"
    )


class Answer:
    """One answer. `headers` go with it, whatever it becomes."""

    def __init__(self, request: Request, send: Send, headers: dict[str, str], folder: Path) -> None:
        self._request = request
        self._send = send
        self._headers = headers
        self._folder = folder
        self._tag = secrets.token_hex(8)
        self.begun = False

    async def send_result(self, pipe: Pipe, fmt: str, outcome: "asyncio.Future[Outcome]") -> None:
        """Send what comes through the pipe, and how it ended; raises `Refusal` while nothing was sent."""
        whole = self._request.flag("wait_end_of_query")
        with tempfile.SpooledTemporaryFile(_SPOOL_BYTES, dir=str(self._folder)) as held:
            ended = await self._hold(pipe, held, whole=whole)
            if ended:
                await self._send_whole(await outcome, held)
            else:
                held.seek(0)
                await self._stream(held.read(), pipe, fmt, outcome)

    async def _hold(self, pipe: Pipe, held: IO[bytes], *, whole: bool) -> bool:
        """Keep the beginning of a result; return whether it is all of it."""
        loop, until, size = asyncio.get_running_loop(), None, 0
        while True:
            left = None if until is None else max(until - loop.time(), 0)
            chunk = await pipe.read(left)
            if chunk == b"":
                return True
            if chunk:
                size += len(chunk)
                if size > _SPOOL_BYTES:
                    await asyncio.to_thread(self._keep, held, chunk)
                else:
                    held.write(chunk)
            if whole:
                continue
            if chunk is None or size >= _HELD_BYTES:
                return False
            until = until or loop.time() + _HELD_S

    def _keep(self, held: IO[bytes], chunk: bytes) -> None:
        check_disk(self._folder, len(chunk))
        try:
            held.write(chunk)
        except OSError as error:
            raise no_space("this result", error) from error

    async def _send_whole(self, outcome: Outcome, held: IO[bytes]) -> None:
        size = held.seek(0, 2) + len(outcome.body)
        held.seek(0)
        headers = _headers_of(outcome)
        if size <= _HELD_BYTES:
            body = held.read() + outcome.body
            packed = self._packed() if body else None
            if packed:
                body = await _pack_all(packed, body)
            await self._start(200, {**headers, **self._length(len(body))}, packed=packed)
            await self._end(body)
            return
        packed = self._packed()
        await self._start(200, headers if packed else {**headers, **self._length(size)}, packed=packed)
        while chunk := await asyncio.to_thread(held.read, _HELD_BYTES):
            await self._part(chunk, packed)
        await self._end(packed.flush() if packed else b"")

    async def _stream(self, first: bytes, pipe: Pipe, fmt: str, outcome: "asyncio.Future[Outcome]") -> None:
        packed = self._packed()
        await self._start(200, _headers_of(Outcome(fmt)), packed=packed)
        await self._part(first, packed)
        try:
            while chunk := await pipe.read():
                await self._part(chunk, packed)
                await asyncio.sleep(0)  # others have their turn, also when there is always more to read
            await outcome
        except Refusal as refusal:
            failure = self._failure(refusal)
            await self._send_part((packed.compress(failure) + packed.flush()) if packed else failure)
            raise ClientGone from refusal  # which cuts the connection
        await self._end(packed.flush() if packed else b"")

    def _failure(self, refusal: Refusal) -> bytes:
        """Return an error as servers write it into a stream: marker, tag, text, its length, tag, marker."""
        text, tag = refusal.text.encode() + b"\n", self._tag.encode()
        mark = b"__exception__"
        return b"\r\n%b\r\n%b\r\n%b%d %b\r\n%b\r\n" % (mark, tag, text, len(text), tag, mark)

    async def refuse(self, refusal: Refusal) -> None:
        """Send an error in place of a result."""
        text = refusal.text if refusal.text.endswith("\n") else refusal.text + "\n"
        body = text.encode("utf-8", "replace")
        headers = {"Content-Type": "text/plain; charset=UTF-8", "Content-Length": str(len(body))}
        if refusal.code:
            headers["X-ClickHouse-Exception-Code"] = str(refusal.code)
        await self._start(refusal.status, headers)
        await self._end(body)

    async def text(self, body: bytes) -> None:
        """Send a fixed text."""
        await self._start(200, {"Content-Type": "text/html; charset=UTF-8", "Content-Length": str(len(body))})
        await self._end(body)

    def _packed(self) -> Encoder | None:
        self._encoding = ""
        if self._request.flag("enable_http_compression"):
            self._encoding = wanted(self._request.headers.get("accept-encoding", ""))
        return encoder(self._encoding) if self._encoding else None

    def _length(self, size: int) -> dict[str, str]:
        return {"Content-Length": str(size)}

    async def _start(self, status: int, headers: dict[str, str], *, packed: Encoder | None = None) -> None:
        self.begun = True
        given = {**self._headers, **headers, "X-ClickHouse-Exception-Tag": self._tag}
        if packed:
            given["Content-Encoding"] = self._encoding
        pairs = [
            (name.encode("latin-1"), _CONTROLS.sub(" ", value).encode("latin-1", "replace"))
            for name, value in given.items()
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def _part(self, data: bytes, packed: Encoder | None) -> None:
        if packed:
            data = await asyncio.to_thread(packed.compress, data)
        if data:
            await self._send_part(data)

    async def _send_part(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def _end(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": False})


async def _pack_all(packed: Encoder, body: bytes) -> bytes:
    def pack() -> bytes:
        return packed.compress(body) + packed.flush()

    return pack() if len(body) <= _SMALL_BYTES else await asyncio.to_thread(pack)


def _headers_of(outcome: Outcome) -> dict[str, str]:
    summary = {
        "read_rows": str(outcome.read_rows),
        "read_bytes": str(outcome.read_bytes),
        "written_rows": str(outcome.written_rows),
        "written_bytes": str(outcome.written_bytes),
        "total_rows_to_read": "0",
        "result_rows": str(outcome.read_rows if outcome.format else outcome.written_rows),
        "result_bytes": "0",
        "elapsed_ns": str(int(outcome.elapsed_s * 1e9)),
    }
    headers = {"X-ClickHouse-Summary": orjson.dumps(summary).decode()}
    if outcome.format:
        headers["X-ClickHouse-Format"] = outcome.format
    headers["Content-Type"] = content_type(outcome.format) if outcome.format else "text/plain; charset=UTF-8"
    return headers
