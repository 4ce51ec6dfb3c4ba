"""How streams are doing, seen from the outside: by what lies in their journals' folders."""

import dataclasses
import io
import json
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from mexcflow.cli.stream_tables import stream_line, streams_table, total_line
from mexcflow.config import Instance
from mexcflow.errors import StoreUnavailable
from mexcflow.journal import STATUS, Journal, this_run
from mexcflow.metrics import Backlog, Metrics, Tally
from mexcflow.ops.owner import read_owner
from mexcflow.ops.status import StreamStatus, look_around, status_of, trouble_of
from mexcflow.pipeline.publish import INTERVAL_S, Published, Publisher, read_published
from tests.conftest import ROOT, mexcflow
from tests.journals import HeldClock

BTC = Instance(symbol="BTC_USDT").checked()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stream's journal folder in ./data; the configuration is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEXCFLOW_DATABASE", raising=False)
    (tmp_path / "instances").mkdir()
    return tmp_path / "data/journal/mexc/BTC_USDT"


class Recording:
    """A journal that is held, and what its run publishes."""

    def __init__(self, folder: Path, *, shown_proxy: str = "", clock: HeldClock | None = None) -> None:
        self.clock = clock or HeldClock()
        self.journal = Journal(folder, this_run("mexc", "BTC_USDT"))
        self.metrics = Metrics("BTC_USDT", "btc", ("ticker", "deal", "depth"), now=self.clock.monotonic())
        self.publisher = Publisher(
            BTC, self.journal.stream, folder, self.metrics,
            shown_database="/srv/data", shown_proxy=lambda: shown_proxy, clock=self.clock,
        )  # fmt: skip

    def peek(self):
        return self.metrics.snapshot(now=self.clock.monotonic(), backlog=Backlog(7, 0.5), close=False)

    def says(self, **fields) -> None:
        """Publish as of now, with some of it otherwise."""
        self.publisher.tick(self.peek)
        now = datetime.now(UTC)
        said = {"started": now - timedelta(hours=1), "updated": now, "newest_data": now, "connected": True}
        published = msgspec.structs.replace(read_published(self.journal.folder), **said | fields)
        (self.journal.folder / STATUS).write_bytes(msgspec.json.encode(published))


@pytest.fixture
def recording(folder: Path):
    one = Recording(folder)
    yield one
    one.journal.close()


def status(folder: Path) -> StreamStatus:
    return status_of("btc", BTC, folder)


# what a run publishes


def test_a_run_publishes_its_statistics_every_two_seconds_and_nothing_between(recording, folder):
    recording.metrics.count(Tally(rows=3, frames=2, acks=2))
    recording.metrics.connection("", stands=True)
    recording.metrics.newest_data_ns = 1_790_000_000_500_000_000
    recording.publisher.tick(recording.peek)
    published = read_published(folder)
    assert published.statistics == json.loads(json.dumps(recording.peek().as_json()))
    assert (published.pid, published.run, published.up) == (os.getpid(), recording.journal.stream.run, 0)
    assert (published.connected, published.exit_code) == (True, None)
    assert published.newest_data == datetime(2026, 9, 21, 14, 13, 20, 500_000, UTC)
    recording.metrics.count(Tally(rows=1))
    recording.clock.seconds += INTERVAL_S / 2
    recording.publisher.tick(recording.peek)
    assert read_published(folder) == published
    recording.clock.seconds += INTERVAL_S / 2
    recording.publisher.tick(recording.peek)
    assert read_published(folder).statistics["rows"] == 4


def test_the_end_is_published_with_its_error(recording, folder):
    recording.publisher.end(recording.peek(), StoreUnavailable("no answer", hint="Is it running?"))
    published = read_published(folder)
    assert (published.exit_code, published.error) == (69, "no answer. Is it running?")


