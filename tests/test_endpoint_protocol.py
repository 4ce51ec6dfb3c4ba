"""The endpoint's side of the protocol, with requests as they are on the wire."""

import base64
import gzip
import socket
import zlib
from collections.abc import Iterator

import lz4.frame
import pytest

from mexcflow.errors import Misuse
from mexcflow.store import ensure_table, table_state
from mexcflow.store.endpoint import Endpoint
from tests.conftest import wait_for
from tests.endpoints import Served, read_all, serving

try:
    from compression import zstd
except ImportError:
    from backports import zstd

ROW = b"1700000000123\td\t84055|3|1\n"


@pytest.fixture(scope="module")
def module_served(tmp_path_factory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("data")) as served:
        ensure_table(served.store, "btc")
        served.store.command("CREATE TABLE mexc_data.numbers (n UInt64) ENGINE = MergeTree ORDER BY n")
        yield served


@pytest.fixture
def served(module_served) -> Served:
    module_served.store.command("TRUNCATE TABLE mexc_data.btc")
    module_served.store.command("TRUNCATE TABLE mexc_data.numbers")
    return module_served


def rows(served: Served) -> int:
    return table_state(served.store, "btc").rows


# who is let in


def test_ping_and_the_bare_address_answer_ok_to_everybody(served):
    for path in ("/ping", "/"):
        reply = served.ask(method="GET", path=path, headers={"X-ClickHouse-Key": None})
        assert (reply.status, reply.body) == (200, b"Ok.\n")
        assert reply.headers["x-mexcflow-owner"] == served.owner


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_the_token_is_taken_in_each_of_the_ways_there_are(served):
    none = {"X-ClickHouse-Key": None}
    for headers, parameters in (
        ({}, {}),
        ({**none, **basic("default", served.token)}, {}),
        ({**none, **basic("anybody", served.token)}, {}),
        ({**none, "Authorization": f"Bearer {served.token}"}, {}),
        (none, {"user": "me", "password": served.token}),
    ):
        assert served.ask("SELECT 1", headers=headers, **parameters).body == b"1\n"


@pytest.mark.parametrize(
    ("headers", "parameters"),
    [
        ({}, {}),
        ({"X-ClickHouse-Key": "wrong"}, {}),
        ({"X-ClickHouse-Key": "ö"}, {}),
        (basic("default", "wrong"), {}),
        (basic("default", ""), {}),
        ({"Authorization": "Basic §"}, {}),
        ({"Authorization": "Bearer wrong"}, {}),
        ({}, {"password": "wrong"}),
        ({}, {"password": ""}),
    ],
)
def test_without_the_token_nothing_is_executed(served, headers, parameters):
    reply = served.ask(
        "INSERT INTO mexc_data.btc FORMAT TSV",
        ROW,
        headers={"X-ClickHouse-Key": None, **headers},
        **parameters,
    )
    assert (reply.status, reply.code) == (403, 516)
    assert b"(AUTHENTICATION_FAILED)" in reply.body
    assert served.token.encode() not in reply.body
    assert rows(served) == 0


def test_a_wrong_password_beside_the_right_token_is_refused(served):
    assert served.ask("SELECT 1", password="wrong").status == 403


def test_a_request_for_an_owner_that_died_is_not_executed_by_its_successor(served):
    reply = served.ask("INSERT INTO mexc_data.btc FORMAT TSV", ROW, headers={"X-Mexcflow-Owner": "another"})
    assert reply.status == 421
    assert reply.headers["x-mexcflow-owner"] == served.owner
    assert rows(served) == 0
    assert served.ask("SELECT 1", headers={"X-Mexcflow-Owner": served.owner}).body == b"1\n"


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8123", "LOCALHOST"])
def test_the_names_of_this_machine_are_served(served, host):
    with served.raw(served.head("/ping", "Connection: close", method="GET", host=host)) as line:
        assert read_all(line).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "192.168.1.7:8123", "[::2]", "[::1", "localhost@evil.example"],
)
def test_a_web_page_that_has_its_name_point_to_us_gets_nothing(served, host):
    for target in ("/ping", "/?query=SELECT%201"):
        with served.raw(served.head(target, "Connection: close", method="GET", host=host)) as line:
            assert read_all(line).startswith(b"HTTP/1.1 403 ")


