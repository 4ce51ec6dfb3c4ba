"""Passwords: where a server's comes from, and that none is ever printed, logged or written down."""

import base64
import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mexcflow.errors import Misuse, StatementRefused
from mexcflow.ops.instances import read_instances
from mexcflow.simulator import Simulator
from mexcflow.store import open_store
from mexcflow.store.credentials import read_address, shown_location
from tests.conftest import MEXCFLOW, environment, wait_for
from tests.http_front import HttpFront

MARK = "gEhEiM"
ODD = f"{MARK} @/#%?:&+ü"
ENCODED = f"{MARK}%20%40%2F%23%25%3F%3A%26%2B%C3%BC"


@pytest.fixture
def front(tmp_path_factory) -> Iterator[HttpFront]:
    """A server whose user `rec` has the odd password."""
    folder = tmp_path_factory.mktemp("server")
    with open_store(str(folder)) as embedded, HttpFront(embedded, ODD, user="rec") as front:
        yield front


# where it comes from


def password_of(location: str) -> str:
    return read_address(location).password


def test_the_url_comes_before_the_environment_and_that_before_the_file(tmp_path, monkeypatch):
    file = tmp_path / "secret"
    file.write_text("of the file\n")
    assert password_of("http://rec@host") == ""
    monkeypatch.setenv("MEXCFLOW_PASSWORD_FILE", str(file))
    assert password_of("http://rec@host") == "of the file"
    monkeypatch.setenv("MEXCFLOW_PASSWORD", "")  # as docker compose passes a variable that is not set
    assert password_of("http://rec@host") == "of the file"
    monkeypatch.setenv("MEXCFLOW_PASSWORD", "of the environment")
    assert password_of("http://rec@host") == "of the environment"
    assert password_of("http://rec:of%20the%20url@host") == "of the url"
    assert password_of("http://rec:@host") == ""
    assert password_of("http://host") == ""  # it is of a user that was named


def test_a_password_of_the_environment_or_a_file_is_taken_as_it_is(tmp_path, monkeypatch, front):
    url = f"http://rec@127.0.0.1:{front.port}"
    with open_store(url.replace("rec", f"rec:{ENCODED}")) as store:
        assert store.query("SELECT 1") == [(1,)]
    monkeypatch.setenv("MEXCFLOW_PASSWORD", ODD)
    with open_store(url) as store:
        assert store.location == url
    monkeypatch.setenv("MEXCFLOW_PASSWORD", ENCODED)
    with pytest.raises(StatementRefused, match="MEXCFLOW_PASSWORD"):
        open_store(url)
    monkeypatch.delenv("MEXCFLOW_PASSWORD")
    for end in ("", "\n", "\r\n"):
        (tmp_path / "secret").write_bytes(f"{ODD}{end}".encode())
        monkeypatch.setenv("MEXCFLOW_PASSWORD_FILE", str(tmp_path / "secret"))
        open_store(url).close()


@pytest.mark.parametrize("contents", [None, b"", b"\n", b"\xff\xfe"])
def test_a_password_file_that_cannot_be_used_is_misuse(tmp_path, monkeypatch, contents):
    file = tmp_path / "secret"
    if contents is not None:
        file.write_bytes(contents)
    monkeypatch.setenv("MEXCFLOW_PASSWORD_FILE", str(file))
    with pytest.raises(Misuse, match=f"MEXCFLOW_PASSWORD_FILE: {file}"):
        password_of("http://rec@host")


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("./data", "./data"),
        ("http://host:8123", "http://host:8123"),
        ("http://rec@host", "http://rec@host"),
        (f"http://rec:{MARK}@host:8123", "http://rec@host:8123"),
        (f"http://rec:{MARK}@/{MARK}@host", "http://rec@host"),
    ],
)
def test_a_location_is_shown_without_its_password(location, shown):
    assert shown_location(location) == shown


@pytest.mark.parametrize("password", ["a/b", "a#b", "a?b", "a@b/c"])
def test_a_password_that_breaks_the_url_is_misuse_that_says_what_to_do(password):
    with pytest.raises(Misuse) as caught:
        read_address(f"http://rec:{MARK}{password}@host")
    assert "percent-encoded" in caught.value.hint
    assert "MEXCFLOW_PASSWORD" in caught.value.hint
    assert MARK not in str(caught.value)


# that it is never shown

COMMANDS = {
    "setup": ["setup", "--json"],
    "run": ["run", "--symbol", "BTC_USDT", "--duration", "1", "--flush-interval", "0.1"],
    "verify": ["verify"],
    "sql": ["sql", "SELECT nothing FROM nowhere", "--log-format", "json"],
    "rebuild": ["rebuild", "--symbol", "BTC_USDT", "--json"],
}
INSTANCE = 'symbol = "BTC_USDT"\ndatabase = "{database}"\nproxy = "{proxy}"\nendpoint = "{endpoint}"\n'


