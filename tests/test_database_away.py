"""A database that goes away: receiving goes on, frames wait in the journal, nothing is lost or doubled.

The real command against a server behind a TCP proxy with faults. Where a test does not say otherwise, the
frames are numbered, and in the end the table is compared row for row with what the journal took.
"""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mexcflow.model import Row
from mexcflow.simulator import Settings, Simulator
from tests.conftest import wait_for
from tests.disasters.away import Server
from tests.disasters.faults import play_faults
from tests.disasters.run import Run
from tests.kill.frames import Delivery, judge, rows_of, without_end

SEED = int(os.environ.get("FAULT_SEED", "0")) or int.from_bytes(os.urandom(3), "big")
FOREIGN = (1_790_000_000_000, "d", "666|1|1")


@pytest.fixture
def exchange() -> Iterator[Simulator]:
    with Simulator.of(Settings(recording=without_end, rate=500.0, keep_sent=True)) as exchange:
        yield exchange


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    with Server(tmp_path / "server") as server:
        yield server


class Recording:
    """One stream into that server, recorded by one process after the other."""

    def __init__(self, exchange: Simulator, server: Server, folder: Path) -> None:
        self.exchange = exchange
        self.server = server
        self.folder = folder
        self.deliveries: list[Delivery] = []

    def run(self, *options: str, url: str = "") -> Run:
        return Run(
            self.exchange, self.folder, "--database", url or self.server.url, "--flush-interval", "0.1",
            "--log-format", "json", "--stats-interval", "0.2", *options, PATIENCE="1",
        )  # fmt: skip

    def ended(self, run: Run, code: int, stop: bool = False) -> str:
        """Wait for its end; returns the last line of its log."""
        if stop:
            run.process.send_signal(signal.SIGINT)
        assert run.wait() == code, run.log
        assert "Traceback" not in run.log
        sent, count = run.sent(), run.appended()
        self.deliveries.append(Delivery(sent[:count]))
        return run.messages()[-1] if code else ""

    def works(self, *options: str) -> str:
        """Record a little and stop in order; returns the log."""
        with self.run(*options) as run:
            run.wait_for_frames(50)
            caught_up(run)
            self.ended(run, 0, stop=True)
            return run.log

    def all_rows(self) -> list[Row]:
        """Return what all that was received decodes to."""
        return [row for one in self.deliveries for row in rows_of(one.sure)]

    def judge(self) -> None:
        verdict = judge(self.server.rows(), self.deliveries)
        assert verdict.exact, (verdict.lost[:3], verdict.doubled[:3], verdict.in_order)


@pytest.fixture
def recording(exchange, server, tmp_path) -> Recording:
    return Recording(exchange, server, tmp_path)


def caught_up(run: Run) -> None:
    """Wait until there are rows in the table, and few frames that are not in it."""
    wait_for(lambda: run.statistics().get("rows"), seconds=40, what=run.log)
    wait_for(lambda: run.statistics()["backlog_frames"] < 300, seconds=40, what=run.log)


def goes_on_receiving(run: Run) -> None:
    """Wait until frames have come in, and wait in the journal, for more than a second."""
    had = run.appended()
    wait_for(lambda: run.appended() > had + 700, what=run.log)
    wait_for(lambda: run.statistics()["backlog_frames"] > 600, what=str(run.statistics()))
    assert run.statistics()["backlog_s"] > 1