def test_a_request_with_two_hosts_or_none_gets_nothing(served):
    two = served.head("/ping", "Host: localhost", "Connection: close", method="GET")
    none = b"GET /ping HTTP/1.1\r\nConnection: close\r\n\r\n"
    for request in (two, none):
        with served.raw(request) as line:
            assert read_all(line).split()[1] in (b"400", b"403")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_a_web_page_of_another_site_is_refused_even_with_the_token(served, headers):
    assert served.ask("INSERT INTO mexc_data.btc FORMAT TSV", ROW, headers=headers).status == 403
    assert rows(served) == 0


def test_our_own_origin_is_no_other_site(served):
    assert served.ask("SELECT 1", headers={"Origin": f"http://127.0.0.1:{served.port}"}).status == 200


def test_another_path_is_not_found(served):
    assert served.ask("SELECT 1", path="/play").status == 404


def test_a_port_that_is_taken_is_misuse(served):
    with pytest.raises(Misuse, match=f"--http-port.*{served.port}"):
        Endpoint(served.store.folder, token="x", owner="y", port=served.port).start()


# the statement, and where it stands


def test_the_statement_is_in_the_url_in_the_body_or_in_both(served):
    assert served.text("SELECT 1") == "1\n"
    assert served.ask("SELECT 1", method="GET").body == b"1\n"
    assert served.ask("SELECT 1", b"").body == b"1\n"
    assert served.ask("SELECT 1", b"+ 1 AS x FORMAT JSONEachRow").body == b'{"x":2}\n'
    assert served.ask("SELECT 1;  -- done\n ;").body == b"1\n"


def test_curls_type_for_data_does_not_make_it_a_form(served):
    assert (
        served.ask("SELECT 1", headers={"Content-Type": "application/x-www-form-urlencoded"}).body == b"1\n"
    )


@pytest.mark.parametrize("sql", ["", "  ", ";", "-- nothing"])
def test_an_empty_statement_is_a_syntax_error(served, sql):
    reply = served.ask(sql, b"" if sql == "" else None)
    assert (reply.status, reply.code) == (400, 62)


@pytest.mark.parametrize(
    ("sql", "status", "code"),
    [
        ("SELECT 1; SELECT 2", 400, 62),
        ("SELEC 1", 400, 62),
        ("SELECT * FROM no_such_table", 404, 60),
        ("SELECT no_such_function()", 404, 46),
        ("SELECT no_such_column", 404, 47),
        ("SELECT 1 FORMAT NoSuch", 404, 73),
        ("SELECT 1 INTO OUTFILE '/tmp/x'", 400, 1),
        ("INSERT INTO mexc_data.btc FROM INFILE '/etc/passwd' FORMAT TSV", 404, 78),
        ("INSERT INTO mexc_data.btc", 400, 62),
        ("INSERT INTO mexc_data.btc FORMAT", 400, 62),
        ("INSERT INTO mexc_data.btc FORMAT TSV;\n1", 400, 62),
        ("SELECT throwIf(1)", 500, 395),
        ("DROP TABLE mexc_data.no_such_table", 404, 60),
    ],
)
def test_an_error_has_the_status_and_the_code_of_a_server(served, sql, status, code):
    reply = served.ask(sql)
    assert (reply.status, reply.code) == (status, code), reply.body
    assert reply.body.startswith(f"Code: {code}. DB::Exception: ".encode())
    assert reply.body.rstrip().endswith(b")")
    assert reply.headers["content-type"] == "text/plain; charset=UTF-8"