def run_all(
    folder: Path, database: str, *, proxy: str = "", endpoint: str = "", through: str = "flag", **env: str
) -> dict[str, tuple[int, str]]:
    """Run every command, in a folder each; return exit codes and output, which hold no password."""
    started = {}
    for number, (name, arguments) in enumerate(COMMANDS.items()):
        cwd = folder / str(number)
        (cwd / "instances").mkdir(parents=True)
        typed = ["--log-level", "debug"]
        if through == "flag":
            typed += ["--database", database]
        if name == "run" and through != "file":
            typed += [*(["--proxy", proxy] if proxy else []), *(["--endpoint", endpoint] if endpoint else [])]
        if through == "environment":
            env["MEXCFLOW_DATABASE"] = database
        if through == "file":
            text = INSTANCE.format(database=database, proxy=proxy, endpoint=endpoint)
            (cwd / "instances/btc.toml").write_text(text)
        started[name] = cwd, subprocess.Popen(
            [*MEXCFLOW, *arguments, *typed], cwd=cwd, env=environment(**env), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    found = {}
    for name, (cwd, process) in started.items():
        output, _ = process.communicate(timeout=60)
        assert holds_no_password(output.encode()), output
        for file in cwd.rglob("*"):
            if file.is_file() and file.name != "btc.toml":
                assert holds_no_password(file.read_bytes()), file
        found[name] = process.returncode, output
    return found


def holds_no_password(data: bytes) -> bool:
    headers = [base64.b64encode(f"rec:{one}".encode()) for one in (ODD, ENCODED, MARK)]
    return not any(one in data for one in [MARK.encode(), *headers])


def codes(found: dict[str, tuple[int, str]]) -> dict[str, int]:
    return {name: code for name, (code, _) in found.items()}


def test_a_server_that_is_not_there_is_told_without_the_password(tmp_path):
    found = run_all(tmp_path, f"http://rec:{ENCODED}@127.0.0.1:1", proxy=f"http://u:{MARK}@127.0.0.1:1")
    assert codes(found) == {"setup": 69, "run": 69, "verify": 69, "sql": 69, "rebuild": 2}
    assert "http://rec@127.0.0.1:1: " in found["setup"][1]


def test_a_wrong_password_is_told_without_it(tmp_path, front):
    front.password = "another"
    url = f"http://rec:{ENCODED}@127.0.0.1:{front.port}"
    found = run_all(
        tmp_path, url, through="environment", endpoint=f"ws://u:{MARK}@127.0.0.1:1/edge?key={MARK}"
    )
    assert set(codes(found).values()) == {2}
    assert "Authentication failed" in found["verify"][1]


def test_what_works_shows_the_password_nowhere(tmp_path, front):
    with Simulator(speed=20) as exchange:
        endpoint = exchange.url.replace("ws://", f"ws://u:{MARK}@") + f"?key={MARK}"
        found = run_all(
            tmp_path, f"http://rec@127.0.0.1:{front.port}", through="file", endpoint=endpoint,
            MEXCFLOW_PASSWORD=ODD,
        )  # fmt: skip
    assert (codes(found)["setup"], codes(found)["run"]) == (0, 0), found
    assert f'"http://rec@127.0.0.1:{front.port}"' in found["setup"][1]


def test_a_proxy_that_is_not_there_is_told_without_the_password(tmp_path, front):
    url = f"http://rec:{ENCODED}@127.0.0.1:{front.port}"
    proxy = f"socks5h://u:{MARK}%40@127.0.0.1:1"
    found = run_all(tmp_path, url, through="file", proxy=proxy, endpoint=f"wss://host/edge?key={MARK}")
    assert "proxy socks5h://127.0.0.1:1" in found["run"][1]
    assert "instances/btc.toml holds a password, and every user may read it" in found["run"][1]


def test_a_server_that_goes_away_while_it_is_recorded_to_is_told_without_the_password(start, tmp_path, front):
    with Simulator(speed=20) as exchange:
        running = start(
            "run", "--symbol", "BTC_USDT", "--endpoint", exchange.url, "--log-level", "debug",
            "--database", f"http://rec:{ENCODED}@127.0.0.1:{front.port}", "--flush-interval", "0.1",
        )  # fmt: skip
        wait_for(lambda: front.inserts, what=running.err)
        front.hangs_up = True
        wait_for(lambda: "insert into btc" in running.err)
        assert running.stop(within=15) == 69
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or holds_no_password(file.read_bytes())


@pytest.mark.parametrize(
    "typed",
    [
        ["run", "--symbol", "BTC_USDT", f"http://rec:{MARK}@host"],
        ["run", "--symbol", "BTC_USDT", "--proxy", f"rec:{MARK}@host"],
        ["run", "--symbol", "BTC_USDT", "--endpoint", f"http://rec:{MARK}@host"],
        ["verify", "--database", f"rec:{MARK}@host:8123"],
        ["repair", "--database", f"rec:{MARK}@host:8123"],
        ["setup", "--database", f"rec:{MARK}@host:8123"],
        ["simulate", f"http://rec:{MARK}@host"],
    ],
    ids=lambda typed: typed[0][:8],
)
def test_what_was_typed_wrongly_is_told_without_the_password(tmp_path, typed):
    done = subprocess.run(
        [*MEXCFLOW, *typed], cwd=tmp_path, env=environment(), capture_output=True, timeout=30, check=False
    )
    assert done.returncode != 0
    assert holds_no_password(done.stdout + done.stderr), done.stderr.decode()


# files that others may read


@pytest.mark.parametrize(
    ("line", "holds"),
    [
        (f'database = "http://rec:{MARK}@127.0.0.1:1"', True),
        (f'proxy = "socks5://u:{MARK}@h:1"', True),
        ('database = "http://rec@127.0.0.1:1"', False),
        ('database = "./data"', False),
    ],
)
def test_an_instance_file_with_a_password_that_everyone_may_read_is_warned_of_once(
    tmp_path, caplog, line, holds
):
    file = tmp_path / "btc.toml"
    file.write_text(f'symbol = "BTC_USDT"\n{line}\n')
    logger = logging.getLogger("mexcflow.ops.exposure")
    logger.addHandler(caplog.handler)
    try:
        for mode, warned in [(0o600, False), (0o640, False), (0o644, holds), (0o604, False)]:
            caplog.clear()
            file.chmod(mode)
            read_instances(tmp_path)
            assert (f"chmod o-r {file}" in caplog.text) == warned
            assert MARK not in caplog.text
    finally:
        logger.removeHandler(caplog.handler)
