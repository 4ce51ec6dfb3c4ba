"""One folder, many processes: one owns it, the others are its guests, and one of them takes over."""

import contextlib
import fcntl
import http.server
import json
import os
import socket
import stat
import threading
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from mexcflow.errors import FolderInUse, Misuse, StoreUnavailable
from mexcflow.store import ensure_table, open_store
from mexcflow.store.owner import Listen, holder, read_address
from tests.conftest import wait_for
from tests.worker import Failed, Worker

COUNT = "SELECT m FROM mexc_data.btc SETTINGS max_threads = 1"


@pytest.fixture
def data(tmp_path) -> Path:
    """A closed folder with a table."""
    with open_store(str(tmp_path / "data")) as store:
        ensure_table(store, "btc")
    return tmp_path / "data"


def ask(url: str, token: str, sql: str) -> str:
    """What a foreign client gets."""
    request = urllib.request.Request(url, data=sql.encode())
    request.add_header("Authorization", "Basic " + b64encode(f"default:{token}".encode()).decode())
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read().decode()


def once_more(worker: Worker, *texts: str) -> None:
    """Insert until the owner's death is over; it is noticed by an error, at most one for each death."""
    for _ in range(2):
        with contextlib.suppress(Failed):
            return worker.insert(*texts)
    return worker.insert(*texts)


def test_who_comes_later_works_through_the_one_who_came_first(data):
    with Worker(data) as first, Worker(data) as second, Worker(data) as third:
        assert (first.embedded, second.embedded, third.embedded) == (True, False, False)
        first.insert("a")
        second.insert("b")
        third.insert("c")
        for worker in (first, second, third):
            assert worker.query(COUNT) == [["a"], ["b"], ["c"]]
        assert holder(data).pid == first.pid
        with open_store(str(data)) as fourth:
            assert not fourth.embedded
            assert fourth.folder == data
            assert fourth.location == str(data)
            assert fourth.query(COUNT) == [("a",), ("b",), ("c",)]


def test_an_owner_that_is_killed_is_followed_by_a_guest_and_nothing_is_lost(data):
    with Worker(data) as first, Worker(data) as second, Worker(data) as third:
        first.insert("a")
        second.insert("b")
        first.kill()
        with pytest.raises(Failed, match="OwnerGone"):
            second.insert("c")
        second.insert("c")
        once_more(third, "d")
        assert (second.embedded, third.embedded) == (True, False)
        second.kill()
        once_more(third, "e")
        assert third.embedded
        assert third.query(COUNT) == [["a"], ["b"], ["c"], ["d"], ["e"]]


def test_an_owner_that_leaves_in_order_is_followed_as_well(data):
    with Worker(data) as first, Worker(data) as second:
        first.insert("a")
        assert first.close() == 0
        assert holder(data) is None
        assert read_address(data).url == ""
        once_more(second, "b")
        assert second.embedded
        assert holder(data).pid == second.pid
        assert second.query(COUNT) == [["a"], ["b"]]


def test_what_a_dead_owner_left_behind_is_no_obstacle(data):
    with Worker(data) as dead:
        dead.kill()
        left = read_address(data)
        assert left.pid == dead.pid
        assert left.url
    with open_store(str(data)) as store:
        assert store.embedded
        assert read_address(data).owner != left.owner


def test_of_six_who_come_at_once_to_a_new_folder_one_owns_it(tmp_path):
    workers = [Worker(tmp_path / "data") for _ in range(6)]
    try:
        for worker in workers:
            worker.wait_until_open()
        assert sum(worker.embedded for worker in workers) == 1
        for worker in workers:  # all of them at the same time
            worker.tell("table", "btc")
        created = [thing for worker in workers for thing in worker._answer()]
        assert "table mexc_data.btc" in created
        for number, worker in enumerate(workers):
            worker.insert(f"{number}")
        assert workers[0].query(COUNT) == [[f"{number}"] for number in range(6)]
    finally:
        for worker in workers:
            worker.kill()


class TestTheFile:
    def test_says_where_and_only_the_user_can_read_it(self, data):
        with Worker(data) as owner:
            file = data / "endpoint.json"
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            told = json.loads(file.read_text())
            assert told["pid"] == owner.pid
            assert told["url"].startswith("http://127.0.0.1:")
            assert len(told["token"]) >= 32
            assert ask(told["url"], told["token"], "SELECT 6 * 7") == "42\n"
            with pytest.raises(urllib.error.HTTPError) as refused:
                ask(told["url"], told["token"][:-1], "SELECT 6 * 7")
            assert refused.value.code == 403

    def test_keeps_its_token_from_owner_to_owner(self, data):
        tokens = []
        for _ in range(2):
            open_store(str(data)).close()
            tokens.append(read_address(data).token)
        assert tokens[0] == tokens[1]

    @pytest.mark.parametrize("how", ["deleted", "others could read it", "not ours"])
    def test_gets_a_new_token_when_the_old_one_is_gone_or_known(self, data, how):
        before = read_address(data).token
        file = data / "endpoint.json"
        if how == "deleted":
            file.unlink()
        elif how == "not ours":
            file.write_text("{}")
        else:
            file.chmod(0o644)
        open_store(str(data)).close()
        assert read_address(data).token not in ("", before)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_another_folder_has_another_token(self, data, tmp_path):
        open_store(str(tmp_path / "other")).close()
        assert read_address(tmp_path / "other").token != read_address(data).token