@pytest.mark.parametrize(
    ("sql", "first"),
    [
        ("EXPLAIN SELECT 1", "Output"),
        ("SHOW DATABASES", "INFORMATION_SCHEMA"),
        ("SHOW TABLES FROM mexc_data", "btc"),
        ("DESCRIBE TABLE mexc_data.btc", "ts\tDateTime64(3)"),
        ("EXISTS mexc_data.btc", "1"),
        ("CHECK TABLE mexc_data.btc", ""),
        ("SHOW CREATE TABLE mexc_data.btc", "CREATE TABLE mexc_data.btc"),
        ("WITH 3 AS x SELECT x", "3"),
        ("FROM system.one SELECT 4", "4"),
        ("(SELECT 5)", "5"),
        ("SELECT 6 UNION ALL SELECT 6", "6"),
        ("SELECT 7 SETTINGS max_threads = 1", "7"),
        ("SELECT 8 FORMAT TSV SETTINGS max_threads = 1", "8"),
        ("SELECT format('{}', 'FORMAT JSON') -- FORMAT JSON", "FORMAT JSON"),
        ("/* a comment */ SELECT 'a;b' -- and another", "a;b"),
        ("KILL QUERY WHERE query_id = 'no such'", ""),
    ],
)
def test_every_statement_that_answers_does(served, sql, first):
    reply = served.ask(sql)
    assert (reply.status, reply.code) == (200, 0), reply.body
    assert reply.body.decode().startswith(first)
    assert reply.headers["x-clickhouse-format"] in ("TabSeparated", "TSV")


def test_every_statement_that_does_not_answer_says_so(served):
    for sql in (
        "CREATE TABLE mexc_data.x (a Int8) ENGINE = Log",
        "RENAME TABLE mexc_data.x TO mexc_data.y",
        "TRUNCATE TABLE mexc_data.y",
        "INSERT INTO mexc_data.y SELECT 1",
        "DROP TABLE mexc_data.y SYNC",
        "OPTIMIZE TABLE mexc_data.numbers FINAL",
        "ALTER TABLE mexc_data.numbers DELETE WHERE n = 1",
        "SYSTEM FLUSH LOGS",
        "SET max_threads = 1",
        "USE mexc_data",
    ):
        reply = served.ask(sql)
        assert (reply.status, reply.code, reply.body) == (200, 0, b""), sql
        assert "x-clickhouse-format" not in reply.headers, sql


def test_an_empty_result_is_a_result(served):
    for sql in ("SELECT 1 LIMIT 0", "SELECT * FROM mexc_data.btc"):
        reply = served.ask(sql)
        assert (reply.status, reply.body) == (200, b"")
        assert reply.headers["x-clickhouse-format"] == "TabSeparated"
    assert served.ask("SELECT 1 AS x LIMIT 0 FORMAT JSON").body.startswith(b'{\n\t"meta"')


@pytest.mark.parametrize(
    ("fmt", "kind", "body"),
    [
        ("TSV", "text/tab-separated-values; charset=UTF-8", b"0\n1\n"),
        ("CSVWithNames", "text/csv; charset=UTF-8; header=present", b'"number"\n0\n1\n'),
        ("JSONEachRow", "application/x-ndjson; charset=UTF-8", b'{"number":0}\n{"number":1}\n'),
        ("JSONCompact", "application/json; charset=UTF-8", None),
        ("RowBinary", "application/octet-stream", bytes(8) + b"\1" + bytes(7)),
        ("Values", "text/plain; charset=UTF-8", b"(0),(1)"),
        ("XML", "application/xml; charset=UTF-8", None),
        ("PrettyCompact", "text/plain; charset=UTF-8", None),
        ("Null", "application/octet-stream", b""),
    ],
)
def test_each_format_comes_whole_with_its_type(served, fmt, kind, body):
    for reply in (
        served.ask("SELECT number FROM numbers(2)", default_format=fmt),
        served.ask(f"SELECT number FROM numbers(2) FORMAT {fmt}", default_format="JSON"),
        served.ask("SELECT number FROM numbers(2)", headers={"X-ClickHouse-Format": fmt}),
    ):
        assert reply.status == 200
        assert reply.headers["content-type"] == kind
        assert reply.headers["x-clickhouse-format"] == fmt
        assert body in (None, reply.body)


