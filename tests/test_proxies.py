"""The ways to an exchange: every kind of proxy, TLS inside and outside, and what each fault is told as."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from mexcflow.errors import Banned, BannedByProxy, ConnectionLost, Misuse, ProxyRefused
from mexcflow.pipeline.address import check_proxies, parse_proxy, redacted
from mexcflow.pipeline.connect import Line, open_line
from mexcflow.pipeline.rest import fetch
from mexcflow.pipeline.secure import TlsInTls
from mexcflow.simulator import Simulator
from tests.conftest import wait_for
from tests.proxy import Authority, Proxy, TlsFront

SCHEMES = ("http", "https", "socks5", "socks5h")
HTTP = ("http", "https")
SOCKS = ("socks5", "socks5h")
NOWHERE = "ws://127.0.0.1:1/edge"
SHORT_S = 0.4


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    for name in ("http_proxy", "https_proxy", "ALL_PROXY"):  # nobody may look at these
        monkeypatch.setenv(name, "http://127.0.0.1:1")


@contextmanager
def proxied(scheme: str, authority: Authority, **more: str) -> Iterator[Proxy]:
    with Proxy(scheme, tls=authority.context if scheme == "https" else None, **more) as proxy:
        yield proxy


@contextmanager
def behind_tls(exchange: Simulator, authority: Authority, *, wanted: bool = True) -> Iterator[str]:
    """The exchange's URL, or that of a TLS front before it."""
    if not wanted:
        yield exchange.url
        return
    with TlsFront(exchange.url, authority.context) as front:
        yield f"wss://localhost:{front.port}/edge"


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def subscribe(line: Line) -> None:
    line.transmit(b'{"method":"sub.deal","param":{"symbol":"BTC_USDT"}}')
    assert b"rs.sub.deal" in read(line, 1)[0]


def read(line: Line, count: int) -> list[bytes]:
    messages: list[bytes] = []
    until = time.monotonic() + 10
    while len(messages) < count and time.monotonic() < until:
        messages += line.read()
    return messages


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("scheme", ["", *SCHEMES])
def test_every_kind_of_proxy_carries_the_stream_and_rest(exchange, authority, scheme, tls):
    with ExitStack() as stack:
        url = stack.enter_context(behind_tls(exchange, authority, wanted=tls))
        proxy = stack.enter_context(proxied(scheme, authority)) if scheme else None
        line = open_line(url, proxy.url if proxy else "")
        subscribe(line)
        sent = [os.urandom(size) for size in (1, 200, 70_000, 700_000, 5)]
        sending = threading.Thread(target=lambda: [exchange.send_binary(one) for one in sent])
        sending.start()
        assert read(line, len(sent)) == sent
        sending.join()
        if tls:
            assert line.read() == []  # a quiet line lets the clock go on
        exchange.send(b"more")
        assert read(line, 1) == [b"more"]
        ping = url.replace("ws", "http", 1).replace("/edge", "/api/v1/contract/ping")
        answer = fetch(ping, proxy=proxy.url if proxy else "")
        assert (answer.status, answer.body[:15]) == (200, b'{"success":true')
        line.shutdown()
        if proxy and not tls:
            assert exchange.callers == proxy.callers
        assert len(exchange.callers) == 2


@pytest.mark.parametrize("scheme", ["", *SCHEMES])
def test_a_blocked_read_is_woken_up_and_the_socket_is_closed(exchange, authority, scheme):
    with ExitStack() as stack:
        url = stack.enter_context(behind_tls(exchange, authority))
        proxy = stack.enter_context(proxied(scheme, authority)).url if scheme else ""
        line = open_line(url, proxy)
        line.settimeout(None)
        assert isinstance(line.sock, TlsInTls) == (scheme == "https")
        errors: list[Exception] = []

        def wait() -> None:
            try:
                line.read()
            except ConnectionLost as lost:
                errors.append(lost)

        reading = threading.Thread(target=wait)
        reading.start()
        time.sleep(0.1)
        line.abort()
        reading.join(5)
        assert not reading.is_alive()
        assert len(errors) == 1
        sock = line.sock
        line.shutdown()
        assert sock.fileno() == -1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_user_and_password_may_have_any_character(exchange, authority, scheme):
    user, password = "m@e/ä", "se:cr%t/?#@ ö\u20ac"
    with proxied(scheme, authority, user=user, password=password) as proxy:
        assert "%C3%A4" in proxy.url
        open_line(exchange.url, proxy.url).shutdown()
        assert proxy.refused == 0


