"""The connections to a server over a long time: when one is used again, and what a dead peer costs."""

import contextlib
import os
import socket
import ssl
import threading

import psutil
import pytest
import trustme
from clickhouse_connect.driver import httputil

from mexcflow.errors import Misuse, StatementRefused, StoreUnavailable
from mexcflow.store import Store, ensure_table, open_store, table_state
from mexcflow.store.connections import idle_limit_s, make_pool
from mexcflow.store.patience import Patience, PatientPool
from mexcflow.store.server import open_server
from tests.conftest import wait_for
from tests.http_front import HttpFront

ROWS = [(1700000000000 + i, "d", f"84055|{i}|1") for i in range(10)]


class Hand:
    """A clock that a test moves."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def embedded(tmp_path):
    with open_store(str(tmp_path)) as store:
        ensure_table(store, "btc")
        yield store


@pytest.fixture
def front(embedded):
    with HttpFront(embedded) as front:
        yield front


def ask(pool, front: HttpFront) -> int:
    """Send a request; return the client's port: another one is another connection."""
    answer = pool.request("POST", f"http://127.0.0.1:{front.port}/", body=b"SELECT 1")
    assert answer.data == b"1\n"
    return front.peers[-1]


@pytest.mark.parametrize(
    ("said", "reused_s", "renewed_s"),
    [("", 1.9, 2.0), ("timeout=3", 0.9, 1.0), ("timeout=10, max=9999", 7.9, 8.0), ("timeout=30", 27.9, 28.0)],
)
def test_an_idle_connection_is_not_used_when_the_server_is_about_to_close_it(
    front, said, reused_s, renewed_s
):
    clock = Hand()
    pool = make_pool(None, clock=clock)
    front.keep_alive = said
    first = ask(pool, front)
    clock.now_s += reused_s
    assert ask(pool, front) == first
    clock.now_s += renewed_s
    assert ask(pool, front) != first


def test_a_connection_is_renewed_in_time_however_busy_it_is(front):
    clock = Hand()
    pool = make_pool(None, clock=clock)
    front.keep_alive = "timeout=10"
    used = []
    for _ in range(250):
        used.append(ask(pool, front))
        clock.now_s += 5
    assert len(set(used)) == 3
    assert used.count(used[0]) == 600 / 5


@pytest.mark.parametrize(
    ("header", "limit_s"),
    [(None, 2), ("", 2), ("max=5", 2), ("timeout=1", 0), ("timeout=0", 0), ("max=5, timeout=60", 58)],
)
def test_what_a_server_says_about_its_connection(header, limit_s):
    assert idle_limit_s(header) == limit_s


def test_a_recording_uses_one_connection_and_closes_it_at_its_end(front):
    front.keep_alive = "timeout=10"
    store = open_store(f"http://127.0.0.1:{front.port}")
    for _ in range(20):
        store.insert_rows("btc", ROWS)
        table_state(store, "btc")
    assert len(set(front.peers)) == 1
    assert len(connections_to(front.port)) == 1
    store.close()
    assert connections_to(front.port) == []


def test_attempts_to_open_a_server_leave_no_connection(front):
    front.refuse_with = (500, 202, "Code: 202. DB::Exception: Too many simultaneous queries. (TOO_MANY)")
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            open_store(f"http://127.0.0.1:{front.port}")
    front.refuse_with = (403, 516, "Code: 516. DB::Exception: password is incorrect. (AUTHENTICATION_FAILED)")
    with pytest.raises(StatementRefused):
        open_store(f"http://127.0.0.1:{front.port}")
    assert connections_to(front.port) == []
    assert not any(isinstance(one, PatientPool) for one in httputil.all_managers)  # which are never forgotten


def connections_to(port: int) -> list:
    """This process's connections to that port."""
    found = psutil.Process().net_connections("tcp4")
    return [one for one in found if one.raddr and one.raddr.port == port]


def test_every_socket_notices_a_peer_that_is_silently_gone(front):
    with open_store(f"http://127.0.0.1:{front.port}") as store:
        store.query("SELECT 1")
        (used,) = connections_to(front.port)
        with socket.socket(fileno=os.dup(used.fd)) as one:
            options = [one.getsockopt(socket.IPPROTO_TCP, option) for option in (
                socket.TCP_NODELAY, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT,
                socket.TCP_USER_TIMEOUT)]  # fmt: skip
            assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert options == [1, 15, 5, 3, 30_000]