def test_a_format_that_is_no_name_is_unknown(served):
    assert served.ask("SELECT 1", default_format="TSV INTO").code == 73


def test_what_a_server_says_of_itself_is_in_every_answer(served):
    reply = served.ask("SELECT number FROM numbers(5)", query_id="mine")
    assert reply.headers["x-clickhouse-query-id"] == "mine"
    assert reply.headers["x-clickhouse-timezone"] == "UTC"
    assert reply.headers["x-clickhouse-server-display-name"] == socket.gethostname()
    assert reply.summary["read_rows"] == "5"
    assert len(served.ask("SELECT 1").headers["x-clickhouse-query-id"]) == 36


def test_a_query_id_with_a_line_break_makes_no_header(served):
    reply = served.ask("SELECT 1", query_id="a\r\nX-Evil: 1")
    assert reply.status == 200
    assert "x-evil" not in reply.headers


def test_head_has_no_body_and_only_reads(served):
    assert served.ask("SELECT 1", method="HEAD").body == b""
    assert served.ask("TRUNCATE TABLE mexc_data.btc", method="HEAD").status == 500


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO mexc_data.btc VALUES (now(), 'd', 'x')",
        "INSERT INTO mexc_data.btc SELECT now(), 'd', 'x'",
        "CREATE TABLE mexc_data.got (a Int8) ENGINE = Log",
        "DROP TABLE mexc_data.btc",
        "SET readonly = 0",
        "KILL QUERY WHERE 1",
    ],
)
@pytest.mark.parametrize("session", [{}, {"session_id": "reader"}])
def test_get_changes_nothing(served, sql, session):
    reply = served.ask(sql, method="GET", **session)
    if sql.startswith("SET") and session:
        return  # there is nothing to change that back for
    assert reply.code == 164, reply.body
    assert rows(served) == 0
    assert served.text("EXISTS mexc_data.got") == "0\n"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_a_method_that_is_neither_get_nor_head_nor_post_executes_nothing(served, method):
    assert served.ask("TRUNCATE TABLE mexc_data.btc", method=method).status == 405


@pytest.mark.parametrize("sql", ["SYSTEM SHUTDOWN", "system /* ! */ kill"])
def test_nobody_ends_the_owner_by_a_statement(served, sql):
    assert served.ask(sql).code == 48
    assert served.text("SELECT 1") == "1\n"


def test_get_takes_settings_and_posts_with_readonly_obey(served):
    assert served.ask("SELECT getSetting('max_threads')", method="GET", max_threads="3").body == b"3\n"
    assert served.ask("TRUNCATE TABLE mexc_data.btc", readonly="1").code == 164
    assert served.ask("SELECT 1", readonly="1").body == b"1\n"
    assert served.ask("TRUNCATE TABLE mexc_data.btc").code == 0


# settings and parameters


def test_settings_are_for_one_request(served):
    sql = "SELECT getSetting('max_block_size')"
    usual = served.text(sql)
    assert served.text(sql, max_block_size="77") == "77\n"
    assert served.text(sql) == usual
    served.ask("SET max_block_size = 99")
    assert served.text(sql) == usual
    served.ask("USE mexc_data")
    assert served.text("SELECT currentDatabase()") == "default\n"
    assert served.text("SELECT currentDatabase()", database="mexc_data") == "mexc_data\n"
    assert served.text("SELECT count() FROM btc", headers={"X-ClickHouse-Database": "mexc_data"}) == "0\n"


def test_settings_that_change_with_every_request_do_not_stay(served):
    sql = "SELECT getSetting('log_comment')"
    assert served.text(sql, log_comment="a'b\\c") == "a\\'b\\\\c\n"
    assert served.text(sql) == "\n"


