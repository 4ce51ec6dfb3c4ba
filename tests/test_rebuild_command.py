"""`mexcflow rebuild` as a user meets it: real recordings, exit codes, SIGKILL in the middle of it."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from mexcflow.exchanges.mexc import Mexc
from mexcflow.journal import Kind, read_stream
from mexcflow.model import Frame
from mexcflow.pipeline.decode import decode
from mexcflow.simulator import Simulator
from tests.conftest import MEXCFLOW, environment, mexcflow, wait_for
from tests.recording import Broken, deals, good, journal_of, record, rows_in, statement, tables, wrong

SYMBOL = ("--symbol", "BTC_USDT")


def run(cwd: Path, exchange: Simulator, *more: str) -> None:
    done = mexcflow(
        "run", *SYMBOL, "--endpoint", exchange.url, "--duration", "1.5", "--flush-interval", "0.2",
        "--journal-tail", "0", *more, cwd=cwd,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def archive(data: Path) -> list[str]:
    return sorted(path.name for path in (journal_of(data) / "archive").glob("*.zst"))


def test_a_real_recording_is_what_its_frames_decode_to(tmp_path):
    data = tmp_path / "data"
    with Simulator(speed=20) as exchange:
        for _ in range(3):
            run(tmp_path, exchange, "--keep-raw", "forever")
    assert len(archive(data)) == 2
    before = rows_in(data)
    frames = [
        Frame(one.at_ns, one.payload) for one in read_stream(journal_of(data)) if one.kind is Kind.FRAME
    ]
    assert before == decode(Mexc("BTC_USDT", ("ticker", "deal", "depth")), frames).rows
    done = mexcflow("rebuild", *SYMBOL, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("the table is exactly what its frames decode to")
    done = mexcflow("rebuild", *SYMBOL, "--swap", "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert done.returncode == 0
    assert (told["same"], told["swapped"], told["left"]) == (True, True, "mexc_data.btc_rebuilt")
    assert sum(told["new"].values()) == len(before)
    assert rows_in(data) == before
    with Simulator(speed=20) as exchange:
        run(tmp_path, exchange, "--keep-raw", "forever")
    statement(data, "DROP TABLE mexc_data.btc_rebuilt SYNC")
    done = mexcflow("rebuild", *SYMBOL, cwd=tmp_path)
    assert done.returncode == 0
    assert mexcflow("verify", "--table", "btc", cwd=tmp_path).returncode == 0
    assert mexcflow("repair", "--dry-run", cwd=tmp_path).returncode == 0


def test_looking_first_costs_nothing_of_a_table_that_was_swapped_and_dropped(tmp_path):
    data = tmp_path / "data"
    record(data, deals(30))
    assert mexcflow("rebuild", *SYMBOL, "--swap", cwd=tmp_path).returncode == 0
    statement(data, "DROP TABLE mexc_data.btc_rebuilt SYNC")
    record(data, deals(30, 50))
    before = rows_in(data)
    statement(data, "DROP TABLE mexc_data.btc SYNC")
    mexcflow("rebuild", *SYMBOL, cwd=tmp_path)
    done = mexcflow("rebuild", *SYMBOL, "--swap", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert rows_in(data) == before


def test_the_archive_is_deleted_by_age_and_without_the_option_there_is_none(tmp_path):
    data = tmp_path / "data"
    with Simulator(speed=20) as exchange:
        for _ in range(2):
            run(tmp_path, exchange)
        assert archive(data) == []
        for _ in range(2):
            run(tmp_path, exchange, "--keep-raw", "1h")
        kept = archive(data)
        assert len(kept) == 2
        run(tmp_path, exchange, "--keep-raw", "1s")
    assert not set(archive(data)) & set(kept)
    done = mexcflow("rebuild", *SYMBOL, cwd=tmp_path)
    assert done.returncode == 0
    assert "older than the frames that are kept" in done.stdout


def test_differences_are_shown_and_the_exit_code_says_so(tmp_path):
    data = tmp_path / "data"
    record(data, [*deals(30)], decoder=Broken)
    record(data, deals(30, 50))
    done = mexcflow("rebuild", *SYMBOL, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["old", "50", "0", "50", "0", "0"] in lines
    assert ["0", "old", "2026-09-21T14:13:20.000Z", "d", "0|9|2"] in lines
    assert ["0", "new", "2026-09-21T14:13:20.000Z", "d", "0|1|1"] in lines
    assert "2 as before, 3 different" in done.stdout
    done = mexcflow("rebuild", *SYMBOL, "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert done.stderr == ""
    assert (told["batches_different"], told["dropped"], told["swapped"]) == (3, True, False)
    assert told["differences"][0] == {"row": 0, "old": list(wrong(1)[0]), "new": list(good(1)[0])}
    done = mexcflow("rebuild", *SYMBOL, "--swap", cwd=tmp_path)
    assert done.returncode == 0
    assert 'mexcflow sql "DROP TABLE mexc_data.btc_rebuilt"' in done.stdout
    assert rows_in(data) == good(50)
    done = mexcflow("rebuild", *SYMBOL, cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert mexcflow("sql", "DROP TABLE mexc_data.btc_rebuilt", cwd=tmp_path).returncode == 0
    assert mexcflow("rebuild", *SYMBOL, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--symbol", "ETH_USDT"), 2, "no journal of mexc ETH_USDT"),
        (("--symbol", "BTC_USDT", "--table", "eth"), 2, "that of ETH_USDT"),
        (("--symbol", "BTC_USDT", "--table", "other"), 2, "btc"),
        (("--symbol", "BTC_USDT", "--exchange", "nope"), 2, "no exchange"),
        (("--symbol", "BTC_USDT", "--journal", "elsewhere"), 2, "no journal"),
        (("--symbol", "BTC_USDT", "--database", "elsewhere"), 2, "no journal"),
        (("--symbol", "BTC_USDT", "--min-free", "1000000000000"), 74, "--min-free"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, options, code, said):
    record(tmp_path / "data", deals(20))
    done = mexcflow("rebuild", *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "elsewhere").exists()
    assert tables(tmp_path / "data") == {"btc"}


def test_not_while_it_is_recorded_and_the_recorder_is_named(start, exchange, tmp_path):
    running = start("run", *SYMBOL, "--endpoint", exchange.url, "--keep-raw", "forever")
    wait_for(lambda: "every subscription is acknowledged" in running.err)
    done = mexcflow("rebuild", *SYMBOL, cwd=tmp_path)
    assert done.returncode == 73
    assert f"PID {running.process.pid} " in done.stderr
    assert running.stop() == 0


def test_killed_at_any_moment_the_old_table_is_as_it_was_or_the_new_one_is_in_its_place(tmp_path):
    data = tmp_path / "data"
    record(data, deals(3_000), decoder=Broken, batch_frames=20)
    command = [*MEXCFLOW, "rebuild", *SYMBOL, "--swap", "--log-level", "error"]
    started = time.monotonic()
    assert subprocess.run(command, cwd=tmp_path, env=environment(), check=False).returncode == 0
    whole_s = time.monotonic() - started
    ends = set()
    for share in (0.7, 0.93):
        if rows_in(data) == good(3_000):  # have the old one back
            statement(data, "EXCHANGE TABLES mexc_data.btc AND mexc_data.btc_rebuilt")
            statement(data, "DROP TABLE mexc_data.btc_rebuilt SYNC")
        process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL)
        time.sleep(share * whole_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
        swapped = rows_in(data) == good(3_000)
        assert swapped or rows_in(data) == wrong(3_000)
        if swapped:
            assert rows_in(data, "btc_rebuilt") == wrong(3_000)
        ends.add((swapped, "btc_rebuilt" in tables(data)))
    print(ends)  # noqa: T201 - how far the kills let it come
    if not swapped:
        assert mexcflow("rebuild", *SYMBOL, "--swap", cwd=tmp_path).returncode == 0
    assert rows_in(data) == good(3_000)
