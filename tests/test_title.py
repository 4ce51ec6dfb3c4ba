"""The process's title shows what runs, and no password."""

import socket
from pathlib import Path

import pytest

from mexcflow.cli.title import hidden, hidden_in_message
from tests.conftest import wait_for


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("run", "run"),
        ("BTC_USDT", "BTC_USDT"),
        ("--database", "--database"),
        ("./data", "./data"),
        ("/srv/a b/data", "/srv/a b/data"),
        ("http://host:8123", "http://host:8123"),
        ("http://user:geheim@host:8123", "http://***@host:8123"),
        ("http://user@host", "http://***@host"),
        ("--database=http://user:geheim@host", "--database=http://***@host"),
        ("--database=https://user:ge@h/ei#m?@host:1", "--database=https://***@host:1"),
        ("http://user:ge heim@host", "http://***@host"),
        ("http://user:it's geheim@host", "http://***@host"),
        ("socks5h://u:geheim%40@h:1,socks5://u:geheim@h:2", "socks5h://***@h:2"),
        ("wss://host/edge?listenKey=geheim", "wss://host/edge?***"),
        ("wss://geheim@host/edge?listenKey=geheim", "wss://***@host/edge?***"),
        ("user:geheim@host:8123", "***@host:8123"),
        ("--database=user:geheim@host", "--database=***@host"),
        ("SELECT count() FROM btc", "SELECT count() FROM btc"),
        ("SELECT 1\n  FROM btc", "SELECT 1 FROM btc"),
        ("SELECT * FROM remote('host', 'db', 't', 'user', 'geheim')",
         "SELECT * FROM remote('***', '***', '***', '***', '***')"),
        ("SELECT * FROM url('http://u:geheim@h/x')", "SELECT * FROM url('***')"),
        (r"SELECT 'a\'geheim', 'it''s geheim', 1", "SELECT '***', '***', 1"),
        ("SELECT $$geheim$$, $a$geheim$$ geheim$a$", "SELECT '***', '***'"),
        ("SELECT 'geheim", "SELECT '***'"),
        ("SELECT 1 -- see http://u:geheim@h/x", "SELECT 1 -- see http://***@h/x"),
    ],
)  # fmt: skip
def test_an_argument_is_shown_without_what_may_be_a_password(typed, shown):
    assert hidden(typed) == shown


def test_a_message_quotes_no_password():
    said = hidden_in_message("Got unexpected extra argument (http://u:ge @h eim@host wss://h/x?key=geheim)")
    assert said == "Got unexpected extra argument (http://***@host wss://h/x?***"
    assert (
        hidden_in_message("Invalid value for '--fsync': 'x'. Really?")
        == "Invalid value for '--fsync': 'x'. Really?"
    )


@pytest.fixture
def silent():
    """A server that takes connections and never answers: whoever asks it can be looked at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("run", "--symbol", "BTC_USDT", "--database=http://u:geheim@HOST", "--proxy", "http://u:geheim@h:1",
          "--endpoint", "wss://u:geheim@h/edge?key=geheim"),
         "mexcflow run --symbol BTC_USDT --database=http://***@HOST --proxy http://***@h:1 "
         "--endpoint wss://***@h/edge?***"),
        (("sql", "--database", "http://u:geheim@HOST", "SELECT * FROM remote('h', 'd', 't', 'u', 'geheim')"),
         "mexcflow sql --database http://***@HOST SELECT * FROM remote('***', '***', '***', '***', '***')"),
    ],
    ids=["run", "sql"],
)  # fmt: skip
def test_ps_shows_what_runs_and_no_password(start, silent, arguments, shown):
    running = start(*(word.replace("HOST", silent) for word in arguments))
    command_line = Path(f"/proc/{running.process.pid}/cmdline")

    def title() -> str:
        return command_line.read_bytes().decode().rstrip("\0")

    wait_for(lambda: title().startswith("mexcflow "))
    assert title() == shown.replace("HOST", silent)
