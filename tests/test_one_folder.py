"""One data folder as a user has it: several `run`, `verify` and `sql` beside them, and `engine`."""

import json
import signal
import socket
from pathlib import Path

import pytest

from mexcflow.simulator import Simulator
from mexcflow.store.owner import holder
from tests.conftest import mexcflow, wait_for

SYMBOLS = ("BTC_USDT", "ETH_USDT", "SOL_USDT")


@pytest.mark.timeout(180)
def test_three_record_while_others_verify_and_query_and_the_owner_is_killed(tmp_path, start):
    with Simulator(symbols=SYMBOLS, speed=10) as exchange:
        runs = {
            symbol: start("run", "--symbol", symbol, "--endpoint", exchange.url, "--flush-interval", "0.1")
            for symbol in SYMBOLS
        }
        wait_for(lambda: all(rows(tmp_path)), seconds=60)
        done = mexcflow("verify", "--json", cwd=tmp_path)
        report = json.loads(done.stdout)
        assert done.returncode == 0, done.stdout
        assert set(report["tables"]) == {"btc", "eth", "sol"}
        for table in report["tables"].values():
            assert table["staleness_s"] >= 0
            assert not [note for note in table["notes"] if "wait in the journal" in note]
        owner = holder(tmp_path / "data").pid
        (killed,) = [run for run in runs.values() if run.process.pid == owner]
        killed.process.kill()
        killed.process.wait()
        before = rows(tmp_path)
        left = [run for run in runs.values() if run is not killed]
        wait_for(
            lambda: sum(now > was for now, was in zip(rows(tmp_path), before, strict=True)) == 2, seconds=60
        )
        assert [run.stop(within=30) for run in left] == [0, 0], [run.err for run in left]
    assert mexcflow("verify", cwd=tmp_path).returncode == 0


def rows(folder: Path) -> list[int]:
    """How many rows each of the three tables has; 0 for one that is not there yet."""
    done = mexcflow(
        "sql",
        "SELECT name, total_rows FROM system.tables WHERE database = 'mexc_data' AND engine = 'StripeLog'",
        cwd=folder,
    )
    found = dict(line.split("\t") for line in done.stdout.splitlines())
    return [int(found.get(table, "0").replace("\\N", "0")) for table in ("btc", "eth", "sol")]


class TestEngine:
    def test_says_where_it_answers_and_ends_in_order(self, tmp_path, start):
        engine = start("engine", "--json")
        wait_for(lambda: engine.out.endswith("\n"), seconds=30)
        told = json.loads(engine.out)
        assert told["pid"] == engine.process.pid
        assert Path(told["endpoint_file"]) == tmp_path / "data/endpoint.json"
        assert told["url"] == json.loads(Path(told["endpoint_file"]).read_text())["url"]
        assert mexcflow("sql", "SELECT 6 * 7", cwd=tmp_path).stdout == "42\n"
        assert engine.stop(within=20) == 0
        assert holder(tmp_path / "data") is None

    def test_a_second_one_is_73_and_with_wait_it_takes_over(self, tmp_path, start):
        first = start("engine")
        wait_for(lambda: "answers on" in first.out, seconds=30)
        second = mexcflow("engine", cwd=tmp_path)
        assert second.returncode == 73
        assert f"PID {first.process.pid}" in second.stderr
        waiting = start("engine", "--wait")
        wait_for(lambda: "standing by" in waiting.err, seconds=30)
        first.process.kill()
        wait_for(lambda: "answers on" in waiting.out, seconds=30)
        assert holder(tmp_path / "data").pid == waiting.process.pid
        third = start("engine", "--wait")
        wait_for(lambda: "standing by" in third.err, seconds=30)
        assert third.stop(signal.SIGTERM, within=20) == 0  # while it stands by
        assert waiting.stop(signal.SIGTERM, within=20) == 0

    def test_a_server_needs_none(self, tmp_path):
        done = mexcflow("engine", "--database", "http://default@localhost:8123", cwd=tmp_path)
        assert done.returncode == 2
        assert "a server has its own engine" in done.stderr

    def test_a_port_that_is_taken_is_misuse(self, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            done = mexcflow("engine", "--http-port", f"{port}", cwd=tmp_path)
        assert done.returncode == 2
        assert f"127.0.0.1:{port}" in done.stderr
        assert len(done.stderr.splitlines()) == 1
