"""The endpoint on a full disk, where the engine would report success, and at its end."""

import socket
import threading

import pytest

from mexcflow.store import ensure_table, open_store
from tests.conftest import wait_for
from tests.disasters.disk import Disks, why_not
from tests.endpoints import read_all, serving
from tests.test_endpoint_running import ENDLESS, ROW, engine_runs, running, send

REASON = why_not()


@pytest.mark.skipif(bool(REASON), reason=REASON)
def test_a_full_disk_refuses_what_writes_and_lets_pass_what_frees(tmp_path):
    with Disks(tmp_path) as disks:
        disk = disks.new(200)
        with serving(disk.folder / "data") as served:
            ensure_table(served.store, "btc")
            assert served.ask("INSERT INTO mexc_data.btc FORMAT TSV", ROW).code == 0
            disk.fill(leave_bytes=60_000_000)
            reply = served.ask("INSERT INTO mexc_data.btc FORMAT TSV", ROW * 700_000)  # 18 MB
            assert (reply.status, reply.code) == (500, 243), reply.body
            assert served.ask("INSERT INTO mexc_data.btc FORMAT TSV", ROW).code == 0
            disk.fill(leave_bytes=10_000_000)
            for sql in (
                "INSERT INTO mexc_data.btc VALUES (1, 'd', 'x')",
                "INSERT INTO mexc_data.btc SELECT 1, 'd', 'x'",
                "CREATE TABLE mexc_data.more (a Int8) ENGINE = Log",
            ):
                assert served.ask(sql).code == 243
            assert served.ask("SELECT number FROM numbers(5000000)", wait_end_of_query="1").code == 243
            assert served.text("SELECT count() FROM mexc_data.btc") == "2\n"
            assert served.ask("TRUNCATE TABLE mexc_data.btc").code == 0


# the end


def test_closing_lets_an_insert_end_kills_what_does_not_and_frees_the_folder(tmp_path):
    with serving(tmp_path / "a") as served:
        served.store.command("CREATE DATABASE mexc_data")
        served.store.command(
            "CREATE TABLE mexc_data.slow (n UInt64, s UInt8 MATERIALIZED sleepEachRow(0.25)) ENGINE = Log"
        )
        insert = send(served, "INSERT INTO mexc_data.slow FORMAT TSV", b"1\n2\n3\n")
        query = send(served, ENDLESS)
        upload = served.raw(
            served.head("/", "Content-Length: 1000") + b"INSERT INTO mexc_data.slow VALUES (4),"
        )
        idle = served.raw()
        wait_for(lambda: running(served) == 3 and engine_runs(served) == 2)
        closing = threading.Thread(target=served.endpoint.close, kwargs={"grace_s": 1.5})
        closing.start()
        assert insert.recv(12) == b"HTTP/1.1 200"
        wait_for(lambda: served.endpoint._app.draining)
        closing.join(20)
        assert not closing.is_alive()
        assert b"0\r\n\r\n" not in read_all(query)[-5:]
        assert b"200 OK" not in read_all(upload)
        assert read_all(idle) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", served.port))
        assert served.store.query("SELECT count() FROM mexc_data.slow") == [(3,)]
        for line in (insert, query, upload, idle):
            line.close()
        served.endpoint.close()  # a second time does nothing
    with open_store(str(tmp_path / "b")) as store:  # the engine let go of the other one
        assert store.query("SELECT 1") == [(1,)]
    with serving(tmp_path / "a") as again:
        assert again.text("SELECT count() FROM mexc_data.slow") == "3\n"
