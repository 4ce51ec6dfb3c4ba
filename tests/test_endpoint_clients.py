"""Clients that nobody here wrote, at the endpoint: clickhouse-connect, curl, @clickhouse/client of npm."""

import datetime
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError

from mexcflow.errors import StatementRefused
from mexcflow.store import ensure_table, open_store
from tests.endpoints import Served, serving

ROW = b"1700000000123\td\t84055|3|1\n"
PROJECT = Path(__file__).parent / "npm"


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("data")) as served:
        ensure_table(served.store, "btc")
        served.store.command(
            "CREATE TABLE mexc_data.mixed (id UInt64, name String, price Nullable(Float64), "
            "at DateTime64(3), tags Array(String)) ENGINE = MergeTree ORDER BY id"
        )
        yield served


def connect(served: Served, **how):
    return clickhouse_connect.get_client(host="127.0.0.1", port=served.port, password=served.token, **how)


@pytest.fixture(params=["lz4", "zstd", "gzip", False])
def client(request, served):
    with connect(served, compress=request.param) as client:
        yield client


MIXED = [
    (number, f"näme {number}", None if number % 3 else number / 4,
     datetime.datetime(2026, 1, 1, 0, 0, 0, 123000, tzinfo=datetime.UTC), ["a", "b\n;"][: number % 3])
    for number in range(1000)
]  # fmt: skip


# clickhouse-connect, in each way to pack


def test_rows_that_are_inserted_come_back_as_they_were(served, client):
    client.command("TRUNCATE TABLE mexc_data.mixed")
    names = ["id", "name", "price", "at", "tags"]
    assert client.insert("mexc_data.mixed", MIXED, column_names=names).written_rows == 1000
    found = client.query("SELECT * FROM mexc_data.mixed ORDER BY id", query_tz="UTC")
    assert found.column_names == tuple(names)
    assert found.result_rows == [
        (*row[:3], row[3].replace(tzinfo=None) if found.result_rows[0][3].tzinfo is None else row[3], row[4])
        for row in MIXED
    ]
    assert client.query(
        "SELECT name FROM mexc_data.mixed WHERE id = {id:UInt64}", parameters={"id": 7}
    ).result_rows == [("näme 7",)]


def test_raw_inserts_in_several_formats(served, client):
    client.command("TRUNCATE TABLE mexc_data.btc")
    for block, fmt in (
        (ROW * 3, "TSV"),
        (iter([ROW, ROW * 2]), "TabSeparated"),
        (b'{"ts":1700000000.123,"mt":"d","m":"x"}\n' * 3, "JSONEachRow"),
        (
            client.raw_query(
                "SELECT toDateTime64(0, 3) AS ts, 'd' AS mt, 'x' AS m FROM numbers(3)", fmt="Native"
            ),
            "Native",
        ),
    ):
        assert client.raw_insert("mexc_data.btc", insert_block=block, fmt=fmt).written_rows == 3
    packed = {"lz4": "lz4", "zstd": "zstd", "gzip": "gzip"}.get(client.compression)
    if packed == "gzip":
        import gzip

        client.raw_insert("mexc_data.btc", insert_block=gzip.compress(ROW), fmt="TSV", compression="gzip")
    assert client.command("SELECT count() FROM mexc_data.btc") in (12, 13)


def test_streams_of_every_kind_are_whole(served, client):
    sql = "SELECT number AS n, toString(number) AS s FROM numbers(300000)"
    total = sum(range(300_000))
    with client.query_row_block_stream(sql) as blocks:
        assert sum(row[0] for block in blocks for row in block) == total
    with client.query_column_block_stream(sql) as blocks:
        assert sum(sum(block[0]) for block in blocks) == total
    with client.query_rows_stream(sql) as found:
        assert sum(int(row[1]) for row in found) == total
    with client.raw_stream(sql, fmt="CSVWithNames") as raw:
        lines = raw.read().splitlines()
    assert (len(lines), lines[0]) == (300_001, b'"n","s"')