@pytest.mark.parametrize("name", ["no_such_setting", "a b", "x;y"])
def test_a_setting_that_there_is_not_is_an_error(served, name):
    reply = served.ask("SELECT 1", **{name: "1"})
    assert (reply.status, reply.code) == (404, 115)


def test_an_unknown_database_is_an_error(served):
    assert served.ask("SELECT 1", database="nowhere").code == 81


@pytest.mark.parametrize(
    ("kind", "given", "result"),
    [
        ("String", "it's `odd`", "it\\'s `odd`"),
        ("String", "a\\tb\\\\c", "a\\tb\\\\c"),
        ("String", "ünï", "ünï"),
        ("UInt8", "7", "7"),
        ("Array(String)", "['a','b']", "['a','b']"),
        ("Nullable(String)", "\\N", "\\N"),
    ],
)
def test_parameters_fill_the_statement(served, kind, given, result):
    assert served.text(f"SELECT {{x:{kind}}}", param_x=given) == result + "\n"


def test_a_form_brings_statement_and_parameters(served):
    body = "".join(
        f'--cut\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in {"query": "SELECT {x:String}, {y:UInt8}", "param_x": "z" * 200_000}.items()
    )
    headers = {"Content-Type": "multipart/form-data; boundary=cut"}
    reply = served.ask("", body + "--cut--\r\n", headers=headers, param_y="3")
    assert reply.body.decode() == "z" * 200_000 + "\t3\n"


def test_a_form_with_a_table_in_it_or_a_broken_one_is_refused(served):
    headers = {"Content-Type": "multipart/form-data; boundary=cut"}
    table = '--cut\r\nContent-Disposition: form-data; name="t"; filename="t.tsv"\r\n\r\n1\r\n--cut--\r\n'
    assert served.ask("SELECT * FROM t", table, headers=headers).code == 48
    assert served.ask("SELECT 1", "no form at all", headers=headers).code in (62, 117)


def test_own_framing_is_refused_clearly(served):
    for name in ("compress", "decompress"):
        reply = served.ask("SELECT 1", **{name: "1"})
        assert (reply.status, reply.code) == (501, 48)


# inserts


@pytest.mark.parametrize(
    ("sql", "data"),
    [
        ("INSERT INTO mexc_data.btc FORMAT TSV", ROW * 2),
        ("insert into mexc_data.btc (ts, mt, m) format TabSeparated", ROW + ROW[:-1]),
        ("INSERT INTO mexc_data.btc VALUES", b"(now(), 'd', 'a;b'), (now64(3), 't', concat('a', 'b'));"),
        ("INSERT INTO mexc_data.btc FORMAT Values", b"('2026-01-01 00:00:00', 'd', ''), (now(), 'd', '')"),
        (
            "INSERT INTO mexc_data.btc FORMAT JSONEachRow",
            b'{"ts":"2026-01-01 00:00:00","mt":"d","m":"x"}\n\n{"ts":1,"mt":"t","m":"y"}',
        ),
        ("INSERT INTO mexc_data.btc FORMAT CSV", b'"2026-01-01 00:00:00","d","a,b"\n1,t,"x"\n'),
        ("INSERT INTO TABLE `mexc_data`.btc SETTINGS max_threads = 1 FORMAT TSV", ROW * 2),
        ("/* FORMAT CSV */ INSERT INTO mexc_data.btc(m, ts, mt) FORMAT TSV", b"x\t1\td\n" * 2),
        ("INSERT INTO FUNCTION remoteSecure('x') FORMAT TSV", None),
    ],
)
def test_rows_are_inserted_wherever_the_statement_stands(served, sql, data):
    if data is None:
        assert served.ask(sql, b"1").code != 0
        return
    reply = served.ask(sql, data)
    assert (reply.status, reply.body) == (200, b"")
    assert reply.summary["written_rows"] == "2"
    assert served.ask("", sql.encode() + b"\n" + data).summary["written_rows"] == "2"
    assert rows(served) == 4


