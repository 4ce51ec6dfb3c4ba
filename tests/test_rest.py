"""REST by the same way as the websocket: what comes back, and what a bad answer is told as."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate

import pytest

from mexcflow.errors import Banned, ConnectionLost, Misuse, Permanent
from mexcflow.pipeline.rest import Answer, fetch
from tests.test_proxies import SHORT_S


@contextmanager
def server(*answers: bytes, wait: bool = False) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives each caller one of these answers, and waits for it to go if told so."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answer in answers:
                client, _ = listener.accept()
                with client:
                    asked.append(client.recv(65536))
                    client.sendall(answer)
                    if wait:
                        client.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
        thread.join()


def ok(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = (f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", "")
    return "\r\n".join(lines).encode() + body


def test_an_answer_has_its_status_and_body():
    with server(ok(b"{}"), ok(b"no", status="404 Not Found"), ok(b"", status="500 Oops")) as (url, asked):
        assert fetch(f"{url}/a/b?c=d&e=%20") == Answer(200, b"{}")
        assert fetch(url) == Answer(404, b"no")
        assert fetch(url).status == 500
    head = asked[0].split(b"\r\n")
    assert head[0] == b"GET /a/b?c=d&e=%20 HTTP/1.1"
    assert b"Host: " + url.removeprefix("http://").encode() in head
    assert asked[1].startswith(b"GET / HTTP/1.1\r\n")


def test_an_answer_in_chunks_is_whole():
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with server(chunked) as (url, _):
        assert fetch(url).body == b"abcde"


def test_what_a_ban_asks_for_is_known_in_seconds_or_as_a_date():
    date = formatdate(4_000_000_000, usegmt=True)
    answers = [ok(b"", f"Retry-After: {asked}", status="429 Too Many") for asked in ("77", date)]
    with server(*answers) as (url, _):
        with pytest.raises(Banned, match="HTTP 429") as banned:
            fetch(url)
        assert banned.value.retry_after_s == 77
        with pytest.raises(Banned) as banned:
            fetch(url)
        assert banned.value.retry_after_s > 1e8


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"", "no HTTP"),
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "cut short"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", "cut short"),
        # who hangs up before we have read it all may be seen as a reset
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500, "no HTTP|reset|cut short"),
        (b"HTTP/1.1 200 OK\r\nCon", "cut short"),
        (b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nabc", "does not say its length"),
    ],
)
def test_half_an_answer_is_none(answer, says):
    with server(answer) as (url, _), pytest.raises(ConnectionLost, match=says):
        fetch(url)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1"])
def test_an_answer_that_does_not_end_is_given_up(answer):
    with (
        server(answer, wait=True) as (url, _),
        pytest.raises(ConnectionLost, match=r"no answer within 0\.4 s"),
    ):
        fetch(url, timeout_s=SHORT_S)


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 101\r\n\r\n" + b"x" * 101,
        b"Transfer-Encoding: chunked\r\n\r\n65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n",
    ],
)
def test_an_answer_longer_than_allowed_is_not_read(rest):
    answer = b"HTTP/1.1 200 OK\r\n" + rest
    with server(answer, answer) as (url, _):
        assert len(fetch(url, max_bytes=101).body) == 101
        with pytest.raises(Permanent, match="longer than 100 bytes"):
            fetch(url, max_bytes=100)


@pytest.mark.parametrize("url", ["ws://host/", "host", "", "http://", "http://[::1", "http://host:99999/"])
def test_what_is_no_url_is_misuse(url):
    with pytest.raises(Misuse, match="no URL"):
        fetch(url)


def test_nobody_there_is_told_with_the_address():
    with pytest.raises(ConnectionLost, match=r"http://127\.0\.0\.1:1/x: Connection refused"):
        fetch("http://127.0.0.1:1/x?secret=1")