@pytest.mark.parametrize("given", ["", "me:wrong@", "you:secret@", "me@"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_who_is_not_let_in_is_told_so_without_the_password(exchange, authority, scheme, given):
    with proxied(scheme, authority, user="me", password="secret") as proxy:
        url = proxy.url.replace("me:secret@", given)
        with pytest.raises(ProxyRefused) as refused:
            open_line(exchange.url, url)
        address = proxy.url.rpartition("@")[2]
        assert f"proxy {scheme}://{address}" in refused.value.what
        assert not {"secret", "wrong", "me@", "you"} & set(refused.value.what.replace(":", " ").split())
        assert refused.value.exit_code == 2
    assert exchange.callers == []


def test_socks5_looks_names_up_here_and_socks5h_there(exchange, authority):
    url = exchange.url.replace("127.0.0.1", "localhost")
    asked = {}
    for scheme in SOCKS:
        with proxied(scheme, authority) as proxy:
            open_line(url, proxy.url).shutdown()
            asked[scheme] = proxy.asked[0].rpartition(":")[0]
    assert asked == {"socks5": "127.0.0.1", "socks5h": "localhost"}


def test_a_name_that_nobody_knows_is_no_fault_of_the_proxy(authority):
    with proxied("socks5", authority) as proxy, pytest.raises(ConnectionLost, match=r"nope\.invalid"):
        open_line("ws://nope.invalid/edge", proxy.url)
    assert proxy.asked == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_exchange_that_is_down_behind_a_proxy_is_no_fault_of_the_proxy(authority, scheme):
    with proxied(scheme, authority) as proxy, pytest.raises(ConnectionLost, match=r"127\.0\.0\.1:1 through"):
        open_line(NOWHERE, proxy.url)


@pytest.mark.parametrize(
    ("scheme", "status", "error"),
    [
        *(("http", status, ConnectionLost) for status in (500, 502, 503, 504)),
        *(("socks5", reply, ConnectionLost) for reply in (1, 3, 4, 5, 6)),
        *(("http", status, ProxyRefused) for status in (302, 400, 404, 407)),
        *(("socks5", reply, ProxyRefused) for reply in (2, 7, 8)),
        *(("https", status, BannedByProxy) for status in (403, 451)),
        *(("http", status, Banned) for status in (418, 429)),
    ],
)
def test_what_a_proxy_answers_is_sorted_once(exchange, authority, scheme, status, error):
    with proxied(scheme, authority) as proxy, proxy.answering(status), pytest.raises(error) as raised:
        open_line(exchange.url, proxy.url)
    assert type(raised.value) is error
    assert exchange.callers == []


@pytest.mark.parametrize("status", [403, 429])
def test_what_a_proxy_asks_for_after_a_ban_is_known(exchange, authority, status):
    with proxied("http", authority) as proxy, proxy.answering(status, Retry_After="4000"):
        with pytest.raises((Banned, BannedByProxy), match=f"HTTP {status}") as raised:
            open_line(exchange.url, proxy.url)
        assert raised.value.retry_after_s == 4000


@pytest.mark.parametrize("status", [403, 418, 429, 451])
@pytest.mark.parametrize("scheme", ["", "http", "socks5h"])
def test_a_ban_by_the_exchange_is_told_with_its_status(exchange, authority, scheme, status):
    with ExitStack() as stack:
        proxy = stack.enter_context(proxied(scheme, authority)).url if scheme else ""
        stack.enter_context(exchange.banned(status, 7200))
        with pytest.raises(Banned, match=f"HTTP {status}") as raised:
            open_line(exchange.url, proxy)
        assert raised.value.retry_after_s == 7200
        assert ("through proxy" in raised.value.what) == bool(proxy)
        with pytest.raises(Banned, match=f"HTTP {status}") as raised:
            fetch(exchange.url.replace("ws", "http", 1), proxy=proxy)
        assert raised.value.retry_after_s == 7200


def test_another_status_is_no_ban(exchange):
    with exchange.banned(404), pytest.raises(ConnectionLost, match="HTTP 404") as raised:
        open_line(exchange.url)
    assert not isinstance(raised.value, Banned)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_proxy_that_is_not_there(scheme):
    with pytest.raises(ProxyRefused, match=rf"proxy {scheme}://127\.0\.0\.1:1: .*refused"):
        open_line(NOWHERE, f"{scheme}://127.0.0.1:1")


@pytest.mark.parametrize(
    ("scheme", "fault"),
    [*((scheme, "stalling") for scheme in SCHEMES), *((scheme, "dripping") for scheme in HTTP)],
)
def test_a_proxy_that_never_finishes_its_answer(authority, scheme, fault):
    with (
        proxied(scheme, authority) as proxy,
        getattr(proxy, fault)(),
        pytest.raises(ProxyRefused, match=r"no answer within 0\.4 s"),
    ):
        open_line(NOWHERE, proxy.url, timeout_s=SHORT_S)


def test_a_proxy_whose_tls_stalls():
    with Proxy("http") as plain, plain.stalling():
        url = plain.url.replace("http://127.0.0.1", "https://localhost")
        with pytest.raises(ProxyRefused, match=r"no answer within 0\.4 s"):
            open_line(NOWHERE, url, timeout_s=SHORT_S)


@pytest.mark.parametrize(
    ("spoken", "url"), [("http", "https://localhost"), ("https", "http://localhost"), ("http", "socks5://x")]
)
def test_a_proxy_that_speaks_another_language(authority, spoken, url):
    with proxied(spoken, authority) as proxy, pytest.raises(ProxyRefused):
        open_line(NOWHERE, f"{url}:{proxy.port}".replace("x:", "127.0.0.1:"), timeout_s=SHORT_S)


def test_a_proxy_whose_certificate_nobody_vouches_for(authority, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    with proxied("https", authority) as proxy, pytest.raises(ProxyRefused, match="CERTIFICATE_VERIFY_FAILED"):
        open_line(NOWHERE, proxy.url)


def test_an_exchange_whose_certificate_is_wrong_is_no_fault_of_the_proxy(exchange, authority, tmp_path):
    other = Authority(tmp_path)
    with (
        behind_tls(exchange, other) as url,
        proxied("https", authority) as proxy,
        pytest.raises(ConnectionLost, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        open_line(url, proxy.url)


def test_an_exchange_that_says_nothing_behind_a_proxy(authority):
    with socket.create_server(("127.0.0.1", 0)) as silent, proxied("socks5", authority) as proxy:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}/edge"
        with pytest.raises(ConnectionLost, match=r"through proxy socks5://.*: no answer within 0\.4 s"):
            open_line(url, proxy.url, timeout_s=SHORT_S)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_proxy_that_cuts_the_line_in_the_middle_of_a_message(exchange, authority, scheme):
    with proxied(scheme, authority) as proxy, proxy.cutting_after(1000):
        line = open_line(exchange.url, proxy.url)
        subscribe(line)
        exchange.send(b"whole")
        exchange.send(b"x" * 5000)
        assert read(line, 1) == [b"whole"]
        with pytest.raises(ConnectionLost, match="closed without a close frame"):
            read(line, 1)
        line.shutdown()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_past_the_proxy(authority, status):
    with socket.create_server(("127.0.0.1", 0)) as trap, socket.create_server(("127.0.0.1", 0)) as liar:
        trap.settimeout(0.2)
        elsewhere = f"127.0.0.1:{trap.getsockname()[1]}"
        url = f"ws://127.0.0.1:{liar.getsockname()[1]}/edge"

        def redirect() -> None:
            for scheme in ("ws", "http"):
                client, _ = liar.accept()
                with client:
                    client.recv(4096)
                    client.sendall(
                        f"HTTP/1.1 {status} Over There\r\nLocation: {scheme}://{elsewhere}/\r\n"
                        "Content-Length: 0\r\n\r\n".encode()
                    )

        answering = threading.Thread(target=redirect)
        answering.start()
        with proxied("http", authority) as proxy:
            with pytest.raises(ConnectionLost, match=r"(?i)redirect"):
                open_line(url, proxy.url)
            assert fetch(url.replace("ws", "http", 1), proxy=proxy.url).status == status
            assert len(proxy.asked) == 2
        answering.join()
        with pytest.raises(TimeoutError):
            trap.accept()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nVia: he",
        b"\x05\x00\n\n",
        b"HTTP/1.1 200",
        b"x" * 70_000,
        b"HTTP/1.1 OK\r\n\r\n",
    ],
    ids=["nothing", "half a head", "socks", "half a line", "endless", "no status"],
)
def test_an_answer_that_is_no_whole_head_is_no_consent(answer):
    with socket.create_server(("127.0.0.1", 0)) as liar:

        def lie() -> None:
            client, _ = liar.accept()
            with client:
                client.recv(4096)
                client.sendall(answer)

        answering = threading.Thread(target=lie)
        answering.start()
        with pytest.raises(ProxyRefused, match=r"hung up after \d+ bytes|speaks no HTTP|reset"):
            open_line(NOWHERE, f"http://127.0.0.1:{liar.getsockname()[1]}")
        answering.join()


def test_no_line_is_left_open_by_what_failed(exchange, authority):
    before = open_files()
    for scheme in SCHEMES:
        with proxied(scheme, authority, user="me", password="secret") as proxy:
            for url in (proxy.url, proxy.url.replace("secret", "wrong")):
                with pytest.raises((ConnectionLost, ProxyRefused)):
                    open_line(NOWHERE, url)
    with exchange.banned(), pytest.raises(Banned):
        open_line(exchange.url)
    wait_for(lambda: open_files() <= before)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host:1",
        "127.0.0.1:8080",
        "http://",
        "",
        "socks4://host:1",
        "socks5://host:99999999",
        "http://host:0",
        "http://[::1",
        "http://me:12/34@host:1",
        "http://me:12?34@host:1",
        "http://me:12#34@host:1",
        "http://host:1/path",
        "http://me%ff:x@host:1",
        "http://m%3Ae:x@host:1",
        "socks5://" + "m" * 256 + ":x@host:1",
    ],
)
def test_what_is_no_proxy_is_misuse_and_no_password_is_shown(url):
    with pytest.raises(Misuse, match=r"instances/btc\.toml") as raised:
        check_proxies((url,), where="instances/btc.toml")
    assert "34" not in str(raised.value)