def test_data_with_empty_lines_and_semicolons_arrives_whole(served):
    # the engine itself would cut such data and execute the rest
    data = b"1\td\ta\n\n2\td\tDROP TABLE mexc_data.btc;\n"
    reply = served.ask("INSERT INTO mexc_data.btc FORMAT TSV", data)
    assert reply.code != 0  # an empty line is no row
    assert rows(served) == 0
    data = b"1\td\ta;\\n\\nb\n2\td\t; DROP TABLE mexc_data.btc;\n"
    assert served.ask("INSERT INTO mexc_data.btc FORMAT TSV", data).code == 0
    assert served.text("SELECT m FROM mexc_data.btc ORDER BY ts").splitlines()[0] == "a;\\n\\nb"


def test_a_binary_result_can_be_inserted_as_it_came(served):
    for fmt in ("Native", "RowBinary", "Parquet", "ArrowStream"):
        block = served.ask("SELECT number AS n FROM numbers(70000)", default_format=fmt).body
        assert (
            served.ask(f"INSERT INTO mexc_data.numbers FORMAT {fmt}", block).summary["written_rows"]
            == "70000"
        )
    assert (
        served.text("SELECT count(), sum(n) FROM mexc_data.numbers") == f"280000\t{4 * sum(range(70000))}\n"
    )


def test_a_bad_row_means_no_row(served):
    reply = served.ask("INSERT INTO mexc_data.btc FORMAT TSV", ROW * 1000 + b"rubbish\n" + ROW)
    assert reply.code == 27 or reply.status == 400
    assert rows(served) == 0


def test_settings_of_servers_do_not_hurt_and_one_block_is_one_block(served):
    one = {"max_insert_block_size": 1 << 30, "min_insert_block_size_rows": 1 << 30,
           "min_insert_block_size_bytes": 1 << 32, "input_format_parallel_parsing": 0}  # fmt: skip
    more = {"async_insert": 0, "wait_for_async_insert": 1, "insert_deduplication_token": "a",
            "insert_deduplicate": 1, "send_progress_in_http_headers": 1,
            "http_headers_progress_interval_ms": 1000, "wait_end_of_query": 1}  # fmt: skip
    for _ in range(2):
        assert (
            served.ask("INSERT INTO mexc_data.numbers FORMAT TSV", b"1\n" * 300_000, **one, **more).code == 0
        )
    parts = served.text("SELECT rows FROM system.parts WHERE active AND table = 'numbers' AND level = 0")
    assert "600000" in parts or parts.splitlines() == ["300000"] * 2


