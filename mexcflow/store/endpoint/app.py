"""The endpoint as an ASGI application: one request from its head to its end.

The event loop reads bodies and sends results; a statement runs in a worker thread. An INSERT goes on to
its end when its client has gone, a SELECT is killed.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from mexcflow.store.endpoint.answer import Answer, Send
from mexcflow.store.endpoint.engine import Engine, Outcome
from mexcflow.store.endpoint.form import LONGEST_BYTES, fields, is_form
from mexcflow.store.endpoint.pipe import Pipe
from mexcflow.store.endpoint.refusal import ClientGone, Refusal
from mexcflow.store.endpoint.request import Gate, Request
from mexcflow.store.endpoint.running import Running
from mexcflow.store.endpoint.upload import Upload

logger = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

LIMIT = 32
"""Statements that run at once; fifty instances that come at the same time wait for one another."""

_WAIT_S = 3.0
"""How long a statement waits for its turn before it is refused."""

_PIECE_BYTES = 1 << 20
_KILL_EVERY_S = 0.1
_SWEEP_EVERY_S = 1.0


class App:
    """Answers requests; `draining` makes it refuse new ones."""

    def __init__(self, folder: Path, engine: Engine, gate: Gate, workers: Executor, owner: str) -> None:
        self._folder = folder
        self._engine = engine
        self._gate = gate
        self._workers = workers
        self._owner = owner
        self._host = socket.gethostname()
        self._turns = asyncio.Semaphore(LIMIT)
        self._sweeper: asyncio.Task[None] | None = None
        self.draining = False

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        headers = {"X-Mexcflow-Owner": self._owner, "X-ClickHouse-Server-Display-Name": self._host}
        answer = Answer(request, send, headers, self._folder)
        try:
            await self._answer(request, receive, answer, headers)
        except ClientGone:
            # uvicorn cuts the connection of an answer that does not come to its end
            logger.debug("a client went away, or its result failed")
        except Refusal as refusal:
            await answer.refuse(refusal)
        except Exception as error:
            logger.exception("a statement ended in an unexpected way")
            if not answer.begun:
                await answer.refuse(Refusal(1002, f"{type(error).__name__}: {error}"))

    async def _answer(
        self, request: Request, receive: Receive, answer: Answer, headers: dict[str, str]
    ) -> None:
        self._gate.check_site(request)
        if request.method not in ("GET", "HEAD", "POST"):
            raise Refusal(0, f"{request.method} is not spoken here: GET reads, POST writes\n", status=405)
        if request.path == "/ping" or request.asks_nothing:
            await answer.text(b"Ok.\n")
            return
        self._gate.check_sender(request)
        if request.path != "/":
            raise Refusal(0, f"There is no handle {request.path[:80]}\n", status=404)
        if self.draining:
            raise Refusal(202, "The owner of the folder is going down")
        for name in ("compress", "decompress"):
            if request.flag(name):
                raise Refusal(48, f"{name}=1 is not spoken here: use Content-Encoding and Accept-Encoding")
        running = self._engine.statements.enter(request.parameters.get("query_id", ""))
        try:
            headers["X-ClickHouse-Query-Id"] = running.query_id
            headers["X-ClickHouse-Timezone"] = request.settings["session_timezone"] or "UTC"
            await self._statement(request, receive, answer, running)
        finally:
            self._engine.statements.leave(running)

    async def _statement(self, request: Request, receive: Receive, answer: Answer, running: Running) -> None:
        kind = request.headers.get("content-type", "")
        if request.has_body and is_form(kind):
            request.parameters |= fields(kind, await _form(receive))
        upload = self._engine.upload(request)
        try:
            rest = b""
            if request.has_body and not is_form(kind):
                rest = await _received(receive, upload)
            await self._execute(request, receive, answer, _Job(upload, rest, running))
        finally:
            upload.close()

    async def _execute(self, request: Request, receive: Receive, answer: Answer, job: "_Job") -> None:
        await self._turn()
        if "session_id" in request.parameters and self._sweeper is None:
            self._sweeper = asyncio.create_task(self._drop_idle_sessions())
        gone = asyncio.ensure_future(_gone(receive))
        pipe = Pipe(gone)
        outcome = asyncio.get_running_loop().run_in_executor(self._workers, self._run, request, job, pipe)
        pipe.ends_with(outcome)
        try:
            fmt = request.default_format
            await answer.send_result(pipe, fmt, outcome)
        finally:
            pipe.stop_reading()
            gone.cancel()
            try:
                await self._until_ended(job, outcome)
                pipe.close()
            finally:
                self._turns.release()

    async def _turn(self) -> None:
        try:
            async with asyncio.timeout(_WAIT_S):
                await self._turns.acquire()
        except TimeoutError:
            raise Refusal(202, f"Too many simultaneous queries. Maximum: {LIMIT}") from None

    async def _drop_idle_sessions(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_EVERY_S)
            await asyncio.to_thread(self._engine.sessions.drop_idle)

    def _run(self, request: Request, job: "_Job", pipe: Pipe) -> Outcome:
        """Execute a statement; the one thing that worker threads do."""
        try:
            if job.rest:
                job.upload.feed(job.rest)
            job.upload.finish()
            return self._engine.run(request, job.upload, job.running, pipe.write_end)
        finally:
            job.running.mark = ""  # the engine is done with it

    async def _until_ended(self, job: "_Job", outcome: "asyncio.Future[Outcome]") -> None:
        """Wait until the engine is done with a statement; one that only reads is told to end."""
        while not outcome.done():
            if job.upload.reads:
                await asyncio.get_running_loop().run_in_executor(
                    self._workers, self._engine.statements.kill, job.running
                )
            await asyncio.wait({outcome}, timeout=_KILL_EVERY_S)
        with contextlib.suppress(Refusal):
            await outcome


class _Job:
    def __init__(self, upload: Upload, rest: bytes, running: Running) -> None:
        self.upload = upload
        self.rest = rest
        self.running = running


async def _received(receive: Receive, upload: Upload) -> bytes:
    """Take the body in; return its last piece, which the worker takes. Raises `ClientGone` for a cut one."""
    piece = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(piece)
        if len(piece) >= _PIECE_BYTES:
            await asyncio.to_thread(upload.feed, bytes(piece))
            piece.clear()


async def _form(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > LONGEST_BYTES:
            raise Refusal(62, f"The form is longer than {LONGEST_BYTES} bytes", status=413)
        if not message.get("more_body", False):
            return bytes(body)


async def _gone(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