def test_that_it_cannot_be_written_is_said_once_and_ends_nothing(recording, folder, caplog):
    (folder / f"{STATUS}.new").mkdir()  # also root cannot write there
    for _ in range(3):
        recording.clock.seconds += INTERVAL_S
        recording.publisher.tick(recording.peek)
    assert caplog.text.count("Is a directory; recording goes on") == 1
    (folder / f"{STATUS}.new").rmdir()
    recording.clock.seconds += INTERVAL_S
    recording.publisher.tick(recording.peek)
    assert read_published(folder) is not None


def test_a_missing_folder_ends_nothing_either(recording, folder, caplog):
    folder.rename(folder.with_name("moved"))
    recording.publisher.tick(recording.peek)
    assert "No such file or directory; recording goes on" in caplog.text
    folder.with_name("moved").rename(folder)


@pytest.mark.parametrize("text", [b"", b"\0" * 400, b'{"pid":', b"[]", b'{"pid":"x"}'])
def test_what_a_power_cut_left_of_the_file_is_nothing(folder, text):
    folder.mkdir(parents=True)
    (folder / STATUS).write_bytes(text)
    assert read_published(folder) is None
    assert status(folder).state == "never recorded"


def test_a_stream_that_never_was_leaves_no_file_behind(folder):
    recording = Recording(folder)
    recording.publisher.tick(recording.peek)
    recording.journal.close()
    assert not folder.parent.parent.exists()


def test_the_journal_takes_no_notice_of_the_file(folder):
    recording = Recording(folder)
    recording.journal.append(1, [b"frame"])
    recording.publisher.tick(recording.peek)
    recording.journal.close()
    again = Recording(folder)
    assert again.journal.recovered_frames == 1
    again.journal.close()


# what is seen from the outside


def test_a_run_that_holds_its_journal_records(recording, folder):
    recording.says()
    seen = status(folder)
    assert (seen.state, seen.pid, seen.host) == ("recording", os.getpid(), socket.gethostname())
    assert seen.uptime_s == pytest.approx(3600, abs=60)
    assert trouble_of(seen, 60) == ""


def test_a_run_without_a_connection_is_trouble_only_when_its_data_is_old(recording, folder):
    recording.says(connected=False, newest_data=datetime.now(UTC) - timedelta(seconds=50))
    assert status(folder).state == "connecting"
    assert trouble_of(status(folder), 60) == ""
    assert trouble_of(status(folder), 40).startswith("btc: no market data for 5")


def test_a_run_without_any_data_has_a_time_of_grace(recording, folder):
    recording.says(newest_data=None, started=datetime.now(UTC) - timedelta(seconds=50))
    assert trouble_of(status(folder), 60) == ""
    assert trouble_of(status(folder), 40).startswith("btc: no market data for 5")


def test_a_run_that_has_just_begun_is_not_taken_for_the_one_before(folder):
    before = Recording(folder)
    before.journal.append(1, [b"frame"])
    before.says(newest_data=datetime.now(UTC) - timedelta(hours=9))
    before.journal.close()
    begun = Journal(folder, this_run("mexc", "BTC_USDT"))
    seen = status(folder)
    assert (seen.state, seen.pid, seen.statistics) == ("starting", os.getpid(), None)
    assert trouble_of(seen, 60) == ""
    begun.close()


def test_a_run_that_says_nothing_any_more_hangs(recording, folder):
    recording.says(updated=datetime.now(UTC) - timedelta(seconds=100))
    assert status(folder).state == "stuck"
    assert trouble_of(status(folder), 600).startswith("btc: is stuck (no sign of life for 1")


def test_what_nobody_records_says_how_it_ended(folder):
    recording = Recording(folder)
    recording.journal.append(1, [b"frame"])
    recording.says()
    recording.journal.close()
    assert trouble_of(status(folder), 60) == (
        "btc: nobody records it: died (ended without notice (killed, power cut))"
    )
    recording.publisher.end(recording.peek(), StoreUnavailable("no answer"))
    assert trouble_of(status(folder), 60) == "btc: nobody records it: ended (exit code 69: no answer)"
    (folder / STATUS).unlink()
    assert trouble_of(status(folder), 60) == "btc: nobody records it: ended"


