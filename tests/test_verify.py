"""Verify: every kind of bad row is found, no good one is, and what cannot be read is told."""

import re
import subprocess
import sys

import orjson
import pytest

from mexcflow.config import Instance
from mexcflow.ops.verify import verify
from mexcflow.store import ensure_table, open_store
from tests.http_front import HttpFront

T0 = 1_700_000_000_000
NOW_MS = T0 + 3_600_000
COMMAND = "from mexcflow.cli.main import main; main()"
INSTANCES = [Instance(symbol="BTC_USDT", table="btc")]
LEVELS = ",".join(f"[{84000 - n},{n}]" for n in range(20))

GOOD = [
    ("t", "84055|84060.1|84055.3|82912997|0.00010000"),
    ("t", "0.00000001|0|-1.5|0|-0.00075000"),
    ("t", "1|1|1|1|0.000012345678"),
    ("t", "-37.63|-37.5|-37.61|12|-1.00000000"),
    ("d", "84055|3|1"),
    ("d", "0.0000000000012|120000|2"),
    ("d", "10200|0|2"),
    ("dp", "|"),
    ("dp", "[84055,3]|"),
    ("dp", "|[0.1,2.5]"),
    ("dp", f"{LEVELS}|{LEVELS}"),
    ("dl", ""),
    ("dl", "x" * 500),
    ("dl", "🚀\n\t\\" * 125),
]
BAD = [
    ("t", ""),
    ("t", "84055|84060.1|84055.3|82912997"),
    ("t", "84055|84060.1|84055.3|82912997|0.0001"),
    ("t", "84055|84060.1|84055.3|82912997|1E-4"),
    ("t", "84055||84055.3|82912997|0.00010000"),
    ("t", "84055.10|84060.1|84055.3|82912997|0.00010000"),
    ("t", "84055|84060.1|84055.3|82912997|0.00010000|1"),
    ("t", "NaN|84060.1|84055.3|82912997|0.00010000"),
    ("d", "84055|3|3"),
    ("d", "84055|3|0"),
    ("d", "84055|3"),
    ("d", "84055|3|1|"),
    ("d", "8.4055e4|3|1"),
    ("d", "084055|3|1"),
    ("d", "84055.|3|1"),
    ("d", ".5|3|1"),
    ("d", "84055.0|3|1"),
    ("d", "--84055|3|1"),
    ("d", "84055|3|1\n"),
    ("d", " 84055|3|1"),
    ("dp", ""),
    ("dp", "[84055,3]"),
    ("dp", "[84055,3]||[84056,1]"),
    ("dp", "[84055,3],|[84056,1]"),
    ("dp", "[84055,3][84054,3]|[84056,1]"),
    ("dp", "[84055,3,1]|[84056,1]"),
    ("dp", "[84055,3]|[84056,1"),
    ("dp", "[84055,3.0]|[84056,1]"),
    ("dp", f"{LEVELS},[1,1]|{LEVELS}"),
    ("dp", f"{LEVELS}|{LEVELS},[90000,1]"),
    ("dp", f"{LEVELS},[1,1]|"),
    ("dl", "x" * 501),
]  # fmt: skip


@pytest.fixture
def store(tmp_path):
    with open_store(str(tmp_path / "data")) as store:
        ensure_table(store, "btc")
        yield store


def report_on(store, **options):
    return verify(store, INSTANCES, now_ms=NOW_MS, **options)


def test_good_rows_are_no_problem_and_are_counted(store):
    store.insert_rows("btc", [(T0 + n, mt, m) for n, (mt, m) in enumerate(GOOD)])
    report = report_on(store)
    btc = report.tables["btc"]
    assert report.ok
    assert report.problems == btc.problems == []
    assert btc.undecodable_rows == 0
    assert btc.rows == len(GOOD)
    assert btc.by_type == {"t": 4, "d": 3, "dp": 4, "dl": 3}
    assert btc.symbol == "BTC_USDT"
    assert btc.first_ts == "2023-11-14T22:13:20.000Z"
    assert btc.last_ts == "2023-11-14T22:13:20.010Z"
    assert btc.staleness_s == 3599.99
    assert btc.data_bin_bytes == (store.table_folder("btc") / "data.bin").stat().st_size
    assert btc.bytes_a_row == round(btc.data_bin_bytes / len(GOOD), 2)
    assert btc.growth_bytes_a_day is None  # 10 ms say nothing about a day


