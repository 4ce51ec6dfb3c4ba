"""`mexcflow sql`: any statement, any format, and errors of one line."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from mexcflow.cli.console import printable
from mexcflow.errors import Misuse
from mexcflow.ops.sql import parse_statement
from mexcflow.store import ensure_table, open_store

T0 = 1_700_000_000_000
COMMAND = "from mexcflow.cli.main import main; main()"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sql") / "data"
    with open_store(str(folder)) as store:
        ensure_table(store, "btc")
        store.insert_rows("btc", [(T0 + n, "d", f"{n + 1}|2|{n % 2 + 1}") for n in range(3)])
    return str(folder)


def arguments(data, *rest):
    return [sys.executable, "-c", COMMAND, "sql", "--database", data, *rest]


def run(data, *rest, **options):
    options.setdefault("stdin", subprocess.DEVNULL)
    if "input" in options:
        del options["stdin"]
    return subprocess.run(arguments(data, *rest), capture_output=True, text=True, timeout=60, **options)


def run_on_terminal(data, *rest):
    """Run with a terminal of 100 columns as standard output and return what it shows and the exit code."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm", "NO_COLOR": "1"}
    process = subprocess.Popen(arguments(data, *rest), stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()), process.wait()


def test_a_pipe_gets_tab_separated_rows_and_names_are_found_without_a_database(data):
    ran = run(data, "SELECT price, side, NULL FROM btc_deals ORDER BY ts LIMIT 2 -- the first\n;\n")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "1\tbuy\t\\N\n2\tsell\t\\N\n"


def test_the_statement_may_come_from_standard_input_with_its_own_format(data):
    ran = run(data, input="SELECT count() AS n\n/* all; of them */\nFROM mexc_data.btc\nFORMAT JSONEachRow;")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert orjson.loads(ran.stdout) == {"n": 3}


def test_formats_and_files(data, tmp_path):
    assert run(data, "--format", "CSVWithNames", "SELECT 1 AS a, 'x' AS b").stdout == '"a","b"\n1,"x"\n'
    file = tmp_path / "deals.parquet"
    ran = run(data, "--format", "Parquet", "-o", str(file), "SELECT * FROM btc_deals")
    assert (ran.returncode, ran.stdout) == (0, "")
    contents = file.read_bytes()
    assert contents[:4] == contents[-4:] == b"PAR1"
    file.write_text("old")
    refused = run(data, "-o", str(file), "SELECT * FROM nothing")
    assert refused.returncode == 2
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["deals.parquet"]


def test_statements_without_a_result_print_nothing(data, tmp_path):
    for statement in (
        "CREATE TABLE mine (x Int8) ENGINE = StripeLog",
        "INSERT INTO mine SELECT 1 UNION ALL SELECT 2",
        "INSERT INTO mine VALUES (3),\n\n(4)",
    ):
        ran = run(data, statement)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", ""), statement
    assert run(data, "SELECT sum(x) FROM mine").stdout == "10\n"
    assert run(data, "DROP TABLE mine SYNC").stdout == ""


def test_an_error_is_one_line_with_clickhouses_name_and_code(data):
    ran = run(data, "SELECT * FROM nothing")
    assert ran.returncode == 2
    assert ran.stderr.startswith("mexcflow: Code: 60. DB::Exception: ")
    assert ran.stderr.endswith("(UNKNOWN_TABLE)\n")
    assert ran.stderr.count("\n") == 1


def test_what_setup_makes_and_is_not_there_is_said_with_the_way_to_it(tmp_path):
    data = str(tmp_path / "data")
    with open_store(data) as store:
        store.command("CREATE DATABASE mexc_data")
    for asked in ("trades_all", "candles_from_trades(interval = '1m')", "trades_all"):
        ran = run(data, f"SELECT * FROM market_data.{asked}")
        assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
        assert "`mexcflow setup` makes the tables and views of market_data that are missing" in ran.stderr
        run(data, "CREATE DATABASE IF NOT EXISTS market_data")  # that of an older version


def test_an_error_in_the_middle_of_a_result_is_an_error(data):
    ran = run(data, "SELECT throwIf(number = 2000000) FROM numbers(3000000)")
    assert ran.returncode == 2
    assert "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_folder_without_a_database_is_misuse_and_is_not_made(tmp_path):
    ran = run(str(tmp_path / "none"), "SELECT 1")
    assert ran.returncode == 2
    assert "mexcflow setup" in ran.stderr
    assert not (tmp_path / "none").exists()