FAULTS: dict[str, Callable] = {
    "nobody listens": lambda server: server.proxy.refuse(),
    "resets before execution": lambda server: server.proxy.reset_before(inserts_only=False),
    "resets after execution": lambda server: server.proxy.reset_after(inserts_only=False),
    "takes and does not answer": lambda server: server.proxy.hold(inserts_only=False),
    "executes and does not answer": lambda server: server.proxy.stall(inserts_only=False),
    "HTTP 500": lambda server: server.proxy.answer_500(inserts_only=False),
    "slow": lambda server: server.proxy.slow(2000),
    "too many queries": lambda server: server.refusing((503, 202, "Code: 202. DB::Exception: Too many")),
    "its disk is full": lambda server: server.refusing((500, 243, "Code: 243. DB::Exception: Not enough")),
    "restarts": lambda server: server.down(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_while_it_is_away_receiving_goes_on_and_afterwards_every_row_is_there_once(recording, fault):
    with recording.run() as run:
        run.wait_for_frames(100)
        caught_up(run)
        with FAULTS[fault](recording.server):
            goes_on_receiving(run)
        caught_up(run)
        recording.ended(run, 0, stop=True)
    recording.judge()
    assert recording.exchange.connections == 1


@pytest.mark.parametrize("fault", ["reset_after", "stall"])
def test_inserts_whose_answers_never_come_go_on_one_by_one(recording, fault):
    with recording.run() as run:
        run.wait_for_frames(100)
        caught_up(run)
        with getattr(recording.server.proxy, fault)() as placed:
            wait_for(lambda: placed.met >= 3)
        caught_up(run)
        recording.ended(run, 0, stop=True)
    recording.judge()


def test_stopped_while_it_is_away_what_waits_is_told_and_the_next_run_inserts_it(recording):
    with recording.run() as run:
        run.wait_for_frames(100)
        caught_up(run)
        with recording.server.proxy.refuse():
            goes_on_receiving(run)
            line = recording.ended(run, 69, stop=True)
            assert "Connection refused" in line
            (waiting,) = [one for one in run.messages() if "in the journal and not yet in the table" in one]
            stored = len(recording.server.rows())
    assert f"{run.statistics()['backlog_frames']} frames" in waiting
    log = recording.works()
    assert "recovered from the journal" in log
    recording.judge()
    assert len(recording.server.rows()) > stored


def test_started_while_it_is_away_a_stream_that_was_recorded_before_is_recorded(recording):
    recording.works()
    with recording.server.proxy.refuse(), recording.run() as run:
        run.wait_for_frames(300)
        recording.ended(run, 69, stop=True)
    with recording.server.proxy.refuse():
        run = recording.run()
        run.wait_for_frames(300)
    with run:
        caught_up(run)
        assert "the database is back" in run.log
        recording.ended(run, 0, stop=True)
    recording.judge()


def test_started_while_it_is_away_a_new_stream_is_69_and_leaves_nothing_behind(recording, tmp_path):
    with recording.server.proxy.refuse(), recording.run() as run:
        assert "Is the server up" in recording.ended(run, 69)
    assert not (tmp_path / "journal").exists()


def test_a_password_that_is_changed_is_2_and_the_next_start_with_the_new_one_goes_on(recording):
    with recording.run() as run:
        run.wait_for_frames(100)
        recording.server.front.password = "secret"
        assert "password" in recording.ended(run, 2)
    with recording.run() as run:
        assert "password" in recording.ended(run, 2)
    with recording.run(url=recording.server.url.replace("//", "//default:secret@")) as run:
        run.wait_for_frames(50)
        caught_up(run)
        recording.ended(run, 0, stop=True)
    recording.judge()


def test_a_table_that_is_dropped_is_2_and_the_next_start_has_all_that_was_not_yet_in_it(recording):
    with recording.run() as run:
        run.wait_for_frames(100)
        caught_up(run)
        recording.server.command("DROP TABLE mexc_data.btc SYNC")
        line = recording.ended(run, 2)
        assert "mexc_data.btc" in line
    recording.works()
    rows = recording.server.rows()
    expected = judge(rows, recording.deliveries)
    assert not expected.doubled
    assert rows == recording.all_rows()[-len(rows) :]


def test_a_table_that_becomes_another_is_2_and_is_not_touched(recording):
    with recording.run() as run:
        run.wait_for_frames(100)
        caught_up(run)
        recording.server.command(
            "DROP TABLE mexc_data.btc SYNC", "CREATE TABLE mexc_data.btc (x Int32) ENGINE = StripeLog"
        )
        recording.ended(run, 2)
    with recording.run() as run:
        assert "StripeLog (x Int32)" in recording.ended(run, 2)
    assert recording.server.store.query("SELECT * FROM mexc_data.btc") == []
    recording.server.command("DROP TABLE mexc_data.btc SYNC")
    recording.works()


def test_somebody_elses_row_is_73_with_both_counts_and_adopt_goes_on(recording):
    recording.works()
    had = len(recording.server.rows())
    recording.server.store.insert_rows("btc", [FOREIGN])
    with recording.run() as run:
        line = recording.ended(run, 73)
    assert f"mexc_data.btc has {had + 1:,} rows and should have {had:,}" in line
    assert "--adopt" in line
    recording.works("--adopt")
    recording.works()
    rows = recording.server.rows()
    assert rows.pop(had) == FOREIGN
    assert rows == recording.all_rows()


def test_somebody_elses_row_while_it_records_is_73_and_nothing_is_doubled(recording):
    with recording.run() as run:
        run.wait_for_frames(100)
        caught_up(run)
        with recording.server.proxy.refuse():
            goes_on_receiving(run)
            recording.server.store.insert_rows("btc", [FOREIGN])
        recording.ended(run, 73)
    recording.works("--adopt")
    rows = recording.server.rows()
    rows.remove(FOREIGN)
    assert rows == recording.all_rows()


def test_a_journal_that_is_older_than_its_table_is_73_and_adopt_doubles_nothing(recording, tmp_path):
    recording.works()
    with recording.run("--batch-frames", "150") as run:
        run.wait_for_frames(200)
        caught_up(run)
        shutil.copytree(tmp_path / "journal", tmp_path / "older")
        run.wait_for_frames(run.appended() + 300)
        recording.ended(run, 0, stop=True)
    shutil.rmtree(tmp_path / "journal")
    (tmp_path / "older").rename(tmp_path / "journal")
    with recording.run() as run:
        assert "older than the table" in recording.ended(run, 73)
    recording.works("--adopt")
    recording.judge()


def test_after_truncate_what_the_journal_still_has_comes_back(recording):
    recording.works()
    recording.server.command("TRUNCATE TABLE mexc_data.btc")
    assert "has lost its newest" in recording.works()
    recording.judge()


def test_after_drop_table_a_new_one_is_begun_with_what_comes_from_then_on(recording):
    recording.works()
    before = len(recording.all_rows())
    recording.server.command("DROP TABLE mexc_data.btc SYNC")
    recording.works()
    assert recording.server.rows() == recording.all_rows()[before:]


def test_a_backlog_of_150_000_frames_costs_no_memory(server, tmp_path):
    settings = Settings(recording=without_end, keep_sent=True)  # as fast as it reads
    with Simulator.of(settings) as exchange:
        recording = Recording(exchange, server, tmp_path)
        with recording.run() as run:
            run.wait_for_frames(20_000)
            before = run.rss_bytes()
            with server.proxy.refuse():
                wait_for(lambda: run.statistics()["backlog_frames"] > 150_000, seconds=60)
                assert run.rss_bytes() - before < 100_000_000
            recording.ended(run, 0, stop=True)
        recording.judge()


@pytest.mark.timeout(300)
def test_through_seconds_of_random_faults_and_kills_nothing_is_lost_or_doubled(tmp_path):
    outcome = play_faults(tmp_path, seed=SEED, seconds=8)
    print(outcome)  # noqa: T201 - seen when it fails, and with -rP
    assert outcome.frames > 1000
    assert not outcome.problems()