def test_each_kind_of_bad_row_is_found(store):
    for mt, m in BAD:
        store.command("TRUNCATE TABLE mexc_data.btc")
        store.insert_rows("btc", [(T0, "d", "1|1|1"), (T0, mt, m), (T0, "t", GOOD[0][1])])
        btc = report_on(store).tables["btc"]
        assert (btc.undecodable_rows, [sample.text for sample in btc.undecodable]) == (
            1,
            [f"{mt}: {m[:200]}"],
        )
        assert "1 rows do not decode" in btc.problems[0]


@pytest.mark.parametrize("ts_ms", [0, 999_999_999_999, NOW_MS + 86_400_001])
def test_a_time_that_cannot_be_is_found(store, ts_ms):
    store.insert_rows("btc", [(ts_ms, "d", "1|1|1")])
    assert report_on(store).tables["btc"].undecodable_rows == 1


def test_a_type_that_the_enum_does_not_know_is_found(store, tmp_path):
    file = tmp_path / "rows.bin"  # ts, mt = 0, m = 'x', as another program might write it
    file.write_bytes(T0.to_bytes(8, "little") + b"\0" + b"\x01x")
    store.insert_rows("btc", [(T0, "d", "1|1|1")])
    store.command(f"INSERT INTO mexc_data.btc FROM INFILE '{file}' FORMAT RowBinary")
    report = report_on(store)
    assert not report.ok
    assert report.tables["btc"].rows == 2
    assert report.tables["btc"].undecodable_rows == 1
    assert "unknown type 0: x" in report.problems[0]


def test_times_that_run_backwards_by_more_than_5_s(store):
    store.insert_rows("btc", [(T0 + 100_000, "d", "1|1|1"), (T0 + 95_000, "d", "1|1|1")])  # 5.000 s: fine
    store.insert_rows(
        "btc", [(T0 + 10, "dl", "x"), (T0 + 95_001, "t", GOOD[0][1])]
    )  # dead letters do not count
    assert report_on(store).ok
    store.insert_rows("btc", [(T0 + 90_000, "d", "1|1|1")])  # -5.001 s across two inserts
    store.insert_rows(
        "btc", [(T0 + 99_000, "dp", "|"), (T0 + 500, "d", "1|1|1"), (T0 + 99_000, "d", "1|1|1")]
    )
    btc = report_on(store).tables["btc"]
    assert btc.backwards == 2
    assert btc.backwards_worst_s == 98.5
    assert btc.backwards_worst_ts == "2023-11-14T22:13:20.500Z"
    assert "2 times run backwards" in btc.problems[0]
    assert "98.500 s to 2023-11-14T22:13:20.500Z" in btc.problems[0]


def test_order_is_compared_across_many_inserts(store):
    for part in range(30):
        store.insert_rows("btc", [(T0 + (part * 100 + n) * 1000, "d", "1|1|1") for n in range(100)])
    assert report_on(store).tables["btc"].backwards == 0


def test_dead_letters_are_a_note_and_the_newest_three_are_shown(store):
    store.insert_rows("btc", [(T0 + n, "dl", f"letter {n}") for n in (5, 1, 9, 7, 3)])
    report = report_on(store)
    btc = report.tables["btc"]
    assert report.ok
    assert [(letter.ts[-5:], letter.text) for letter in btc.dead_letters] == [
        (".009Z", "letter 9"),
        (".007Z", "letter 7"),
        (".005Z", "letter 5"),
    ]
    assert "5 dead letters" in btc.notes
    assert btc.first_ts is btc.last_ts is btc.staleness_s is None  # receive times are no event times


def test_growth_a_day_is_projected_and_rough_below_an_hour(store):
    store.insert_rows("btc", [(T0, "d", "1|1|1"), (T0 + 60_000, "d", "1|1|1")])
    report = report_on(store)
    btc = report.tables["btc"]
    assert btc.growth_bytes_a_day == round(btc.data_bin_bytes * 1440)
    assert btc.growth_is_rough
    assert report.growth_bytes_a_day == btc.growth_bytes_a_day
    store.insert_rows("btc", [(T0 + 3_600_000, "d", "1|1|1")])
    btc = report_on(store).tables["btc"]
    assert btc.growth_bytes_a_day == round(btc.data_bin_bytes * 24)
    assert not btc.growth_is_rough