def test_the_environments_proxy_variables_are_not_for_the_database(front, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with open_store(f"http://127.0.0.1:{front.port}") as store:
        assert store.query("SELECT 1") == [(1,)]


# a server that closes


class Script:
    """A TCP server before a front: what it does with each connection is the test's; it counts requests."""

    def __init__(self, front: HttpFront, serve) -> None:
        self.front = front
        self.inserts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._serve = serve
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> "Script":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            one.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                one, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(one)
            with contextlib.suppress(OSError):
                self._serve(self, one)

    def pass_on(self, one: socket.socket) -> None:
        """One request through to the front and its answer back."""
        request = b""
        while not whole(request):
            if not (more := one.recv(1 << 16)):
                raise ConnectionError
            request += more
        self.inserts += b"query=INSERT" in request
        with socket.create_connection(("127.0.0.1", self.front.port)) as through:
            through.sendall(request)
            answer = b""
            while not whole(answer):
                answer += through.recv(1 << 16)
        one.sendall(answer)


def whole(message: bytes) -> bool:
    head, found, body = message.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        return body.endswith(b"0\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(found) and len(body) >= int(lengths[0].split(b":")[1] if lengths else 0)


def test_a_server_that_closes_each_connection_after_its_answer_costs_no_insert(front):
    """It says nothing beforehand, as one does that is stopped or whose idle time is over."""

    def serve(script: Script, one: socket.socket) -> None:
        script.pass_on(one)
        one.close()

    with Script(front, serve) as script, open_store(f"http://127.0.0.1:{script.port}") as store:
        for _ in range(10):
            wait_for(
                lambda: not any(one.status == psutil.CONN_ESTABLISHED for one in connections_to(script.port))
            )
            store.insert_rows("btc", ROWS)
        assert script.inserts == 10
    assert rows(front.store) == 100


def test_an_insert_into_a_connection_that_is_just_being_closed_is_sent_once_and_told(front):
    """The race that nobody can see: the request is on its way when the connection is reset."""
    cut = threading.Event()

    def serve(script: Script, one: socket.socket) -> None:
        while one.recv(1, socket.MSG_PEEK):
            if cut.is_set():
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # RST
                one.close()
                cut.clear()
                return
            script.pass_on(one)

    with Script(front, serve) as script, open_store(f"http://127.0.0.1:{script.port}") as store:
        cut.set()
        with pytest.raises(StoreUnavailable, match="insert into btc"):
            store.insert_rows("btc", ROWS)
        wait_for(lambda: not cut.is_set())
        assert script.inserts == 0
        assert rows(front.store) == 0
        store.insert_rows("btc", ROWS)
        assert script.inserts == 1
    assert rows(front.store) == 10


def rows(store: Store) -> int:
    return table_state(store, "btc").rows


def test_a_peer_that_stops_reading_ends_an_insert_and_holds_nothing_up_for_ever(front):
    silent = threading.Event()

    def serve(script: Script, one: socket.socket) -> None:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        while one.recv(1, socket.MSG_PEEK) and not silent.is_set():
            script.pass_on(one)

    patience = Patience(connect_s=0.5, insert_s=60, query_s=60)
    many = [(1700000000000, "dl", "x" * 490)] * 60_000
    with Script(front, serve) as script, open_server(f"http://127.0.0.1:{script.port}", patience) as store:
        silent.set()
        with pytest.raises(StoreUnavailable, match="insert into btc"):
            store.insert_rows("btc", many)
        assert script.inserts == 0


# TLS


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(embedded, ca):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(server)
    with HttpFront(embedded, "geheim", tls=server) as front:
        yield front


def url(front: HttpFront, host: str = "127.0.0.1", scheme: str = "https") -> str:
    return f"{scheme}://default:geheim@{host}:{front.port}"


def test_a_certificate_of_ones_own_ca_is_accepted_when_it_is_named(secure, ca, tmp_path, monkeypatch):
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("MEXCFLOW_CA_FILE", str(tmp_path / "ca.pem"))
    secure.keep_alive = "timeout=10"
    with open_store(url(secure)) as store:
        store.insert_rows("btc", ROWS)
        assert rows(store) == 10
        assert len(set(secure.peers)) == 1
    with pytest.raises(StoreUnavailable, match="certificate is not accepted"):
        open_store(url(secure, "localhost"))


def test_the_systems_variable_for_certificates_works_as_well(secure, ca, tmp_path, monkeypatch):
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with open_store(url(secure)) as store:
        assert store.query("SELECT 1") == [(1,)]


def test_a_certificate_that_nobody_vouches_for_is_told_in_a_line(secure):
    with pytest.raises(StoreUnavailable) as caught:
        open_store(url(secure))
    assert "certificate is not accepted: unable to get local issuer certificate" in caught.value.what
    assert "MEXCFLOW_CA_FILE" in caught.value.hint
    assert "geheim" not in str(caught.value)
    assert secure.requests == []  # the password was not sent


def test_https_to_a_port_of_plain_http_says_so(front):
    with pytest.raises(StoreUnavailable) as caught:
        open_store(url(front))
    assert "https://" in caught.value.hint


@pytest.mark.parametrize("contents", [None, b"", b"nonsense"])
def test_a_file_of_certificates_that_cannot_be_used_is_misuse(secure, tmp_path, monkeypatch, contents):
    file = tmp_path / "ca.pem"
    if contents is not None:
        file.write_bytes(contents)
    monkeypatch.setenv("MEXCFLOW_CA_FILE", str(file))
    with pytest.raises(Misuse, match=f"MEXCFLOW_CA_FILE: {file}"):
        open_store(url(secure))
