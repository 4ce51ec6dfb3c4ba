"""The real command with its journal: who may record, what is written down, what is left behind."""

import json
import signal
import socket

import pytest

from mexcflow.journal import Kind, read_stream
from mexcflow.simulator import Faults, Simulator
from mexcflow.store import open_store
from mexcflow.store.coverage import Interval, State, read_intervals
from tests.conftest import mexcflow, wait_for
from tests.http_front import HttpFront
from tests.test_record import deals, record, rows_of, statistics, stored

STREAM = "journal/mexc/BTC_USDT"


def coverage(tmp_path) -> list[Interval]:
    with open_store(str(tmp_path / "data"), create=False) as store:
        return read_intervals(store, "mexc", "BTC_USDT")


def outages(intervals: list[Interval]) -> list[Interval]:
    return [one for one in intervals if one.state is State.OUTAGE]


def test_a_second_recording_of_a_stream_is_refused_and_says_who_has_it(start, tmp_path):
    with Simulator(speed=10) as exchange:
        running = record(start, exchange)
        wait_for(lambda: deals(running) > 0)
        second = mexcflow(
            "run", "--symbol", "BTC_USDT", "--table", "other", "--endpoint", exchange.url, cwd=tmp_path
        )
        assert running.stop() == 0
    assert second.returncode == 73
    line = second.stderr.splitlines()[-1]
    assert line.startswith(f"mexcflow: mexc BTC_USDT is recorded already by PID {running.process.pid} on ")
    assert "Traceback" not in second.stderr


def test_a_second_recording_into_a_server_is_refused_too(start, tmp_path):
    with (
        open_store(str(tmp_path / "server")) as store,
        HttpFront(store) as front,
        Simulator(speed=10) as exchange,
    ):
        database = ("--database", f"http://127.0.0.1:{front.port}")
        running = record(start, exchange, *database)
        wait_for(lambda: deals(running) > 0)
        second = mexcflow("run", "--symbol", "BTC_USDT", "--endpoint", exchange.url, *database, cwd=tmp_path)
        assert second.returncode == 73
        assert f"PID {running.process.pid}" in second.stderr
        assert deals(running) > 0
        assert running.stop() == 0


def test_every_connection_and_every_time_without_one_is_written_down(start, tmp_path):
    with Simulator(speed=10) as exchange:
        one = record(start, exchange)
        wait_for(lambda: deals(one) > 5)
        exchange.drop()
        wait_for(lambda: statistics(one)[-1]["reconnects"] == 1)
        before = deals(one)
        wait_for(lambda: deals(one) > before)
        one.stop(signal.SIGKILL)
        two = record(start, exchange)
        wait_for(lambda: deals(two) > 5)
        assert two.stop() == 0
        three = record(start, exchange)
        wait_for(lambda: deals(three) > 5)
        assert three.stop() == 0
    found = coverage(tmp_path)
    lost, killed, stopped, last = outages(found)
    assert "connection lost" in lost.reason
    assert killed.reason == "ended without notice (killed, power cut, or full disk)"
    assert (stopped.reason, last.reason) == ("stopped", "stopped")
    assert last.from_ms == last.to_ms  # it goes on
    for channel in ("ticker", "deal", "depth"):
        live = [one for one in found if one.channel == channel and one.state is State.LIVE]
        assert len(live) == 4
        for before, outage, after in zip(live, (lost, killed, stopped), live[1:], strict=False):
            assert before.to_ms == outage.from_ms < outage.to_ms <= after.from_ms
        assert {one.host for one in live} == {socket.gethostname()}
        assert [one.run for one in live].count(live[0].run) == 2  # two connections of the first run
        assert len({one.run for one in live}) == 3
    with open_store(str(tmp_path / "data")) as store:
        ((rows,),) = store.query("SELECT count() FROM mexc_data.btc")
    assert sum(one.rows for one in found) == rows