@pytest.mark.skipif(not importlib.util.find_spec("pandas"), reason="pandas is not installed")
def test_data_frames(served, client):
    client.command("TRUNCATE TABLE mexc_data.mixed")
    frame = client.query_df("SELECT number AS id, toString(number) AS name FROM numbers(1000)")
    assert list(frame["id"]) == list(range(1000))
    client.insert_df("mexc_data.mixed", frame)
    assert client.command("SELECT sum(id) FROM mexc_data.mixed") == sum(range(1000))


@pytest.mark.skipif(not importlib.util.find_spec("pyarrow"), reason="pyarrow is not installed")
def test_arrow_tables(served, client):
    client.command("TRUNCATE TABLE mexc_data.mixed")
    table = client.query_arrow("SELECT number AS id FROM numbers(200000)")
    assert table.column("id").to_pylist() == list(range(200_000))
    client.insert_arrow("mexc_data.mixed", table)
    assert client.command("SELECT count() FROM mexc_data.mixed") == 200_000


def test_errors_have_their_code_before_and_after_the_first_rows(served, client):
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE") as caught:
        client.query("SELECT * FROM no_such_table")
    assert caught.value.code == 60
    with pytest.raises(DatabaseError) as caught:
        client.insert("mexc_data.btc", [["no date", "d", "x"]], column_names=["mt", "mt", "m"])
    late = "SELECT number, throwIf(number = 3000000) FROM numbers(4000000)"
    with pytest.raises(DatabaseError) as caught:
        client.query(late)
    assert caught.value.code == 395
    with client.query_row_block_stream(late) as blocks, pytest.raises(StreamFailureError, match="395"):
        for _ in blocks:
            pass


def test_settings_do_not_leak_and_sessions_keep_what_is_theirs(served, client):
    asked = "SELECT getSetting('max_block_size')"
    usual = client.command(asked)
    assert client.command(asked, settings={"max_block_size": 77}) == 77
    assert client.command(asked) == usual
    client.command("CREATE TEMPORARY TABLE mine (a UInt8)")  # the client makes a session of its own
    client.insert("mine", [[1], [2]], column_names=["a"], database="")
    assert client.query("SELECT * FROM mine").result_rows == [(1,), (2,)]
    with connect(served) as other, pytest.raises(DatabaseError):
        other.query("SELECT * FROM mine")


def test_ping_no_rows_and_long_parameters(served, client):
    assert client.ping()
    assert client.query("SELECT 1 AS x LIMIT 0").result_rows == []
    assert client.query("SELECT 1 AS x LIMIT 0").column_names == ("x",)
    long = "ü" * 100_000
    with connect(served, form_encode_query_params=True) as forms:
        assert forms.query("SELECT {x:String}", parameters={"x": long}).result_rows == [(long,)]


def test_a_client_without_the_token_gets_no_further_than_the_door(served):
    with pytest.raises(DatabaseError, match="516"):
        clickhouse_connect.get_client(host="127.0.0.1", port=served.port, password="wrong")


def test_our_own_store_works_through_it(served):
    with open_store(served.url) as store:
        store.command("TRUNCATE TABLE mexc_data.btc")
        store.insert_rows("btc", [(1700000000123, "d", "84055|3|1")] * 100, query_id="batch-1")
        assert store.query("SELECT count() FROM mexc_data.btc") == [(100,)]
        assert b"".join(store.export("SELECT m FROM mexc_data.btc", "TSV")) == b"84055|3|1\n" * 100
        late = "SELECT throwIf(number = 3000000) FROM numbers(4000000)"
        for fmt in ("TSV", "Native", "JSON"):
            with pytest.raises(StatementRefused, match="the result is not whole: Code: 395"):
                list(store.export(late, fmt))


# curl


