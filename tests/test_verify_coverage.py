"""Verify tells which part of the time is there, what is not, and why."""

import dataclasses
import re
import subprocess
import sys

import orjson
import pytest

from mexcflow.config import Instance
from mexcflow.exchanges.mexc import Mexc
from mexcflow.model import Frame
from mexcflow.ops.coverage import report_coverage
from mexcflow.ops.verify import verify
from mexcflow.pipeline.coverage import Coverage
from mexcflow.pipeline.decode import decode
from mexcflow.store import ensure_table, open_store
from mexcflow.store.coverage import Interval, State, read_intervals, write_intervals
from tests.endpoints import either

T0 = 1_700_000_000_000
HOUR = 3_600_000
COMMAND = "from mexcflow.cli.main import main; main()"
INSTANCES = [Instance(symbol="BTC_USDT", table="btc"), Instance(symbol="ETH_USDT", table="eth")]
UNKNOWN = "not known: nothing is written down about this time"


def live(from_ms, to_ms, channel="deal", *, updated_ms=None):
    updated_ms = T0 + to_ms if updated_ms is None else updated_ms
    return Interval(
        "mexc", "BTC_USDT", channel, T0 + from_ms, T0 + to_ms, State.LIVE, "", 1, 1, "run1", "h", updated_ms
    )


def outage(from_ms, to_ms, reason="connection lost"):
    return Interval(
        "mexc", "BTC_USDT", "", T0 + from_ms, T0 + to_ms, State.OUTAGE, reason, 0, 0, "run1", "h", T0 + to_ms
    )


def gap(at_ms):
    return Interval(
        "mexc", "BTC_USDT", "depth", T0 + at_ms, T0 + at_ms, State.GAP, "backwards", 0, 0, "run1", "h", 0
    )


def report(*intervals, since=0, now=HOUR):
    found = report_coverage(intervals, since_ms=T0 + since, now_ms=T0 + now)
    shown = [(one.from_ts[14:-1], one.duration_s, one.reason, one.ongoing) for one in found.outages]
    return found.percent, found.live_s, shown


def test_a_stream_is_covered_while_any_of_its_channels_was():
    found = report(live(0, 600_000), live(300_000, 1_800_000, "depth"), outage(1_800_000, HOUR - 1000))
    assert found[:2] == (50.0, 1800.0)


def test_a_recorder_at_work_covers_up_to_now_and_one_that_fell_silent_does_not():
    still = live(0, HOUR - 89_000)
    assert report(still) == (100.0, 3600.0, [])
    silent = live(0, HOUR - 91_000)
    assert report(silent) == (97.47, 3509.0, [("11:49.000", 91.0, UNKNOWN, True)])


def test_what_counts_is_when_it_was_written_last():
    pongs_only = live(0, HOUR - 200_000, updated_ms=T0 + HOUR - 5000)
    assert report(pongs_only)[0] == 100.0


def test_an_outage_without_an_end_lasts_until_now():
    found = report(live(0, 1_800_000), outage(1_800_000, 1_800_000, "stopped"))
    assert found == (50.0, 1800.0, [("43:20.000", 1800.0, "stopped", True)])
    soon = report(live(0, HOUR - 10), outage(HOUR - 10, HOUR - 10, "stopped"))
    assert soon == (99.99, 3599.99, [("13:19.990", 0.01, "stopped", True)])


def test_an_outage_whose_end_was_never_written_lasts_until_something_else_begins():
    found = report(live(0, 900_000), outage(900_000, 900_000), live(1_800_000, HOUR))
    assert found == (75.0, 2700.0, [("28:20.000", 900.0, "connection lost", False)])


def test_the_three_longest_are_shown_and_all_are_counted():
    intervals, at = [], 0
    for seconds in (5, 60, 7, 300, 1):
        intervals += [
            live(at, at + 100_000),
            outage(at + 100_000, at + 100_000 + seconds * 1000, f"{seconds} s"),
        ]
        at += 100_000 + seconds * 1000
    found = report_coverage([*intervals, live(at, HOUR)], since_ms=T0, now_ms=T0 + HOUR)
    assert [one.reason for one in found.outages] == ["300 s", "60 s", "7 s"]
    assert found.outage_count == 5
    assert found.live_s == 3600 - 373


def test_time_of_which_nothing_is_known_is_an_outage_and_what_a_connection_takes_is_none():
    found = report(live(1_000_000, 2_000_000), live(2_090_000, 3_000_000), live(3_200_000, HOUR))
    assert found[2] == [("13:20.000", 1000.0, UNKNOWN, False), ("03:20.000", 200.0, UNKNOWN, False)]
    assert found[1] == 3600 - 1000 - 90 - 200


def test_what_lies_before_the_first_row_does_not_count():
    found = report_coverage(
        [
            live(0, 10_000),
            outage(10_000, 20_000),
            outage(50_000, 70_000),
            gap(5),
            gap(65_000),
            live(70_000, HOUR),
        ],
        since_ms=T0 + 60_000,
        now_ms=T0 + HOUR,
    )
    assert (found.gaps, found.outage_count) == (1, 1)
    assert [one.duration_s for one in found.outages] == [10.0]


@pytest.mark.parametrize("now", [0, -5000])
def test_a_first_row_of_this_very_moment_or_from_a_clock_ahead_is_no_failure(now):
    assert report(live(-10_000, -1), since=0, now=now)[1:] == (0.0, [])


def test_nothing_written_down_is_no_report():
    assert report_coverage([], since_ms=T0, now_ms=T0 + 1) is None