def test_a_run_in_its_last_moments_is_stopping(recording, folder):
    recording.says(stopping=True)
    assert trouble_of(status(folder), 60) == "btc: is stopping"


# the command


def run_status(tmp_path: Path, *arguments: str) -> tuple[int, str]:
    done = mexcflow("status", *arguments, cwd=tmp_path)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def test_streams_of_files_and_streams_without_are_shown_and_each_trouble_is_named(
    recording, folder, tmp_path
):
    (tmp_path / "instances/eth.toml").write_text('symbol = "ETH_USDT"\n')
    (tmp_path / "instances/wrong.toml").write_text("symbl = 1\n")
    recording.says(proxy="socks5://127.0.0.1:1")
    code, text = run_status(tmp_path)
    assert code == 1
    heading, *rows = [line.split() for line in text.splitlines()]
    assert heading[:4] == ["instance", "symbol", "table", "state"]
    assert [row[:4] for row in rows if row[0] == "BTC_USDT"] == [["BTC_USDT", "BTC_USDT", "btc", "recording"]]
    assert "trouble: eth: nobody records it: never recorded" in text
    assert "trouble: instances/wrong.toml: unknown key 'symbl'" in text
    code, text = run_status(tmp_path, "--symbol", "BTC_USDT")
    assert (code, text.splitlines()[-1]) == (0, "all of them record")


def test_for_machines_it_is_one_object_and_the_token_of_a_data_folder_is_not_in_it(
    recording, folder, tmp_path
):
    recording.says()
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        owner = {"url": url, "token": "very-secret", "pid": 7, "owner": "mexcflow engine"}
        (tmp_path / "data/endpoint.json").write_text(json.dumps(owner))
        code, text = run_status(tmp_path, "--json")
        told = json.loads(text)
        assert (code, told["troubles"]) == (0, [])
        assert told["streams"][0]["statistics"]["backlog_frames"] == 7
        assert told["folders"] == {
            "data": {"url": url, "pid": 7, "owner": "mexcflow engine", "answers": True}
        }
        _, shown = run_status(tmp_path)
    assert f"data: its owner (PID 7) answers at {url}" in shown
    assert "the token is in data/endpoint.json" in shown
    assert "very-secret" not in text + shown


def test_streams_without_a_file_are_named_with_their_exchange_and_are_over_when_they_have_ended(tmp_path):
    (tmp_path / "instances").mkdir()
    for exchange in ("bybit", "binance"):
        place = tmp_path / "data/journal" / exchange / "BTCUSDT"
        place.mkdir(parents=True)
        (place / "lock").touch()
    code, text = run_status(tmp_path, "--json")
    told = json.loads(text)
    assert code == 1
    assert told["troubles"] == [
        "nothing is recorded here: all of them have ended, and no instance file names them"
    ]
    _, shown = run_status(tmp_path)
    assert "bybit BTCUSDT" in shown
    assert "binance BTCUSDT" in shown


def test_nothing_at_all_is_trouble_and_a_missing_folder_is_misuse(folder, tmp_path):
    assert run_status(tmp_path) == (1, "trouble: nothing is recorded here: no instance file, no journal\n")
    code, text = run_status(tmp_path, "--symbol", "XYZ_USDT")
    assert (code, "XYZ_USDT: there is no instance file and no journal of it" in text) == (1, True)
    code, text = run_status(tmp_path, "--config", "nope")
    assert (code, "nope: no such folder" in text) == (2, True)


def test_two_files_for_one_stream_are_not_counted_twice(folder, tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"instances/{name}.toml").write_text('symbol = "BTC_USDT"\n')
    found = look_around(Path("instances"), None, None, shipped=False)
    assert [(one.name, one.state) for one in found.streams] == [
        ("one", "never recorded"), ("two", "wrong file"),
    ]  # fmt: skip


def test_of_the_files_that_ship_only_what_was_recorded_counts(recording, folder, tmp_path):
    recording.says()
    (tmp_path / "instances").rmdir()
    assert run_status(tmp_path)[0] == 0
    found = look_around(ROOT / "instances", None, None, shipped=True)
    assert [(one.name, one.state) for one in found.streams] == [("btc", "recording")]


