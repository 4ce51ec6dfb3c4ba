"""What a user of `mexcflow run` sees when something is wrong: one line, the right exit code, no trace."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mexcflow.cli.run import _seconds_or_never
from mexcflow.clock import SYSTEM_CLOCK
from mexcflow.config import Instance
from mexcflow.exchanges.mexc import Mexc
from mexcflow.journal import Retention, this_run
from mexcflow.model import Wanted
from mexcflow.pipeline import parts
from mexcflow.pipeline.feed import Maker, insert_settings, string_target
from mexcflow.pipeline.table import InsertSettings
from mexcflow.simulator import Simulator
from mexcflow.store import ensure_table, open_store
from tests.conftest import MEXCFLOW, environment, mexcflow, wait_for
from tests.test_store_open import HOLD_AS_A_STRANGER

NOWHERE = ("--endpoint", "ws://127.0.0.1:1/edge")


def refused(tmp_path: Path, *arguments: str, code: int = 2) -> str:
    """Run, expect this exit code, one line and no stack trace; return that line."""
    done = mexcflow("run", *arguments, "--log-level", "error", cwd=tmp_path, timeout=30)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("mexcflow: ")
    assert done.stdout == ""
    return line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--symbol", "BTC_USDT", "--exchange", "mecx"), "command line: there is no exchange 'mecx'"),
        (("--symbol", "BTC_USDT", "--channels", "deals"), "command line: mexc has no channel 'deals'"),
        (("--symbol", "BTC_USDT", "--channels", ","), "no channels"),
        (
            ("--symbol", "BTC_USDT", "--table", "btc_deals"),
            "command line: the table's name 'btc_deals' is reserved",
        ),
        (("--symbol", "BTC USDT"), "no table can be named after the symbol 'BTC USDT'"),
        (("--symbol", ""), "the symbol is empty"),
        (("--symbol", "BTC_USDT", "--flush-interval", "1e10"), "at most a day"),
        (("--symbol", "BTC_USDT", "--fsync", "often"), "fsync is 'often'. Give seconds"),
        (("--symbol", "BTC_USDT", "--fsync", "-1"), "fsync is -1.0"),
        (("--symbol", "BTC_USDT", "--duration", "inf"), "--duration"),
        (("--symbol", "BTC_USDT", "--endpoint", "ws://127.0.0.1:99999/edge"), "no websocket URL"),
        (("--symbol", "BTC_USDT", "--endpoint", "ws://[::1"), "no websocket URL"),
        (("--symbol", "BTC_USDT", "--proxy", "me:secret@127.0.0.1:1"), "'127.0.0.1:1' is no proxy's URL"),
        (("--symbol", "BTC_USDT", "--database", ""), "--database is empty"),
        (("--symbol", "BTC_USDT", "--database", "me:secret@127.0.0.1:8123"), "http://"),
        (("--symbol", "BTC_USDT", "--database", "localhost:8123"), "http://"),
        (("--symbol", "ETH_USDT", "--table", "btc", *NOWHERE), "table 'btc' is that of BTC_USDT"),
        (("--symbol", "BTC_USDT", "--config", "nowhere"), "nowhere: no such folder"),
        (("--symbol", "BTC_USDT", "--log-format", "xml"), "--log-format"),
        (("--symbol", "BTC_USDT", "--log-level", "loud"), "--log-level"),
        (("--symbol", "BTC_USDT", "--proxy", "socks5://127.0.0.1:1"), "proxy socks5://127.0.0.1:1"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(tmp_path, arguments, says):
    line = refused(tmp_path, *arguments) if "--log-level" not in arguments else misuse(tmp_path, *arguments)
    assert says in line
    assert "secret" not in line


def misuse(tmp_path: Path, *arguments: str) -> str:
    done = mexcflow("run", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


def test_options_that_are_no_numbers_are_told_by_name(tmp_path):
    for option in ("--flush-interval", "--max-errors", "--duration"):
        done = mexcflow("run", "--symbol", "BTC_USDT", option, "x", cwd=tmp_path)
        assert done.returncode == 2
        assert option in done.stderr
        assert "Traceback" not in done.stderr


def test_a_wrong_instance_file_is_told_even_if_it_is_not_ours(tmp_path):
    (tmp_path / "instances").mkdir()
    (tmp_path / "instances/eth.toml").write_text('symbol = "ETH_USDT"\nexchange = "mecx"\n')
    assert "instances/eth.toml: there is no exchange 'mecx'" in refused(tmp_path, "--symbol", "BTC_USDT")


def test_a_folder_that_cannot_be_written_is_74(tmp_path):
    assert "/proc/x" in refused(tmp_path, "--symbol", "BTC_USDT", "--database", "/proc/x", code=74)


def test_a_disk_with_too_little_room_is_74_before_anything_is_received(tmp_path):
    with Simulator() as exchange:
        line = refused(
            tmp_path, "--symbol", "BTC_USDT", "--endpoint", exchange.url, "--min-free", "999999999", code=74
        )
        assert exchange.connections == 0
    assert "--min-free" in line


def test_a_folder_in_use_by_another_program_is_73_and_says_by_whom(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_AS_A_STRANGER, str(tmp_path / "data")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout.readline() == "open\n"
        line = refused(tmp_path, "--symbol", "ETH_USDT", *NOWHERE, code=73)
        assert f"PID {holder.pid}" in line
    finally:
        holder.kill()
        holder.communicate()


def test_a_table_of_another_schema_is_refused_and_not_touched(tmp_path):
    with open_store(str(tmp_path / "data")) as store:
        store.command("CREATE DATABASE mexc_data")
        store.command("CREATE TABLE mexc_data.btc (x Int32) ENGINE = StripeLog")
        store.command("INSERT INTO mexc_data.btc VALUES (7)")
    assert "mexc_data.btc exists and is StripeLog (x Int32)" in refused(
        tmp_path, "--symbol", "BTC_USDT", *NOWHERE
    )
    with open_store(str(tmp_path / "data")) as store:
        assert store.query("SELECT x FROM mexc_data.btc") == [(7,)]
        assert store.query("SELECT name FROM system.tables WHERE database = 'mexc_data'") == [("btc",)]


def test_a_torn_table_that_cannot_be_repaired_is_refused_before_the_insert_that_would_end_it(tmp_path):
    with open_store(str(tmp_path / "data")) as store:
        ensure_table(store, "btc")
        store.insert_rows("btc", [(1_790_000_000_000, "d", "1|1|1")])
        data = store.table_folder("btc") / "data.bin"
    before = data.read_bytes()[:-3]
    data.write_bytes(before)
    (tmp_path / "data" / "torn").touch()  # what is cut has no place to go to
    line = refused(tmp_path, "--symbol", "BTC_USDT", *NOWHERE, code=74)
    assert "repair of a torn table" in line
    assert data.read_bytes() == before


def test_a_hang_up_is_an_orderly_end_and_nohup_is_respected(start, exchange, tmp_path):
    running = start("run", "--symbol", "BTC_USDT", "--endpoint", exchange.url)
    wait_for(lambda: len(exchange.received) >= 3)
    assert running.stop(signal.SIGHUP) == 0
    process = subprocess.Popen(
        ["nohup", *MEXCFLOW, "run", "--symbol", "BTC_USDT", "--endpoint", exchange.url],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(),
    )  # fmt: skip
    wait_for(lambda: len(exchange.received) >= 6)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.terminate()
    assert process.wait(5) == 0


@pytest.mark.parametrize("format_", ["text", "json"])
def test_statistics_nobody_can_read_do_not_end_a_recording(tmp_path, format_):
    with Simulator(speed=10) as exchange, Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*MEXCFLOW, "run", "--symbol", "BTC_USDT", "--endpoint", exchange.url, "--duration", "2",
             "--stats-interval", "0.5", "--log-format", format_],
            cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, env=environment(),
            check=False,
        )  # fmt: skip
    assert done.returncode == 0
    assert done.stderr.count("recording goes on") == 1
    with open_store(str(tmp_path / "data")) as store:
        assert store.query("SELECT count() > 10 FROM mexc_data.btc_deals") == [(1,)]


def test_errors_for_machines_are_objects_too(tmp_path):
    done = mexcflow("run", "--symbol", "", "--log-format", "json", cwd=tmp_path)
    assert done.returncode == 2
    (line,) = map(json.loads, done.stderr.splitlines())
    assert (line["level"], "symbol is empty" in line["message"]) == ("error", True)


def test_ctrl_c_while_the_libraries_load_leaves_no_trace(tmp_path):
    code = "import signal, os; os.kill(os.getpid(), signal.SIGINT)"
    (tmp_path / "orjson.py").write_text(code)  # the first library that is loaded ends like this
    done = subprocess.run(
        [sys.executable, "-m", "mexcflow", "--version"],
        cwd=tmp_path, capture_output=True, text=True, env=environment(PYTHONPATH=str(tmp_path)), check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGINT  # which a shell shows as 130
    assert done.stderr == ""


def test_on_a_terminal_the_block_stays_in_place_and_goes_on_showing_rates(tmp_path):
    with Simulator(speed=5) as exchange:
        main, terminal = pty.openpty()
        process = subprocess.Popen(
            [*MEXCFLOW, "run", "--symbol", "BTC_USDT", "--endpoint", exchange.url, "--duration", "4",
             "--stats-interval", "1.5"],
            cwd=tmp_path, stdin=terminal, stdout=terminal, stderr=terminal,
            env=environment(TERM="xterm", COLUMNS="100", LINES="40"),
        )  # fmt: skip
        os.close(terminal)
        screen = b""
        while process.poll() is None or screen[-1:] not in (b"\n", b"h", b""):
            try:
                screen += os.read(main, 65536)
            except OSError:
                break
        assert process.wait(10) == 0
    text = screen.decode()
    assert "\x1b[1A" in text  # the cursor goes up: the block is painted over itself
    assert "BTC_USDT · 00:00:0" in text
    assert "→ btc/data.bin" in text
    assert "final" in text
    painted = text.split("total records appended")[3:]
    with_data = [
        block for block in painted if " 0 → btc/data.bin" not in block.split("deal messages")[1][:40]
    ]
    assert len(with_data) >= 3
    assert all("no market data" not in block for block in with_data)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nope",), "No such command 'nope'"),
        (("run",), "Missing option '--symbol'"),
        (("run", "--symbl", "X"), "--symbol"),
        (("run", "--symbol", "BTC_USDT", "--max-errors", "many"), "--max-errors"),
        (("run", "--symbol", "BTC_USDT", "--max-errors", "-1"), "--max-errors"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_one_line_too(tmp_path, arguments, says):
    done = mexcflow(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("mexcflow: ")
    assert says in line
    assert line.endswith("See --help")


@pytest.mark.parametrize("command", ["setup", "verify", "simulate"])
def test_output_that_cannot_be_written_is_one_line_and_74(tmp_path, command):
    with open_store(str(tmp_path / "data")) as store:
        ensure_table(store, "btc")
    more = ["--port", "0", "--duration", "5"] if command == "simulate" else []
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*MEXCFLOW, command, *more], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True,
            timeout=30, env=environment(), check=False,
        )  # fmt: skip
    assert done.returncode == 74, done.stderr
    assert done.stderr.splitlines()[-1] == "mexcflow: standard output: No space left on device"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("fsync", "seconds"), [("0", 0.0), ("2.5", 2.5), ("never", float("inf"))])
def test_what_was_asked_for_reaches_journal_and_inserter(tmp_path, fsync, seconds):
    instance = Instance(
        symbol="BTC_USDT",
        flush_interval=3.0,
        fsync=_seconds_or_never(fsync),
        journal_tail="90s,5kB",
        keep_raw="7d",
    ).checked()
    settings = parts.Settings(instance, str(tmp_path / "data"), min_free_bytes=9, batch_frames=7, adopt=True)
    assert settings.folder == tmp_path / "data" / "journal" / "mexc" / "BTC_USDT"
    stream = this_run("mexc", "BTC_USDT")
    journal = parts.open_journal(settings, settings.folder, stream)
    assert journal._settings.durability.fsync_s == seconds
    assert journal._settings.retention == Retention(tail_s=90, tail_bytes=5000, keep_raw_s=7 * 86_400)
    maker = Maker(settings, stream, lambda: None, None, SYSTEM_CLOCK, Wanted(symbols=(), channels=()))
    target = string_target(Mexc("BTC_USDT", ("deal",)), journal, insert_settings(settings), SYSTEM_CLOCK)
    inserter = maker.inserter(journal, target)
    assert inserter._settings == InsertSettings(
        table="btc",
        stream=("mexc", "BTC_USDT"),
        flush_interval_s=3.0,
        sync_interval_s=seconds,
        batch_frames=7,
        min_free_bytes=9,
        adopt=True,
    )
    journal.close()
