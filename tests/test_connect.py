"""The websocket line: whole messages out of whatever pieces the socket gives."""

import base64
import hashlib
import os
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from mexcflow.errors import ConnectionLost, Misuse
from mexcflow.pipeline.address import check_endpoint
from mexcflow.pipeline.connect import Line, open_line

TEXT, BINARY, CONTINUED, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA


def frame(payload: bytes, opcode: int = TEXT, *, fin: bool = True) -> bytes:
    head = bytes([(0x80 if fin else 0) | opcode])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 65536:
        return head + b"\x7e" + struct.pack(">H", len(payload)) + payload
    return head + b"\x7f" + struct.pack(">Q", len(payload)) + payload


def handshake(client: socket.socket, more: bytes = b"") -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        request += client.recv(4096)
    key = request.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
    token = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + token + b"\r\n" + more + b"\r\n"
    )
    return request


@contextmanager
def peer() -> Iterator[tuple[Line, socket.socket]]:
    """A line and the raw socket of the server behind it, after the handshake."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted: list[socket.socket] = []

        def accept() -> None:
            client, _ = server.accept()
            handshake(client)
            accepted.append(client)

        thread = threading.Thread(target=accept)
        thread.start()
        line = open_line(f"ws://127.0.0.1:{server.getsockname()[1]}/edge")
        thread.join()
        with accepted[0] as client:
            yield line, client
        line.shutdown()


def read_messages(line: Line, count: int) -> list[bytes]:
    messages: list[bytes] = []
    quiet = 0
    while len(messages) < count and quiet < 4:
        new = line.read()
        quiet = 0 if new else quiet + 1
        messages += new
    return messages


messages = st.lists(
    st.tuples(st.binary(max_size=400), st.sampled_from([TEXT, BINARY]), st.sampled_from([1, 1, 2, 3])),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(messages, st.lists(st.integers(1, 300), max_size=8), st.booleans())
def test_every_message_comes_out_once_and_in_order_however_it_was_cut(sent, cuts, pings):
    stream = b""
    for payload, opcode, pieces in sent:
        size = -(-len(payload) // pieces) or 1
        parts = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
        for number, part in enumerate(parts):
            kind = opcode if number == 0 else CONTINUED
            stream += frame(part, kind, fin=number == len(parts) - 1)
            if pings:
                stream += frame(b"are you there", PING)
    with peer() as (line, server):
        for cut in cuts:
            server.sendall(stream[:cut])
            stream = stream[cut:]
        server.sendall(stream)
        assert read_messages(line, len(sent)) == [payload for payload, _, _ in sent]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 200_000, 3_000_000])
def test_messages_of_every_length_field(size):
    payload = os.urandom(size)
    with peer() as (line, server):
        sending = threading.Thread(target=server.sendall, args=(frame(payload) + frame(b"next"),))
        sending.start()
        assert read_messages(line, 2) == [payload, b"next"]
        sending.join()


def test_a_frame_that_stops_in_the_middle_is_finished_after_the_time_out():
    with peer() as (line, server):
        whole = frame(b"x" * 200)
        for rest, cut in ((whole, 1), (whole, 3), (whole, 100), (frame(b"y" * 70_000, BINARY), 5)):
            server.sendall(rest[:cut])
            assert line.read() == []
            server.sendall(rest[cut:])
            assert len(read_messages(line, 1)) == 1


def test_a_ping_frame_that_stops_in_the_middle_is_finished_after_the_time_out():
    with peer() as (line, server):
        ping = frame(b"hello", PING)
        server.sendall(ping[:3])
        assert line.read() == []
        server.sendall(ping[3:] + frame(b"data"))
        assert read_messages(line, 1) == [b"data"]


def test_a_protocol_ping_is_answered_with_its_payload():
    with peer() as (line, server):
        server.sendall(frame(b"42", PING) + frame(b"data"))
        assert read_messages(line, 1) == [b"data"]
        head = server.recv(2, socket.MSG_WAITALL)
        assert head[0] & 0x0F == PONG
        mask, masked = server.recv(4, socket.MSG_WAITALL), server.recv(2, socket.MSG_WAITALL)
        assert bytes(a ^ b for a, b in zip(masked, mask, strict=False)) == b"42"


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (
            frame(struct.pack(">H", 1001) + b"going away", CLOSE),
            "closed by the exchange: code 1001 going away",
        ),
        (frame(b"", CLOSE), "closed by the exchange: code 1005"),
        (b"", "closed without a close frame"),
        (frame(b"cut")[:3], "closed without a close frame"),
        (b"\xf1\x01x", "websocket protocol"),
        (b"\x81\x7f" + struct.pack(">Q", 1 << 40), "bytes was announced"),
    ],
    ids=[
        "close frame",
        "empty close frame",
        "end of stream",
        "half a frame",
        "reserved bits",
        "absurd length",
    ],
)
def test_the_end_of_a_connection_comes_after_its_data_and_with_its_reason(last, reason):
    with peer() as (line, server):
        server.sendall(frame(b"data") + last)
        server.close()
        assert read_messages(line, 1) == [b"data"]
        with pytest.raises(ConnectionLost, match=reason):
            read_messages(line, 1)


def test_a_reset_is_told_as_one():
    with peer() as (line, server):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.close()
        with pytest.raises(ConnectionLost, match="reset"):
            read_messages(line, 1)


def test_a_refused_connection_names_the_address():
    with pytest.raises(ConnectionLost, match=r"ws://127\.0\.0\.1:1/edge: Connection refused"):
        open_line("ws://127.0.0.1:1/edge")


def test_a_server_that_is_no_websocket_is_told_as_such():
    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=answer_once, args=(server, b"HTTP/1.1 404 Not Found\r\n\r\n"))
        answering.start()
        with pytest.raises(ConnectionLost, match="HTTP 404"):
            open_line(f"ws://127.0.0.1:{server.getsockname()[1]}/")
        answering.join()


def test_no_cookie_is_carried_from_one_line_to_the_next():
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                client, _ = server.accept()
                with client:
                    asked.append(handshake(client, b"Set-Cookie: id=7; Domain=127.0.0.1\r\n"))

        serving = threading.Thread(target=serve)
        serving.start()
        for _ in range(2):
            open_line(f"ws://127.0.0.1:{server.getsockname()[1]}/edge").shutdown()
        serving.join()
    assert [b"cookie" in request.lower() for request in asked] == [False, False]


def answer_once(server: socket.socket, answer: bytes) -> bytes:
    client, _ = server.accept()
    with client:
        request = client.recv(4096)
        client.sendall(answer)
    return request


@contextmanager
def tls_server(authority: trustme.CA, send: bytes) -> Iterator[str]:
    """A websocket server behind TLS that sends some bytes and then waits for the client to go."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with socket.create_server(("localhost", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with suppress(OSError), context.wrap_socket(client, server_side=True) as secure:
                handshake(secure)
                secure.sendall(send)
                secure.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"wss://localhost:{server.getsockname()[1]}/edge"
        thread.join()


def test_the_real_exchange_speaks_tls_and_so_do_we(tmp_path, monkeypatch):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    sent = [os.urandom(size) for size in (10, 300, 40_000, 3)]
    with tls_server(authority, b"".join(map(frame, sent)) + frame(b"cut")[:2]) as url:
        line = open_line(url)
        assert read_messages(line, len(sent)) == sent
        assert line.read() == []  # half a frame, and the clock goes on
        line.shutdown()


def test_a_certificate_nobody_vouches_for_is_refused():
    with tls_server(trustme.CA(), b"") as url, pytest.raises(ConnectionLost, match=r"(?i)certificate"):
        open_line(url)


@pytest.mark.parametrize(
    "url", ["http://host/", "host:1", "", "wss://", "ws://h:99999/", "ws://h:0/", "ws://[::1"]
)
def test_what_is_no_websocket_url_is_misuse(url):
    with pytest.raises(Misuse, match="websocket"):
        check_endpoint(url, where="--endpoint")