def test_a_health_check_loads_no_database_library(folder, tmp_path):
    code = (
        "import sys; sys.argv = ['mexcflow', 'status']; from mexcflow.cli.main import _run; _run(); "
        "loaded = {name.split('.')[0] for name in sys.modules}; "
        "assert not loaded & {'clickhouse_connect', 'chdb', 'websocket', 'docker', 'websockets'}, loaded"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# the table


def painted(statuses: list[StreamStatus], columns: int, *, height: int = 24, live: bool = True) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=columns, height=height, force_terminal=True, color_system=None)
    console.print(streams_table(console, statuses, live=live))
    return file.getvalue().splitlines()


def shown(symbol: str, *, state: str = "recording", problem: str = "") -> StreamStatus:
    metrics = Metrics(symbol, symbol[:3].lower(), ("ticker", "deal", "depth"), now=0.0)
    metrics.count(Tally(rows=1_234_567, errors=3, reconnects=4))
    return StreamStatus(
        name=symbol[:3].lower(), exchange="mexc", symbol=symbol, table=symbol[:3].lower(), state=state,
        pid=4711, uptime_s=90_061, restarts=2, problem=problem,
        statistics=metrics.snapshot(now=10.0, backlog=Backlog(12, 6.0)).as_json(),
    )  # fmt: skip


@pytest.mark.parametrize("columns", [60, 80, 100, 120, 160, 240])
@pytest.mark.parametrize("problem", ["", "connection lost: closed without a close frame"])
def test_the_table_fits_the_terminal_and_cuts_no_number(columns, problem):
    lines = painted([shown("BTC_USDT"), shown("ETH_USDT", state="refused", problem=problem)], columns)
    assert max(map(len, lines)) <= columns
    text = "\n".join(lines)
    assert "1,234,567" in text
    assert "2,469,134" in text  # the total
    assert "1 of 2" in text
    assert problem[:20] in text
    assert "…" not in text or (problem and columns < 240)


def test_a_wide_terminal_shows_everything():
    (heading,) = [line for line in painted([shown("BTC_USDT")], 200) if "instance" in line]
    for word in ("symbol", "table", "PID", "uptime", "restarts", "rows/s", "ticker/deal/depth", "lag",
                 "backlog", "errors", "reconnects", "proxy", "last problem"):  # fmt: skip
        assert word in heading


def test_a_low_terminal_shows_those_that_need_somebody():
    many = [shown(f"{letter}AA_USDT") for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    many[20] = dataclasses.replace(many[20], state="died")
    lines = painted(many, 120, height=15)
    assert len(lines) <= 15
    assert any("died" in line for line in lines)
    assert any("… and 18 more" in line for line in lines)
    assert any("25 of 26" in line for line in lines)
    assert len(painted(many, 120, height=15, live=False)) > 26


def test_a_line_and_a_total_say_the_same():
    both = [shown("BTC_USDT"), shown("ETH_USDT", problem="gone\x1b[2J")]
    assert stream_line(both[1]) == (
        "eth: recording, PID 4711, up 1 day, 1:01:01, restarts 2, 1,234,567 rows, 123,456.7 a second, "
        "lag -, backlog 12, 6 s, errors 3, reconnects 4, last problem: gone\\x1b[2J"
    )
    assert total_line(both).startswith("total: 2 of 2 recording, 2,469,134 rows, 246,913.4 a second")


def test_what_is_published_has_the_fields_that_are_read(recording, folder):
    recording.says()
    raw = json.loads((folder / STATUS).read_bytes())
    assert raw.keys() == set(Published.__struct_fields__)
    assert time.time() - datetime.fromisoformat(raw["updated"]).timestamp() < 60


def test_a_pipe_in_place_of_the_owners_file_holds_up_nobody(tmp_path):
    os.mkfifo(tmp_path / "endpoint.json")
    assert read_owner(tmp_path) is None