class TestThePort:
    def test_is_the_one_that_was_asked_for(self, data):
        port = free_port()
        with open_store(str(data), listen=Listen(port=port)) as store:
            assert store.address.url == f"http://127.0.0.1:{port}"
        with open_store(str(data), listen=Listen(port=port)) as store:  # at once again
            assert store.address.url == f"http://127.0.0.1:{port}"

    def test_that_is_taken_is_misuse_and_the_folder_stays_free(self, data):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(Misuse, match=str(port)):
                open_store(str(data), listen=Listen(port=port))
        assert holder(data) is None
        open_store(str(data)).close()

    def test_that_is_taken_does_not_keep_a_guest_from_taking_over(self, data):
        port = free_port()
        with Worker(data) as first, Worker(data, port=port) as second:
            first.kill()
            with socket.create_server(("127.0.0.1", port)):
                once_more(second, "a")
                assert second.embedded
                assert second.ask("url") not in ("", f"http://127.0.0.1:{port}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


class TestSomebodyElse:
    """What is not the owner is not taken for it."""

    def test_who_answers_in_the_owners_place_is_not_believed(self, data):
        with (
            an_owner_who(data, answers=True),
            pytest.raises(StoreUnavailable, match="another process answers"),
        ):
            open_store(str(data), timeout_s=1)

    def test_an_owner_that_does_not_answer_is_69(self, data):
        with an_owner_who(data, answers=False), pytest.raises(StoreUnavailable) as caught:
            open_store(str(data), timeout_s=1)
        assert caught.value.exit_code == 69

    def test_to_be_alone_is_refused_with_the_owners_pid(self, data):
        with Worker(data) as owner, pytest.raises(FolderInUse, match=f"PID {owner.pid}"):
            open_store(str(data), alone=True)


@contextlib.contextmanager
def an_owner_who(data: Path, *, answers: bool) -> Iterator[None]:
    """Hold the lock, with an address where something else answers to everything, or nobody."""

    class Anything(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"26.9\tx")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Anything)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    if answers:
        thread.start()
    else:
        server.server_close()
    lock = os.open(data / "owner.lock", os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.ftruncate(lock, 0)
        os.write(lock, b'{"pid": 1, "owner": "x"}')
        url = f"http://127.0.0.1:{server.server_port}"
        (data / "endpoint.json").write_text(json.dumps({"url": url, "token": "t", "pid": 1, "owner": "x"}))
        yield
    finally:
        os.close(lock)
        if answers:
            server.shutdown()
            server.server_close()


class TestTheFileWhileItIsInUse:
    """Whatever becomes of `endpoint.json`, the owner puts it back, and nobody hangs or ends by it."""

    @pytest.mark.parametrize("what", ["gone", "empty", "rubbish", "another's", "a pipe"])
    def test_comes_back(self, data, what):
        with Worker(data) as owner:
            owner.insert("a")
            file = data / "endpoint.json"
            spoil(file, what)
            with Worker(data) as guest:
                assert not guest.embedded
                guest.insert("b")
            assert json.loads(file.read_text())["pid"] == owner.pid
            assert owner.query(COUNT) == [["a"], ["b"]]


def test_a_lock_that_was_deleted_is_taken_again(data):
    with Worker(data) as owner:
        (data / "owner.lock").unlink()
        wait_for(lambda: holder(data) is not None)
        assert holder(data).pid == owner.pid
        with Worker(data) as guest:
            assert not guest.embedded
        owner.kill()
    with open_store(str(data)) as store:
        assert store.embedded


def test_a_folder_in_place_of_the_file_lets_nobody_in_and_harms_nobody(data):
    with Worker(data) as owner, Worker(data) as guest:
        spoil(data / "endpoint.json", "a folder")
        with pytest.raises(StoreUnavailable, match="does not say where"):
            open_store(str(data), timeout_s=1)
        guest.insert("a")
        owner.kill()
        once_more(guest, "b")
        assert guest.query(COUNT) == [["a"], ["b"]]


def spoil(file: Path, what: str) -> None:
    """Do to the file what nobody should."""
    told = json.loads(file.read_text())
    file.unlink()
    if what == "empty":
        file.write_text("")
    elif what == "rubbish":
        file.write_text("not JSON")
    elif what == "another's":
        file.write_text(json.dumps({**told, "owner": "x", "url": "http://127.0.0.1:1"}))
    elif what == "a pipe":
        os.mkfifo(file)
    elif what == "a folder":
        file.mkdir()
