"""A TCP proxy in front of an HTTP server, with faults that a test places exactly.

    with FaultProxy(front.port) as proxy, open_store(f"http://127.0.0.1:{proxy.port}") as store:
        with proxy.reset_after():        # until the block ends
            store.insert_rows(...)
        proxy.answer_500(times=1)        # the next INSERT only

A fault concerns INSERTs, and with `inserts_only=False` every request; with `times` the next so many of
them. The first fault placed that concerns a request meets it, and `fault.met` counts them. Only `refuse`
is there for all: nobody listens, and what was connected is cut.

It understands as much HTTP as our client speaks: requests one after the other on a connection, bodies of
a known length or chunked, an INSERT by its `query=INSERT` in the URL.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple

_PIECE_BYTES = 1 << 14
_RST = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of 0: close() then sends RST in place of FIN."""


class Cut(Exception):
    """One of the two sides is gone, or the proxy is being closed."""


class Fault:
    """A fault from its making until it is lifted: at the end of its `with`, or by `lift()`."""

    def __init__(
        self,
        kind: str,
        *,
        inserts_only: bool,
        times: int | None = None,
        bytes_per_s: float = 0,
        spares: int = 0,
    ) -> None:
        self.kind = kind
        self.inserts_only = inserts_only
        self.times = times
        self.bytes_per_s = bytes_per_s
        self.spares = spares
        """So many requests pass before the first that meets it."""
        self.met = 0
        self.lifted = threading.Event()
        self.executed = threading.Event()
        """The answer to a stalled request is there: it was executed."""

    def concerns(self, is_insert: bool) -> bool:
        spent = self.lifted.is_set() or (self.times is not None and self.met >= self.times)
        return not spent and (is_insert or not self.inserts_only)

    def lift(self) -> None:
        self.lifted.set()

    def __enter__(self) -> "Fault":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lift()


class Head(NamedTuple):
    """The first lines of a request or an answer, as they came."""

    raw: bytes
    is_insert: bool
    length: int | None
    """Bytes of the body; None: in chunks, -1: until the connection ends."""


class Side:
    """One end of a connection, read in lines and pieces."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._read = b""

    def _receive(self) -> None:
        try:
            piece = self.socket.recv(_PIECE_BYTES)
        except OSError:
            piece = b""
        if not piece:
            raise Cut
        self._read += piece

    def take_until(self, end: bytes) -> bytes:
        while end not in self._read:
            self._receive()
        found = self._read.index(end) + len(end)
        taken, self._read = self._read[:found], self._read[found:]
        return taken

    def take(self, length: int) -> Iterator[bytes]:
        while length:
            if not self._read:
                self._receive()
            taken, self._read = self._read[:length], self._read[length:]
            length -= len(taken)
            yield taken

    def head(self) -> Head:
        raw = self.take_until(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length: int | None = int(headers.get("content-length", -1 if first.startswith("HTTP/") else 0))
        if headers.get("transfer-encoding") == "chunked":
            length = None
        return Head(raw, "query=INSERT" in first, length)

    def body(self, head: Head) -> Iterator[bytes]:
        if head.length == -1:
            with contextlib.suppress(Cut):
                while True:
                    yield from self.take(len(self._read) or 1)
        elif head.length is not None:
            yield from self.take(head.length)
        else:
            size = 1
            while size:
                line = self.take_until(b"\r\n")
                size = int(line, 16)
                yield line
                yield from self.take(size + 2)

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError:
            raise Cut from None

    def reset(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            self.socket.shutdown(socket.SHUT_RD)  # wakes who reads from it
        self.socket.close()


class FaultProxy:
    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._sides: set[Side] = set()
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()
        self.port = 0
        self._listen()

    # the faults

    def reset_before(self, *, inserts_only: bool = True, times: int | None = None) -> Fault:
        """RST as soon as a request begins; nothing of it is forwarded."""
        return self._place(Fault("reset_before", inserts_only=inserts_only, times=times))

    def reset_after(self, *, inserts_only: bool = True, times: int | None = None) -> Fault:
        """RST in place of the answer: the request was executed."""
        return self._place(Fault("reset_after", inserts_only=inserts_only, times=times))

    def stall(self, *, inserts_only: bool = True, times: int | None = None) -> Fault:
        """The request was executed, and its answer does not come."""
        return self._place(Fault("stall", inserts_only=inserts_only, times=times))

    def hold(self, *, inserts_only: bool = True, times: int | None = None, spares: int = 0) -> Fault:
        """The request is taken, not forwarded, and no answer comes; `spares` so many before."""
        return self._place(Fault("hold", inserts_only=inserts_only, times=times, spares=spares))

    def answer_500(self, *, inserts_only: bool = True, times: int | None = None) -> Fault:
        """HTTP 500 without a code of ClickHouse; the request is not forwarded."""
        return self._place(Fault("answer_500", inserts_only=inserts_only, times=times))

    def slow(self, bytes_per_s: float, *, inserts_only: bool = True, times: int | None = None) -> Fault:
        """The bodies of requests pass at this speed, and at full speed once it is lifted."""
        return self._place(Fault("slow", inserts_only=inserts_only, times=times, bytes_per_s=bytes_per_s))

    @contextlib.contextmanager
    def refuse(self) -> Iterator[None]:
        """Nobody listens, and every connection is cut."""
        self._stop_listening()
        self._cut_all()
        try:
            yield
        finally:
            self._listen()

    def _place(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def _meet(self, is_insert: bool) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.concerns(is_insert):
                    if fault.spares:
                        fault.spares -= 1
                        continue
                    fault.met += 1
                    return fault
        return None

    # connections

    def __enter__(self) -> "FaultProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._stop_listening()
        for fault in self._faults:
            fault.lift()
        self._cut_all()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a connection of the proxy did not end"

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._start(self._accept, self._listener)

    def _stop_listening(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()

    def _cut_all(self) -> None:
        with self._lock:
            sides = list(self._sides)
        for side in sides:
            side.reset()

    def _start(self, run: object, *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                return
            self._start(self._serve, connection)

    @contextlib.contextmanager
    def _side(self, connection: socket.socket) -> Iterator[Side]:
        side = Side(connection)
        with self._lock:
            self._sides.add(side)
        try:
            yield side
        finally:
            with self._lock:
                self._sides.discard(side)
            side.socket.close()

    def _serve(self, connection: socket.socket) -> None:
        """Pass requests on and answers back until one side is gone."""
        with contextlib.suppress(Cut), self._side(connection) as client:
            try:
                upstream = socket.create_connection(("127.0.0.1", self._target_port))
                upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                client.reset()
                return
            with self._side(upstream) as server:
                while not self._closing.is_set():
                    self._pass(client, server)

    def _pass(self, client: Side, server: Side) -> None:
        head = client.head()
        fault = self._meet(head.is_insert)
        kind = fault.kind if fault else ""
        if fault and kind == "reset_before":
            client.reset()
            raise Cut
        if fault and kind in ("hold", "answer_500"):
            for _ in client.body(head):
                pass
            if kind == "hold":
                fault.lifted.wait()
                client.reset()
                raise Cut
            client.send(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops")
            return
        server.send(head.raw)
        for piece in client.body(head):
            if fault and fault.bytes_per_s:
                fault.lifted.wait(len(piece) / fault.bytes_per_s)
            server.send(piece)
        answer_head = server.head()
        answer = answer_head.raw + b"".join(server.body(answer_head))
        if fault and kind == "stall":
            fault.executed.set()
            fault.lifted.wait()
        if fault and kind in ("stall", "reset_after"):
            client.reset()
            raise Cut
        client.send(answer)