def test_insert_select_says_how_many_rows_it_wrote(served):
    assert served.ask("INSERT INTO mexc_data.numbers SELECT * FROM numbers(7)").summary["written_rows"] == "7"


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("zstd", zstd.compress),
        ("lz4", lz4.frame.compress),
    ],
)
@pytest.mark.parametrize("size", [3, 200_000])
def test_packed_bodies_are_unpacked(served, name, pack, size):
    data = b"".join(b"%d\n" % number for number in range(size))
    for body in (pack(data), pack(data[: 2 * size // 2]) + pack(data[2 * size // 2 :])):
        reply = served.ask(
            "INSERT INTO mexc_data.numbers FORMAT TSV", body, headers={"Content-Encoding": name}
        )
        assert (reply.code, reply.summary["written_rows"]) == (0, str(size)), reply.body
    body = pack(b"INSERT INTO mexc_data.numbers FORMAT TSV\n" + data)
    assert served.ask("", body, headers={"Content-Encoding": name}).summary["written_rows"] == str(size)
    assert served.text("SELECT count() FROM mexc_data.numbers") == f"{3 * size}\n"


@pytest.mark.parametrize("name", ["gzip", "zstd", "lz4", "deflate", "br", "snappy"])
def test_what_cannot_be_unpacked_is_an_error_and_no_row(served, name):
    packs = {
        "gzip": gzip.compress,
        "deflate": zlib.compress,
        "zstd": zstd.compress,
        "lz4": lz4.frame.compress,
    }
    whole = packs.get(name, bytes)(ROW * 1000)
    for body in (b"rubbish" * 100, whole[: len(whole) // 2], whole[:-3]):
        reply = served.ask("INSERT INTO mexc_data.btc FORMAT TSV", body, headers={"Content-Encoding": name})
        assert reply.code in (33, 48, 117), (reply.status, reply.body)
    assert rows(served) == 0


@pytest.mark.parametrize(
    ("name", "unpack"),
    [
        ("gzip", gzip.decompress),
        ("deflate", zlib.decompress),
        ("zstd", zstd.decompress),
        ("lz4", lz4.frame.decompress),
    ],
)
@pytest.mark.parametrize("count", [1, 50_000, 400_000])
def test_answers_are_packed_when_the_client_asks_for_it(served, name, unpack, count):
    sql = f"SELECT number FROM numbers({count})"
    plain = served.ask(sql, headers={"Accept-Encoding": name})
    assert "content-encoding" not in plain.headers
    packed = served.ask(sql, headers={"Accept-Encoding": f"{name}, br;q=0"}, enable_http_compression=1)
    assert packed.headers["content-encoding"] == name
    assert unpack(packed.body) == plain.body
    assert len(plain.body.splitlines()) == count


def test_a_body_that_is_cut_is_never_executed(served):
    sql = "/?query=INSERT%20INTO%20mexc_data.btc%20FORMAT%20TSV"
    for request in (
        served.head(sql, f"Content-Length: {len(ROW) * 3}") + ROW * 2,
        served.head(sql, "Transfer-Encoding: chunked") + b"%x\r\n%b\r\n" % (len(ROW), ROW),
        served.head(sql, f"Content-Length: {len(ROW) * 200_000}") + ROW * 100_000,
        served.head(sql, "Transfer-Encoding: chunked") + b"%x\r\n%b\r\nzz\r\n" % (len(ROW), ROW),
        served.head(sql, "Transfer-Encoding: chunked") + b"%x\r\n%b" % (len(ROW) * 2, ROW),
        served.head("/", "Content-Length: 400") + b"INSERT INTO mexc_data.btc FORMAT TSV\n" + ROW,
    ):
        served.raw(request).close()
    with served.raw(served.head(sql, f"Content-Length: {len(ROW) * 3}") + ROW * 2) as line:
        line.shutdown(socket.SHUT_WR)
        assert b"200 OK" not in read_all(line)
    wait_for(lambda: not len(served.endpoint._engine.statements))
    assert rows(served) == 0
    assert served.text("SELECT 1") == "1\n"


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\0\1\2\3\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    ],
)
def test_rubbish_is_answered_with_400_or_nothing(served, rubbish):
    with served.raw(rubbish) as line:
        line.shutdown(socket.SHUT_WR)
        assert read_all(line)[:12] in (b"HTTP/1.1 400", b"")
    assert served.text("SELECT 1") == "1\n"


def test_requests_one_behind_the_other_are_answered_in_their_order(served):
    requests = b"".join(
        served.head(
            f"/?query=SELECT%20{number}", *(["Connection: close"] if number == 9 else []), method="GET"
        )
        for number in range(10)
    )
    with served.raw(requests) as line:
        answers = read_all(line).split(b"HTTP/1.1 ")[1:]
    assert [answer.partition(b"\r\n\r\n")[2] for answer in answers] == [
        b"%d\n" % number for number in range(10)
    ]


def test_a_client_that_sends_slowly_is_waited_for_and_holds_up_nobody(served):
    sql = b"INSERT INTO mexc_data.btc FORMAT TSV\n"
    request = served.head("/", f"Content-Length: {len(sql + ROW)}", "Connection: close") + sql + ROW
    with served.raw() as line:
        for begin in range(0, len(request), 40):
            line.sendall(request[begin : begin + 40])
            assert served.text("SELECT 1") == "1\n"
        assert read_all(line).startswith(b"HTTP/1.1 200 ")
    assert rows(served) == 1