def test_growth_beyond_the_budget_is_a_note(store):
    rows = [
        (T0 + n, "dl" if n % 50 else "d", f"{n * 7919 % 104729:x}" * 20 if n % 50 else "1|1|1")
        for n in range(5000)
    ]
    store.insert_rows("btc", rows)
    report = report_on(store)
    assert report.growth_bytes_a_day > 500_000_000
    assert report.ok
    assert any("more than 500 MB" in note for note in report.notes)


def test_a_table_without_rows_says_so(store):
    report = report_on(store)
    assert report.ok
    assert report.tables["btc"].notes == ["no rows yet"]
    assert report.tables["btc"].by_type == {"t": 0, "d": 0, "dp": 0, "dl": 0}
    assert report.tables["btc"].first_ts is None


def test_which_tables_are_verified(store):
    ensure_table(store, "doge")  # ours, but of no instance
    store.command("CREATE TABLE mexc_data.eth (x Int8) ENGINE = MergeTree ORDER BY x")  # named by an instance
    store.command("CREATE TABLE mexc_data.notes (x Int8) ENGINE = StripeLog")  # somebody's own
    instances = [
        *INSTANCES,
        Instance(symbol="ETH_USDT", table="eth"),
        Instance(symbol="SOL_USDT", table="sol"),
    ]
    report = verify(store, instances, now_ms=NOW_MS)
    assert list(report.tables) == ["btc", "doge", "eth"]
    assert report.tables["doge"].symbol is None
    assert len(report.problems) == 1
    assert report.problems[0].startswith("eth: not one of ours: it is MergeTree (x Int8)")
    only = verify(store, instances, tables=["btc", "nothing"], now_ms=NOW_MS)
    assert list(only.tables) == ["btc", "nothing"]
    assert only.problems == ["nothing: there is no table mexc_data.nothing: run `mexcflow setup`"]


def test_no_table_at_all_says_to_run_setup(store):
    store.command("DROP DATABASE mexc_data SYNC")
    report = report_on(store)
    assert not report.ok
    assert report.problems == ["there is no table at all: run `mexcflow setup`"]


def test_a_server_gives_the_same_report(store):
    store.insert_rows("btc", [(T0 + n, mt, m) for n, (mt, m) in enumerate([*GOOD, BAD[0]])])
    here = report_on(store)
    with HttpFront(store) as front, open_store(f"http://127.0.0.1:{front.port}") as server:
        there = report_on(server)
    assert there.problems == here.problems
    assert there.tables["btc"].by_type == here.tables["btc"].by_type
    files = here.tables["btc"]
    assert there.tables["btc"].data_bin_bytes == files.data_bin_bytes + files.index_mrk_bytes


def test_the_volume_is_what_du_says(store):
    store.insert_rows("btc", [(T0, "d", "1|1|1")] * 1000)
    report = report_on(store)
    du = subprocess.run(
        ["du", "-s", "--block-size=1", store.location], capture_output=True, text=True, check=True
    )
    assert report.volume_bytes == int(du.stdout.split()[0])


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-c", COMMAND, "verify", *arguments], capture_output=True, text=True
    )


def test_the_command(tmp_path):
    data, config = str(tmp_path / "data"), tmp_path / "btc.toml"
    config.write_text('symbol = "BTC_USDT"\n')
    common = ("--database", data, "--config", str(config))
    missing = run(*common, "--json")
    assert missing.returncode == 1
    assert orjson.loads(missing.stdout)["problems"] == ["there is no table at all: run `mexcflow setup`"]
    assert not (tmp_path / "data").exists()
    with open_store(data) as store:
        ensure_table(store, "btc")
        store.insert_rows("btc", [(T0, "d", "1|1|1"), (T0 + 60_000, "dl", "raw [bold]\x1b[31m")])
    good = run(*common)
    assert good.returncode == 0, good.stderr
    assert re.search(r"btc +BTC_USDT +2 +0 +1 +0 +1\b", good.stdout)
    assert r"raw [bold]\x1b[31m" in good.stdout
    assert "no problems" in good.stdout
    with open_store(data) as store:
        store.insert_rows("btc", [(T0, "d", "broken")])
    bad = run(*common, "--json", "--table", "btc")
    assert bad.returncode == 1
    report = orjson.loads(bad.stdout)
    assert report["ok"] is False
    assert report["tables"]["btc"]["by_type"] == {"t": 0, "d": 2, "dp": 0, "dl": 1}
    assert report["volume_bytes"] > report["tables"]["btc"]["data_bin_bytes"] > 0
    assert "do not decode" in report["problems"][0]