def curl(served: Served, *arguments: str, stdin: bytes = b"", token: bool = True) -> bytes:
    address = f"http://127.0.0.1:{served.port}/"
    given = [argument.replace("URL", address) for argument in arguments]
    key = ["-H", f"X-ClickHouse-Key: {served.token}"] if token else []
    ran = subprocess.run(
        ["curl", "-sS", "--max-time", "20", *key, *given], input=stdin, capture_output=True, check=False
    )
    return ran.stdout + ran.stderr


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl(served, tmp_path):
    assert curl(served, "URLping", token=False) == b"Ok.\n"
    assert curl(served, "URL?query=SELECT%201") == b"1\n"
    assert curl(served, "URL", "-d", "SELECT 2") == b"2\n"
    assert b"Code: 516" in curl(served, "URL?query=SELECT%201", token=False)
    assert curl(served, "-u", f"me:{served.token}", "URL", "-d", "SELECT 3", token=False) == b"3\n"
    assert b"Code: 164" in curl(served, "URL?query=DROP%20TABLE%20mexc_data.btc")
    curl(served, "URL", "-d", "TRUNCATE TABLE mexc_data.btc")
    rows = tmp_path / "rows.tsv"
    rows.write_bytes(ROW * 100_000)  # large enough for curl to ask first (Expect: 100-continue)
    insert = "URL?query=INSERT%20INTO%20mexc_data.btc%20FORMAT%20TSV"
    assert curl(served, insert, "--data-binary", f"@{rows}") == b""
    assert curl(served, insert, "-T", "-", "-X", "POST", stdin=ROW * 1000) == b""  # chunked
    assert curl(served, "URL", "-d", "SELECT count() FROM mexc_data.btc") == b"101000\n"
    packed = ("--compressed", "URL?enable_http_compression=1")
    assert curl(served, *packed, "-d", "SELECT number FROM numbers(3)") == b"0\n1\n2\n"
    late = "SELECT throwIf(number = 3000000) FROM numbers(4000000)"
    broken = curl(served, "URL", "-d", late)
    assert b"__exception__" in broken
    assert b"curl: (18)" in broken or b"curl: (56)" in broken


def readme_blocks(language: str) -> list[str]:
    """What the section about other programs shows in one language."""
    text = (Path(__file__).parents[1] / "README.md").read_text()
    _, found, section = text.partition("\n## Other programs on the same folder\n")
    assert found
    section = re.split(r"^## ", section, maxsplit=1, flags=re.M)[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.M | re.S)


@pytest.fixture
def beside_the_folder(served, tmp_path) -> Path:
    """Where a user stands: `data/endpoint.json` says how to reach the owner."""
    address = {
        "url": f"http://127.0.0.1:{served.port}",
        "token": served.token,
        "pid": os.getpid(),
        "owner": "x",
    }
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "endpoint.json").write_text(json.dumps(address))
    (tmp_path / "rows.tsv").write_bytes(ROW)
    served.store.insert_rows("btc", [(1700000000123, "d", "84055|3|1")])
    return tmp_path


def test_python_of_the_readme_runs(beside_the_folder):
    (program,) = readme_blocks("py")
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=beside_the_folder, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert int(ran.stdout.splitlines()[0]) > 0


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="curl and jq are not installed")
def test_curl_of_the_readme_runs(beside_the_folder):
    (script,) = readme_blocks("sh")
    ran = subprocess.run(
        ["bash", "-euc", script], cwd=beside_the_folder, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Code:" not in ran.stdout
    assert "84055|3|1" in ran.stdout


# npm


@pytest.fixture(scope="module")
def npm_client() -> Path:
    """A folder with @clickhouse/client in it; kept from run to run."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mexcflow-npm"
    if not (cache / "node_modules" / "@clickhouse" / "client").is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / "package.json", cache)
        try:
            subprocess.run(
                ["npm", "install", "--no-audit", "--no-fund", "--silent"],
                cwd=cache, check=True, capture_output=True, timeout=60,
            )  # fmt: skip
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"npm cannot install @clickhouse/client: {error}")
    return cache


def test_npm_client_inserts_and_reads_100_000_rows_and_everything_else(served, npm_client):
    script = npm_client / "client.mjs"
    shutil.copy(PROJECT / "client.mjs", script)
    ran = subprocess.run(
        ["node", str(script), f"http://127.0.0.1:{served.port}", served.token],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.splitlines()[-1] == "all 12 hold"