def test_verify_tells_of_the_time_between_two_runs(start, tmp_path):
    with Simulator(speed=10) as exchange:
        for number in (signal.SIGKILL, signal.SIGINT):
            running = record(start, exchange, "--flush-interval", "2", "--stats-interval", "0.2")
            wait_for(lambda running=running: deals(running) > 5)
            wait_for(lambda running=running: statistics(running)[-1]["backlog_frames"] > 10)
            running.stop(number)
            if number == signal.SIGKILL:
                left = json.loads(mexcflow("verify", "--json", cwd=tmp_path).stdout)["tables"]["btc"]
                assert left["waiting_frames"] > 0
                assert f"{left['waiting_frames']} frames wait in the journal" in left["notes"][-1]
    done = mexcflow("verify", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["tables"]["btc"]["waiting_frames"] == 0
    covered = json.loads(done.stdout)["tables"]["btc"]["coverage"]
    assert 0 < covered["percent"] < 100
    assert {one["reason"] for one in covered["outages"]} == {
        "ended without notice (killed, power cut, or full disk)",
        "stopped",
    }


def test_depth_that_comes_twice_or_backwards_is_counted_and_stored_as_sent(start, tmp_path):
    frames = [
        b'{"symbol":"BTC_USDT","data":{"asks":[[2,1,1]],"bids":[[1,%d,1]],"version":%d},'
        b'"channel":"push.depth.full","ts":1790000000000}' % (number + 1, version)
        for number, version in enumerate([5, 6, 6, 8, 7, 9])
    ]
    with Simulator(frames=frames) as exchange:
        running = record(start, exchange)
        wait_for(lambda: statistics(running) and statistics(running)[-1]["messages"]["depth"] == 6)
        assert running.stop() == 0
    assert stored(tmp_path / "data") == rows_of(frames)
    assert (statistics(running)[-1]["duplicates"], statistics(running)[-1]["backwards"]) == (1, 1)
    gaps = [one.reason for one in coverage(tmp_path) if one.state is State.GAP]
    assert gaps == ["duplicate: sequence 6 after 6", "backwards: sequence 7 after 8"]


def test_an_unknown_contract_leaves_no_journal_behind(tmp_path):
    with Simulator() as exchange:
        done = mexcflow("run", "--symbol", "NOPE_USDT", "--endpoint", exchange.url, cwd=tmp_path)
    assert done.returncode == 2
    assert not (tmp_path / "data/journal").exists()


def test_the_journal_holds_every_frame_as_it_was_received(start, tmp_path):
    with Simulator(speed=20, keep_sent=True) as exchange:
        running = record(start, exchange)
        wait_for(lambda: len(exchange.sent) > 300)
        with exchange.silence():
            assert running.stop() == 0
        sent = list(exchange.sent)
    frames = [one.payload for one in read_stream(tmp_path / "data" / STREAM) if one.kind is Kind.FRAME]
    pushed = [frame for frame in frames if b'"push.' in frame]
    assert pushed == sent[: len(pushed)]
    assert len(pushed) > 250


@pytest.mark.parametrize("keep_raw", ["forever", "0"])
def test_what_leaves_the_tail_is_archived_or_deleted(start, tmp_path, keep_raw):
    for _ in range(3):  # each start seals what was there
        with Simulator(speed=20) as exchange:
            running = record(start, exchange, "--keep-raw", keep_raw, "--journal-tail", "0")
            wait_for(lambda running=running: deals(running) > 5)
            assert running.stop() == 0
    stream = tmp_path / "data" / STREAM
    archived = sorted(path.name[:8] for path in stream.glob("archive/*.zst"))
    assert archived == (["00000001", "00000002"] if keep_raw == "forever" else [])
    assert [path.name for path in stream.glob("0*.*")] == ["00000003.open"]


def test_an_outage_ends_also_when_the_run_before_it_had_no_data_at_all(start, tmp_path):
    with Simulator(faults=Faults(stall_after_s=0.001)) as exchange:
        quiet = record(start, exchange)  # acknowledged, and so in the table of coverage, and nothing else
        wait_for(lambda: statistics(quiet) and statistics(quiet)[-1]["acks"] == 3)
        assert quiet.stop() == 0
    with Simulator(speed=10) as exchange:
        running = record(start, exchange)
        wait_for(lambda: deals(running) > 5)
        assert running.stop() == 0
    first, last = outages(coverage(tmp_path))
    assert first.from_ms < first.to_ms < last.from_ms == last.to_ms