def test_a_proxy_that_is_given_twice_is_misuse():
    with pytest.raises(Misuse, match="twice"):
        check_proxies(("http://a:1", "http://b:1", "http://a:1"), where="command line")


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://a", "a", 80),
        ("https://a", "a", 443),
        ("socks5://a/", "a", 1080),
        ("socks5h://[::1]:9", "::1", 9),
    ],
)
def test_host_and_port_of_a_proxy(url, host, port):
    proxy = parse_proxy(url)
    assert (proxy.host, proxy.port, proxy.user, proxy.password) == (host, port, "", "")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("socks5://me:se@cret@host:1", "socks5://host:1"),
        ("socks5://host:1", "socks5://host:1"),
        ("me:secret@host:1", "host:1"),
        ("wss://me:secret@host/edge?token=secret", "wss://host/edge"),
        ("http:/me:secret@host:1", "host:1"),
        ("http://me:se?cret@host:1", "http://..."),
        ("wss://host/edge?token=sec@ret", "wss://..."),
        ("http://@host:1", "http://host:1"),
        ("http://me:secret", "http://..."),
        ("me:secret", "..."),
        ("socks5://[::1]:9", "socks5://[::1]:9"),
        ("wss://host:8443/edge", "wss://host:8443/edge"),
        ("ws://host/a:b", "ws://host/a:b"),
        ("", ""),
    ],
)
def test_user_and_password_are_taken_out_for_messages(url, shown):
    assert redacted(url) == shown
