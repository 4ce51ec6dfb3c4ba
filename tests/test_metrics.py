"""The statistics: what they count, and that every number has a meaning written down."""

from collections import Counter

from mexcflow.cli.statistics import statistics_lines
from mexcflow.metrics import MEANINGS, Backlog, Metrics, Tally


def metrics() -> Metrics:
    return Metrics("BTC_USDT", "btc", ("ticker", "deal", "depth"), now=100.0)


def test_an_interval_ends_and_totals_go_on():
    one = metrics()
    one.count(Tally(frames=3, rows=4, messages=Counter(deal=3), inserts=1, insert_ms=6.0, insert_ms_max=6.0))
    first = one.snapshot(now=110.0, backlog=Backlog(5, 1.0))
    assert (first.total.rows, first.interval.rows, first.rows_per_s) == (4, 4, 0.4)
    one.count(Tally(frames=1, rows=1, messages=Counter(depth=1)))
    second = one.snapshot(now=112.0, backlog=Backlog())
    assert (second.total.rows, second.interval.rows, second.rows_per_s) == (5, 1, 0.5)
    assert second.total.messages == {"ticker": 0, "deal": 3, "depth": 1}
    assert second.insert_mean_ms is None


def test_the_final_block_is_about_the_whole_run():
    one = metrics()
    one.count(Tally(rows=10, lags_ms=Counter({3: 2})))
    one.snapshot(now=105.0, backlog=Backlog())
    one.count(Tally(rows=10, lags_ms=Counter({9: 1})))
    last = one.snapshot(now=110.0, backlog=Backlog(), final=True)
    assert (last.rows_per_s, last.lag_median_ms, last.lag_max_ms) == (2.0, 3, 9)


def test_a_peek_does_not_end_the_interval():
    one = metrics()
    one.count(Tally(rows=1))
    one.snapshot(now=101.0, backlog=Backlog(), close=False)
    assert one.snapshot(now=102.0, backlog=Backlog()).interval.rows == 1


def test_lag_is_the_median_and_the_largest():
    one = metrics()
    one.count(Tally(lags_ms=Counter([5, 1, 9, 1, 7])))
    snapshot = one.snapshot(now=101.0, backlog=Backlog())
    assert (snapshot.lag_median_ms, snapshot.lag_max_ms) == (5, 9)
    assert one.snapshot(now=102.0, backlog=Backlog()).lag_median_ms is None


def test_the_numbers_for_machines_are_those_of_the_block():
    one = metrics()
    one.count(
        Tally(frames=3, rows=3, inserts=1, insert_ms=8.0, insert_ms_max=8.0, lags_ms=Counter([4, 2, 9, 3]))
    )
    one.count(Tally(inserts=1, insert_ms=2.0, insert_ms_max=2.0, acks=1, pongs=2, skipped=4))
    block = one.snapshot(now=3700.0 + 100.0, backlog=Backlog(6, 2.5), close=False)
    assert block.as_json()["lag_ms"] == {"median": 3, "max": 9}
    assert block.as_json()["insert_ms"] == {"mean": 5.0, "max": 8.0}
    assert (block.as_json()["backlog_frames"], block.as_json()["backlog_s"]) == (6, 2.5)
    lines = "\n".join(statistics_lines(block))
    assert "BTC_USDT · 01:01:40" in lines
    assert "7 (acks 1, pongs 2, empty 4)" in lines


def test_errors_of_an_interval_start_again_with_the_next():
    one = metrics()
    one.error()
    one.count(Tally(errors=2))
    assert one.errors_in_interval == 3
    one.snapshot(now=101.0, backlog=Backlog())
    assert one.errors_in_interval == 0


def test_reconnects_keep_their_reason():
    one = metrics()
    one.disconnected("no market data for 30 s")
    assert one.snapshot(now=101.0, backlog=Backlog()).total.reconnects == 0
    one.reconnected()
    snapshot = one.snapshot(now=101.0, backlog=Backlog())
    assert (snapshot.total.reconnects, snapshot.last_reason) == (1, "no market data for 30 s")
    assert any("1 (last: no market data for 30 s)" in line for line in statistics_lines(snapshot))


def test_every_number_for_machines_has_its_meaning():
    shown = set(metrics().snapshot(now=101.0, backlog=Backlog()).as_json())
    told_elsewhere = {"symbol", "table", "final", "elapsed_s", "last_reason", "rows_per_s"}
    assert shown - told_elsewhere == set(MEANINGS)


def test_the_block_for_people_names_everything_that_was_asked_for():
    block = "\n".join(statistics_lines(metrics().snapshot(now=115.0, backlog=Backlog())))
    for word in (
        "BTC_USDT",
        "total records appended",
        "ticker messages",
        "deal messages",
        "depth messages",
        "→ btc/data.bin",
        "skipped",
        "dead letters",
        "errors",
        "records a second",
        "reconnects",
        "lag",
        "insert time",
    ):
        assert word in block
