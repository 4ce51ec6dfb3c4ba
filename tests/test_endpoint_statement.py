"""Where an INSERT's data begins, what a statement is, and what goes to the engine; and bodies in pieces."""

import gzip
from pathlib import Path

import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mexcflow.store.endpoint.coding import Decoder, encoder, wanted
from mexcflow.store.endpoint.refusal import Refusal
from mexcflow.store.endpoint.statement import parse, with_infile, with_outfile, with_real_ids
from mexcflow.store.endpoint.upload import Upload


@pytest.mark.parametrize(
    ("text", "sent", "data"),
    [
        ("INSERT INTO t FORMAT TSV\n1\n", "INSERT INTO t FROM INFILE 'F' FORMAT TSV", "1\n"),
        ("INSERT INTO t FORMAT TSV\r\n1\n", "INSERT INTO t FROM INFILE 'F' FORMAT TSV", "1\n"),
        ("INSERT INTO t FORMAT TSV \t 1\n", "INSERT INTO t FROM INFILE 'F' FORMAT TSV", "1\n"),
        ("INSERT INTO t FORMAT TSV\n\n1\n", "INSERT INTO t FROM INFILE 'F' FORMAT TSV", "\n1\n"),
        ("INSERT INTO t FORMAT TSV", "INSERT INTO t FROM INFILE 'F' FORMAT TSV", ""),
        ("insert into t values (1)", "insert into t FROM INFILE 'F' FORMAT Values", "(1)"),
        ("INSERT INTO t VALUES(1);", "INSERT INTO t FROM INFILE 'F' FORMAT Values", "(1);"),
        ("INSERT INTO t FORMAT Values (1)", "INSERT INTO t FROM INFILE 'F' FORMAT Values", "(1)"),
        (
            "INSERT INTO d.`a b` (x, `values`) SETTINGS a = 'FORMAT', b = 1 FORMAT CSV\n1,2",
            "INSERT INTO d.`a b` (x, `values`) FROM INFILE 'F' SETTINGS a = 'FORMAT', b = 1 FORMAT CSV",
            "1,2",
        ),
        ("INSERT INTO TABLE format.values VALUES (1)", None, "(1)"),
        ("INSERT INTO values FORMAT TSV\n1", "INSERT INTO values FROM INFILE 'F' FORMAT TSV", "1"),
        ("INSERT INTO FUNCTION file('a;b', 'TSV') FORMAT TSV\n1", None, "1"),
        ("-- FORMAT CSV\nINSERT /* VALUES */ INTO t FORMAT TSV\n1", None, "1"),
        ("INSERT INTO {t:Identifier} FORMAT TSV\n1", None, "1"),
        ("INSERT INTO t (* EXCEPT (a)) VALUES (1)", None, "(1)"),
        ("INSERT INTO t FORMAT Native\n\0\1; DROP TABLE t\n\n", None, "\0\1; DROP TABLE t\n\n"),
    ],
)
def test_the_data_of_an_insert_begins_where_a_server_says(text, sent, data):
    found = parse(text, whole=True)
    assert text[found.data_at :] == data
    assert sent in (None, with_infile(found, "F").decode())
    assert parse(text, whole=False) == found


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t SELECT 1",
        "INSERT INTO t (a) WITH 1 AS x SELECT x",
        "INSERT INTO values SELECT * FROM format",
    ],
)
def test_an_insert_from_elsewhere_has_no_data(text):
    found = parse(text + " ;", whole=True)
    assert (found.text, found.data_at, found.writes, found.reads) == (text, -1, True, False)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("SELECT 1", "SELECT 1\nINTO OUTFILE 'F' TRUNCATE FORMAT D"),
        ("SELECT 1 -- x", "SELECT 1\nINTO OUTFILE 'F' TRUNCATE FORMAT D"),
        ("SELECT 1 FORMAT JSON;", "SELECT 1 \nINTO OUTFILE 'F' TRUNCATE FORMAT JSON"),
        (
            "SELECT 1 format JSON settings a=1",
            "SELECT 1 \nINTO OUTFILE 'F' TRUNCATE format JSON settings a=1",
        ),
        ("SELECT 1 SETTINGS a=1", "SELECT 1 SETTINGS a=1\nINTO OUTFILE 'F' TRUNCATE FORMAT D"),
        ("SELECT format('{}', 1)", "SELECT format('{}', 1)\nINTO OUTFILE 'F' TRUNCATE FORMAT D"),
    ],
)
def test_a_result_is_sent_through_the_pipe_in_its_format(text, sent):
    assert with_outfile(parse(text, whole=True), "F", "D").decode() == sent


