"""`mexcflow symbols`: what is shown to people, pipes and machines, and what goes wrong in one line."""

import io
import json
import time

import pytest
from rich.console import Console

from mexcflow.cli.symbols import symbols_table
from mexcflow.model import Instrument
from mexcflow.pipeline.instrument_cache import Listed, write_cache
from mexcflow.simulator import Simulator
from tests.conftest import mexcflow

HOSTILE = Instrument(
    symbol="EVIL\x1b[2J\x9b31m_USD",
    base="EVIL\r",
    quote="[red]USD[/red]\n",
    kind="perpetual",
    contract_size="100",
    inverse=True,
    state="pause\x07",
)
GONE = Instrument(symbol="OLD_USDT", base="OLD", quote="USDT", kind="future", state="offline")
BTC = Instrument(
    symbol="BTC_USDT",
    base="BTC",
    quote="USDT",
    kind="perpetual",
    contract_size="0.0001",
    tick_size="0.1",
    quantity_step="1",
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def kept():
    """A list that the exchange gave us just now."""
    write_cache("mexc", Listed([HOSTILE, GONE, BTC], time.time_ns() // 1_000_000))


def symbols(tmp_path, *arguments):
    return mexcflow("symbols", *arguments, cwd=tmp_path)


def lines(text):
    return [line.rstrip() for line in text.splitlines()]


def test_a_pipe_gets_a_line_a_symbol_by_name(tmp_path):
    with Simulator(generate=False, symbols=["DOGE_USDT"]) as exchange:
        done = symbols(tmp_path, "--endpoint", exchange.url)
        found = symbols(tmp_path, "--endpoint", exchange.url, "--search", "btc/usdt")
    assert (done.returncode, done.stderr) == (0, "")
    assert lines(done.stdout) == [
        "symbol     base  quote  kind       contract size  of    tick size  quantity step  state",
        "BTC_USDT   BTC   USDT   perpetual         0.0001  BTC         0.1              1  trading",
        "DOGE_USDT  DOGE  USDT   perpetual        0.00001  DOGE        0.1              1  trading",
        "ETH_USDT   ETH   USDT   perpetual           0.01  ETH        0.01              1  trading",
        "SOL_USDT   SOL   USDT   perpetual            0.1  SOL        0.01              1  trading",
    ]
    assert [line.split()[0] for line in lines(found.stdout)] == ["symbol", "BTC_USDT"]
    assert not (tmp_path / "cache").exists()


def test_json_is_exact(tmp_path, kept):
    done = symbols(tmp_path, "--json", "--all")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert list(report) == ["exchange", "seen", "symbols"]
    assert report["exchange"] == "mexc"
    assert report["seen"].endswith("Z")
    assert [one["symbol"] for one in report["symbols"]] == ["BTC_USDT", HOSTILE.symbol, "OLD_USDT"]
    assert report["symbols"][0] == {
        "symbol": "BTC_USDT",
        "base": "BTC",
        "quote": "USDT",
        "kind": "perpetual",
        "contract_size": "0.0001",
        "inverse": False,
        "tick_size": "0.1",
        "quantity_step": "1",
        "state": "trading",
    }


def test_a_list_that_was_kept_is_shown_without_asking_and_only_what_is_trading(tmp_path, kept):
    done = symbols(tmp_path, "--proxy", "http://127.0.0.1:1")  # which leads nowhere
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in lines(done.stdout)] == ["symbol", "BTC_USDT"]


def test_with_refresh_and_no_way_to_the_exchange_the_old_list_is_shown_with_its_age(tmp_path, kept):
    done = symbols(
        tmp_path, "--proxy", "http://me:secret@127.0.0.1:1", "--refresh", "--search", "old", "--all"
    )
    assert done.returncode == 0
    assert lines(done.stdout) == [
        "symbol    base  quote  kind    contract size  of   tick size  quantity step  state",
        "OLD_USDT  OLD   USDT   future              1  OLD          -              -  offline",
    ]
    (warning,) = done.stderr.splitlines()
    assert warning.endswith("proxy http://127.0.0.1:1: Connection refused. This list of symbols is 0 min old")


def test_a_symbol_that_is_not_there_is_exit_code_1(tmp_path, kept):
    done = symbols(tmp_path, "--search", "old")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "mexcflow: mexc lists no symbol with 'old' that is trading. --all shows 1 that are not\n"
    )
    done = symbols(tmp_path, "--search", "nope", "--json")
    assert (done.returncode, json.loads(done.stdout)["symbols"]) == (1, [])
    assert done.stderr == (
        "mexcflow: mexc lists no symbol with 'nope'. All of them: mexcflow symbols --exchange mexc --all\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--endpoint", "ws://127.0.0.1:1/edge"), 69, "Connection refused. Is this machine online?"),
        (("--exchange", "mecx"), 2, "--exchange: there is no exchange 'mecx'. Did you mean 'mexc'?"),
        (("--proxy", "me:secret@host:1"), 2, "'host:1' is no proxy's URL"),
    ],
)
def test_what_goes_wrong_is_one_line(tmp_path, arguments, code, says):
    done = symbols(tmp_path, *arguments)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (code, "")
    assert says in line
    assert "secret" not in line


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_that_an_exchange_lists_can_steer_the_terminal(terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, color_system=None, width=200)
    console.print(symbols_table(console, "mexc: 1 of 3 symbols", [HOSTILE]))
    shown = out.getvalue()
    assert set(shown) & {*map(chr, range(32)), *map(chr, range(127, 160))} == {"\n"}
    row = next(line for line in shown.splitlines() if "EVIL" in line)
    evil, quote = r"EVIL\x1b[2J\x9b31m_USD", r"[red]USD[/red]\n"
    assert row.split() == [evil, r"EVIL\r", quote, "perpetual", "100", quote, "-", "-", r"pause\x07"]