def test_a_closed_pipe_ends_in_silence(data):
    process = subprocess.Popen(
        arguments(data, "SELECT number FROM numbers(100000000)"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"0\n"
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr.read() == b""


def test_ctrl_c_ends_a_long_query_at_once(data):
    endless = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1"
    process = subprocess.Popen(arguments(data, endless), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not Path(data, "status").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert b"Traceback" not in process.stderr.read()


def test_a_terminal_gets_a_table_with_types_and_at_most_1000_rows(data):
    shown, code = run_on_terminal(
        data, "SELECT price, side, NULL AS n, 'a\t[bold]\x1b[31m' AS s FROM btc_deals LIMIT 1"
    )
    assert code == 0
    assert re.search(r"price +side +n +s", shown)
    assert re.search(r"Float64 +String", shown)
    assert re.search(r" 1 +buy +NULL +a\\t\[bold\]\\x1b\[31m", shown)
    assert "1 row" in shown
    shown, code = run_on_terminal(data, "SELECT number + 100000 AS number FROM numbers(5000)")
    assert code == 0
    assert "100999" in shown
    assert "101000" not in shown
    assert "first 1,000 rows" in shown
    shown, code = run_on_terminal(data, "SELECT 1 FORMAT Parquet")
    assert code == 2
    assert "--output" in shown
    shown, code = run_on_terminal(data, "SELECT 1 AS a FORMAT JSONEachRow")
    assert shown.strip() == '{"a":1}'


@pytest.mark.parametrize("text", ["", "  \n", ";", "-- nothing", "/* ; */ ;"])
def test_an_empty_statement_is_misuse(text):
    with pytest.raises(Misuse, match="empty"):
        parse_statement(text)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1; SELECT 2",
        "INSERT INTO t FORMAT CSV 1,2",
        "INSERT INTO t (a, b) FORMAT Native\n\n",
        "SELECT 1 INTO OUTFILE 'x' FORMAT CSV",
    ],
)
def test_what_could_lose_rows_in_silence_is_refused(text):
    with pytest.raises(Misuse):
        parse_statement(text)


@pytest.mark.parametrize(
    ("text", "answers", "reads", "own_format", "kept"),
    [
        ("SELECT 1", True, True, "", "SELECT 1"),
        (" select 1 -- x;y\n ; ; ", True, True, "", "select 1"),
        ("(SELECT 1) UNION ALL (SELECT 2);", True, True, "", "(SELECT 1) UNION ALL (SELECT 2)"),
        ("WITH 1 AS x SELECT x FORMAT CSV", True, True, "CSV", "WITH 1 AS x SELECT x FORMAT CSV"),
        ("SELECT 1 FORMAT CSV SETTINGS a = 1", True, True, "CSV", "SELECT 1 FORMAT CSV SETTINGS a = 1"),
        ("SELECT ';', 'it''s', '\\'; FORMAT CSV'", True, True, "", "SELECT ';', 'it''s', '\\'; FORMAT CSV'"),
        ("SELECT format FROM `a;b`", True, True, "", "SELECT format FROM `a;b`"),
        ("SELECT $$;$$ # x", True, True, "", "SELECT $$;$$"),
        ("SELECT 7 -- FORMAT CSV", True, True, "", "SELECT 7"),
        ("SHOW TABLES", True, False, "", "SHOW TABLES"),
        ("EXPLAIN SELECT 1", True, False, "", "EXPLAIN SELECT 1"),
        ("/* c */ DESCRIBE t", True, False, "", "DESCRIBE t"),
        ("CREATE TABLE t (x Int8) ENGINE = Log;", False, False, "", "CREATE TABLE t (x Int8) ENGINE = Log"),
        ("CREATE VIEW v AS SELECT 1", False, False, "", "CREATE VIEW v AS SELECT 1"),
        ("INSERT INTO t SELECT 1", False, False, "", "INSERT INTO t SELECT 1"),
        ("INSERT INTO t VALUES (';')", False, False, "", "INSERT INTO t VALUES (';')"),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", False, False, "",
         "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x"),
        ("SET max_threads = 1", False, False, "", "SET max_threads = 1"),
    ],
)  # fmt: skip
def test_what_a_statement_is(text, answers, reads, own_format, kept):
    assert parse_statement(text) == (kept, answers, reads, own_format)


def test_text_of_the_database_cannot_steer_the_terminal():
    assert printable("a\x1b[2Jb\x07\x9bc\n").plain == r"a\x1b[2Jb\x07\x9bc\n"
    assert printable("[red]x[/red]").plain == "[red]x[/red]"
    assert printable("x" * 10, 5).plain == "xxxx…"


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("SHOW TABLES", "btc_deals\n"),
        ("SHOW CREATE TABLE btc", "StripeLog"),
        ("DESCRIBE btc", "DateTime64(3)"),
        ("EXPLAIN SELECT 1", "ReadFromSystemOne"),
        ("EXISTS TABLE btc", "1\n"),
        ("CHECK TABLE btc", "data.bin"),
    ],
)
def test_what_is_no_select_answers_in_a_pipe_and_into_a_file_too(data, tmp_path, statement, says):
    ran = run(data, statement)
    assert ran.returncode == 0, ran.stderr
    assert says in ran.stdout
    assert run(data, statement, "--output", str(tmp_path / "out.txt")).returncode == 0
    # CHECK TABLE looks at the files of a table side by side, and tells of them in any order
    assert sorted((tmp_path / "out.txt").read_text().splitlines()) == sorted(ran.stdout.splitlines())


def test_statements_that_show_take_a_format(data):
    assert json.loads(run(data, "EXISTS TABLE btc", "--format", "JSONEachRow").stdout) == {"result": 1}


@pytest.mark.parametrize("rest", [("--format", "TSV"), ("--output", "/dev/full")])
def test_a_result_that_cannot_be_written_is_74(data, rest):
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            arguments(data, "SELECT number FROM numbers(100000)", *rest),
            stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert ran.returncode == 74
    assert ran.stderr.startswith("mexcflow: ")
    assert "Traceback" not in ran.stderr