def test_only_our_ids_in_a_kill_are_replaced():
    found = parse("KILL QUERY WHERE query_id IN ('a', 'b') AND user = 'a' SYNC", whole=True)
    sent = with_real_ids(found, lambda name: {"a": "1"}.get(name, name)).decode()
    assert sent == "KILL QUERY WHERE query_id IN ('1', 'b') AND user = '1' SYNC"


@pytest.mark.parametrize("pieces", [1, 7, 1000])
@pytest.mark.parametrize("query", ["", "INSERT INTO t FORMAT TSV"])
@pytest.mark.parametrize("encoding", ["", "gzip", "lz4"])
def test_a_body_in_pieces_is_the_same_body(tmp_path, pieces, query, encoding):
    data = b"".join(b"%d\n" % number for number in range(100_000))
    body = data if query else b"INSERT INTO t FORMAT TSV\n" + data
    body = {"": bytes, "gzip": gzip.compress, "lz4": lz4.frame.compress}[encoding](body)
    upload = Upload(tmp_path, query, encoding=encoding)
    size = len(body) // pieces + 1
    for begin in range(0, len(body), size):
        upload.feed(body[begin : begin + size])
    upload.finish()
    assert Path(upload.path).read_bytes() == data
    assert upload.data_bytes == len(data)
    upload.close()
    assert list(tmp_path.iterdir()) == []  # it never had a name


def test_a_statement_that_never_ends_is_refused(tmp_path):
    upload = Upload(tmp_path, "")
    upload.feed(b"SELECT 1, " * 20_000)
    with pytest.raises(Refusal) as caught:
        upload.feed(b"SELECT 1, " * 20_000)
    assert caught.value.code == 62
    long = Upload(tmp_path, "", max_statement=1 << 20)
    long.feed(b"SELECT " + b"1, " * 200_000 + b"1")
    long.finish()
    assert long.statement.reads


def test_a_bomb_comes_out_a_megabyte_at_a_time():
    bomb = gzip.compress(bytes(50_000_000))
    sizes = [len(piece) for piece in Decoder("gzip").feed(bomb)]
    assert sum(sizes) == 50_000_000
    assert max(sizes) <= 1 << 20


@given(
    data=st.binary(max_size=5000),
    cut=st.integers(0, 5000),
    name=st.sampled_from(["gzip", "lz4", "zstd", "deflate"]),
)
def test_whatever_is_packed_comes_out_again(data, cut, name):
    packs = encoder(name)
    packed = packs.compress(data[:cut]) + packs.compress(data[cut:]) + packs.flush()
    unpacks = Decoder(name)
    out = b"".join(
        piece for begin in range(0, len(packed), 100) for piece in unpacks.feed(packed[begin : begin + 100])
    )
    unpacks.finish()
    assert out == data


@pytest.mark.parametrize(
    ("accept", "name"),
    [
        ("gzip, deflate, br", "gzip"),
        ("lz4,zstd", "lz4"),
        ("zstd;q=0.5", "zstd"),
        ("gzip;q=0", ""),
        ("br", ""),
        ("", ""),
    ],
)
def test_an_answer_is_packed_as_its_client_accepts_it(accept, name):
    assert wanted(accept) == name
