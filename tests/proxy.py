"""A proxy of our own: CONNECT and SOCKS 5, with user and password, over TLS, and with faults on request.

    with Proxy("socks5", user="me", password="secret") as proxy:
        connect(proxy.url)
        with proxy.stalling(): ...

It notes what it was asked for and from which address it went on, so that a test can tell its connections
from direct ones.
"""

import base64
import selectors
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self
from urllib.parse import quote

import trustme

LINGER_NOTHING = struct.pack("ii", 1, 0)


class Proxy:
    """One proxy on a free port of 127.0.0.1; `scheme` is http, https, socks5 or socks5h."""

    def __init__(
        self, scheme: str, *, user: str = "", password: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        self.scheme = scheme
        self._user, self._password = user, password
        self._tls = tls
        self.asked: list[str] = []
        """Every host:port it was asked for."""
        self.callers: list[str] = []
        """The host:port that each of its own connections came from."""
        self.refused = 0
        self._answer: tuple[int, dict[str, str]] | None = None
        self._reply = 0
        self._stall = self._drip = False
        self._room: int | None = None
        self._open: set[socket.socket] = set()
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        host = "localhost" if self._tls else "127.0.0.1"
        given = f"{quote(self._user, safe='')}:{quote(self._password, safe='')}@" if self._user else ""
        return f"{self.scheme}://{given}{host}:{self.port}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self.close()
        self.drop()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def close(self) -> None:
        """Listen no more: it is gone. Lines that stand go on."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def drop(self) -> None:
        """Cut every line."""
        for one in tuple(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def answering(self, status: int, **headers: str) -> Iterator[None]:
        """Answer every CONNECT with this status, every SOCKS request with this reply."""
        self._answer = (status, {key.replace("_", "-"): value for key, value in headers.items()})
        yield
        self._answer = None

    @contextmanager
    def stalling(self) -> Iterator[None]:
        """Take connections and say nothing."""
        self._stall = True
        yield
        self._stall = False

    @contextmanager
    def dripping(self) -> Iterator[None]:
        """Answer a byte now and then, and never to the end."""
        self._drip = True
        yield
        self._drip = False

    @contextmanager
    def cutting_after(self, size: int) -> Iterator[None]:
        """Cut each line after so many bytes towards the client."""
        self._room = size
        yield
        self._room = None

    def _start(self, work, *arguments) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with ExitStack() as stack, suppress(OSError):
            plain = client
            stack.callback(client.close)
            self._open.add(plain)
            stack.callback(self._open.discard, plain)
            if self._tls:
                client = stack.enter_context(self._tls.wrap_socket(client, server_side=True))
                self._open.add(client)
                stack.callback(self._open.discard, client)
            if self._stall:
                client.recv(65536)
                self._ending.wait()
            elif self._drip:
                self._dribble(client)
            elif target := self._negotiate(client):
                stack.callback(target.close)
                self._relay(client, target)
            else:
                self.refused += 1

    def _dribble(self, client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not self._ending.wait(0.05):
            client.sendall(b"x")

    def _negotiate(self, client: socket.socket) -> socket.socket | None:
        return self._connect(client) if "http" in self.scheme else self._socks(client)

    def _reach(self, host: str, port: int) -> socket.socket | None:
        try:
            target = socket.create_connection((host, port), timeout=10)
        except OSError:
            return None
        self.callers.append(":".join(map(str, target.getsockname())))
        return target

    def _connect(self, client: socket.socket) -> socket.socket | None:
        head = b""
        while b"\r\n\r\n" not in head:
            more = client.recv(4096)
            if not more:
                return None
            head += more
        address = head.split(b" ")[1].decode()
        self.asked.append(address)
        token = base64.b64encode(f"{self._user}:{self._password}".encode())
        if self._user and b"Proxy-Authorization: Basic " + token not in head:
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return None
        if self._answer:
            status, headers = self._answer
            lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
            client.sendall(f"HTTP/1.1 {status} As Told\r\n{lines}\r\n".encode())
            return None
        host, _, port = address.rpartition(":")
        target = self._reach(host.strip("[]"), int(port))
        if target is None:
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            return None
        for piece in (b"HTTP/1.1 200 Conn", b"ection established\r\nVia: he", b"re\r\n\r", b"\n"):
            client.sendall(piece)  # not every answer comes in one packet
            time.sleep(0.002)
        return target

    def _socks(self, client: socket.socket) -> socket.socket | None:
        methods = _exactly(client, _exactly(client, 2)[1])
        wanted = 2 if self._user else 0
        if wanted not in methods:
            client.sendall(b"\x05\xff")
            return None
        client.sendall(bytes([5, wanted]))
        if wanted:
            _exactly(client, 1)
            user, password = (_exactly(client, _exactly(client, 1)[0]) for _ in range(2))
            right = (user, password) == (self._user.encode(), self._password.encode())
            client.sendall(b"\x01\x00" if right else b"\x01\x01")
            if not right:
                return None
        kind = _exactly(client, 4)[3]
        if kind == 3:
            host = _exactly(client, _exactly(client, 1)[0]).decode()
        else:
            family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, _exactly(client, size))
        port = int.from_bytes(_exactly(client, 2), "big")
        self.asked.append(f"{host}:{port}")
        target = None if self._answer else self._reach(host, port)
        reply = self._answer[0] if self._answer else 0 if target else 5
        client.sendall(bytes([5, reply, 0, 1]) + b"\0" * 6)
        return target

    def _readable(self, *sockets: socket.socket) -> list[socket.socket]:
        with selectors.DefaultSelector() as selector:  # select() knows the first 1,024 descriptors only
            for one in sockets:
                selector.register(one, selectors.EVENT_READ)
            return [key.fileobj for key, _ in selector.select(0.5)]

    def _relay(self, client: socket.socket, target: socket.socket) -> None:
        """One thread for both ways: TLS must not be read and written at once."""
        room = self._room
        while not self._ending.is_set():
            waiting = isinstance(client, ssl.SSLSocket) and client.pending()
            ready = [client] if waiting else self._readable(client, target)
            for source in ready:
                data = source.recv(65536)
                if not data:
                    return
                if source is target and room is not None:
                    data, room = data[:room], room - len(data[:room])
                (target if source is client else client).sendall(data)
                if room == 0:
                    return


def _exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = client.recv(size - len(data))
        if not more:
            raise ConnectionError("the client hung up")
        data += more
    return data


class TlsFront(Proxy):
    """An exchange behind TLS: everything goes on to one port of this machine."""

    def __init__(self, target: str, tls: ssl.SSLContext) -> None:
        super().__init__("wss", tls=tls)
        self._target_port = int(target.rpartition(":")[2].partition("/")[0])

    def _negotiate(self, client: socket.socket) -> socket.socket | None:
        return self._reach("127.0.0.1", self._target_port)


class Authority:
    """Certificates for localhost, and the file that makes the package trust them."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.file = folder / "authority.pem"
        authority.cert_pem.write_to_path(self.file)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(self.context)