@pytest.fixture(params=["embedded", "endpoint"])
def store(request, tmp_path):
    with open_store(str(tmp_path / "data")) as store:
        for table in ("btc", "eth", "doge"):
            ensure_table(store, table)
            store.insert_rows(table, [(T0, "d", "1|1|1"), (T0 + HOUR, "d", "1|1|1"), (T0 - 9, "dl", "x")])
        intervals = [live(0, 1_800_000), outage(1_800_000, 2_700_000), live(2_700_000, HOUR), gap(7)]
        write_intervals(store, intervals, token="1")
        yield from either(request.param, store)


def test_outages_and_gaps_are_notes_and_no_problems(store):
    found = verify(store, INSTANCES, now_ms=T0 + HOUR)
    assert found.ok
    btc = found.tables["btc"]
    assert dataclasses.asdict(btc.coverage) == {
        "percent": 75.0,
        "live_s": 2700.0,
        "since": "2023-11-14T22:13:20.000Z",
        "outage_count": 1,
        "outages": [
            {
                "from_ts": "2023-11-14T22:43:20.000Z",
                "to_ts": "2023-11-14T22:58:20.000Z",
                "duration_s": 900.0,
                "reason": "connection lost",
                "ongoing": False,
            }
        ],
        "gaps": 1,
    }
    assert "outages: 1, the longest 0:15:00 from 2023-11-14T22:43:20.000Z ('connection lost')" in btc.notes
    assert "gaps: 1 times a frame came twice or in the wrong order" in btc.notes
    assert found.tables["eth"].coverage is None  # of another symbol
    assert found.tables["doge"].coverage is None  # whose symbol nobody knows


def test_a_run_that_was_killed_and_replayed_is_told_as_it_was(store):
    exchange, written = Mexc("ETH_USDT", ("deal",)), 0

    def write(intervals):
        nonlocal written
        written += 1
        write_intervals(store, intervals, token=f"eth-{written}")

    def frames(*seconds):
        text = '{"symbol":"ETH_USDT","data":[{"p":%d,"v":1,"T":1,"t":%d}],"channel":"push.deal"}'
        return [Frame((T0 + n * 1000) * 1_000_000, (text % (n, T0 + n * 1000)).encode()) for n in seconds]

    coverage = Coverage("mexc", "ETH_USDT")
    write(coverage.connected(T0 * 1_000_000, run="run1", host="h"))
    coverage.stored(decode(exchange, frames(0, 1, 2)))
    write(coverage.live())
    state = orjson.loads(orjson.dumps(coverage.checkpoint()))
    coverage.stored(decode(exchange, frames(3, 4)))
    write(coverage.live())  # and the process is killed before the journal has it

    coverage, written = Coverage("mexc", "ETH_USDT", state), 2
    coverage.stored(decode(exchange, frames(3, 4)))
    write(coverage.live())
    four = (T0 + 4000) * 1_000_000
    write(coverage.disconnected(four, reason="ended without notice", since_ns=four))
    write(coverage.connected((T0 + 9000) * 1_000_000, run="run2", host="h"))
    coverage.stored(decode(exchange, frames(9, 10)))
    write(coverage.live())

    assert [
        (one.state.value, one.from_ms - T0, one.to_ms - T0, one.frames, one.rows, one.run)
        for one in read_intervals(store, "mexc", "ETH_USDT")
    ] == [
        ("live", 0, 4000, 5, 5, "run1"),
        ("outage", 4000, 9000, 0, 0, "run1"),
        ("live", 9000, 10_000, 2, 2, "run2"),
    ]
    told = verify(store, INSTANCES, now_ms=T0 + 20_000).tables["eth"].coverage
    assert (told.percent, told.live_s) == (75.0, 15.0)
    assert [(one.duration_s, one.reason) for one in told.outages] == [(5.0, "ended without notice")]


def test_a_table_without_rows_and_a_database_without_coverage_are_no_failure(store):
    store.command("TRUNCATE TABLE mexc_data.btc")
    assert verify(store, INSTANCES, now_ms=T0 + HOUR).tables["btc"].coverage is None
    store.command("DROP DATABASE market_data SYNC")
    assert verify(store, INSTANCES, now_ms=T0 + HOUR).ok


def test_a_table_of_coverage_that_cannot_be_read_is_a_problem(store):
    store.command("DROP TABLE market_data.coverage SYNC")
    store.command("CREATE TABLE market_data.coverage (x Int8) ENGINE = MergeTree ORDER BY x")
    found = verify(store, INSTANCES, now_ms=T0 + HOUR)
    assert [problem.split(": Code")[0] for problem in found.problems] == [
        "btc: its coverage cannot be read",
        "eth: its coverage cannot be read",
    ]


def test_the_command_shows_coverage_and_the_longest_outages(tmp_path):
    data, config = str(tmp_path / "data"), tmp_path / "btc.toml"
    config.write_text('symbol = "BTC_USDT"\n')
    with open_store(data) as store:
        ensure_table(store, "btc")
        store.insert_rows("btc", [(T0, "d", "1|1|1")])
        write_intervals(store, [live(0, 5000), outage(5000, 5000, "[red]\x1b[31m")], token="1")
    arguments = [sys.executable, "-c", COMMAND, "verify", "--database", data, "--config", str(config)]
    text = subprocess.run(arguments, capture_output=True, text=True)
    assert text.returncode == 0, text.stderr
    assert re.search(r"^btc +0.00 % +2023-11-14T22:13:20.000Z +1 +0$", text.stdout, re.M)
    assert re.search(
        r"^btc +2023-11-14T22:13:25.000Z +\(now\) +\d+ days, .* +\[red\]\\x1b\[31m$", text.stdout, re.M
    )
    machine = subprocess.run([*arguments, "--json"], capture_output=True, text=True)
    coverage = orjson.loads(machine.stdout)["tables"]["btc"]["coverage"]
    assert (coverage["live_s"], coverage["outages"][0]["ongoing"], coverage["gaps"]) == (5.0, True, 0)
