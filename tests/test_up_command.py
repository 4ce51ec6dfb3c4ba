"""`mexcflow up` as a user has it: real processes, a simulated exchange, a database behind HTTP."""

import functools
import json
import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest

from mexcflow.journal import holder
from mexcflow.ops.processes import parent_of
from mexcflow.pipeline.publish import Published, read_published
from mexcflow.simulator import Simulator
from mexcflow.store import Store, open_store
from tests import conftest
from tests.conftest import Running, mexcflow
from tests.http_front import HttpFront

PASSWORD = "very-secret"
wait_for = functools.partial(conftest.wait_for, seconds=40)  # many processes start here


class Place:
    """A folder with instance files, a server, and an exchange."""

    def __init__(self, folder: Path, front: HttpFront, exchange: Simulator, start: Callable) -> None:
        self.folder, self.front, self.exchange, self._start = folder, front, exchange, start
        (folder / "instances").mkdir()

    def write(self, name: str, symbol: str, more: str = "") -> None:
        text = f'symbol = "{symbol}"\nendpoint = "{self.exchange.url}"\nflush_interval = 0.2\n{more}\n'
        (self.folder / f"instances/{name}.toml").write_text(text)

    @property
    def database(self) -> str:
        return f"http://default:{quote(PASSWORD)}@127.0.0.1:{self.front.port}"

    def up(self, *more: str) -> Running:
        return self._start("up", "--database", self.database, "--stats-interval", "0.5", *more)

    def run(self, symbol: str) -> Running:
        return self._start("run", "--symbol", symbol, "--database", self.database)

    def published(self, symbol: str) -> Published | None:
        """What the stream's run says, as long as there is one that holds the journal."""
        folder = self.folder / "journal/mexc" / symbol
        said = read_published(folder)
        return said if said is not None and (holder(folder) or "").endswith(f"run {said.run}") else None

    def pid(self, symbol: str, *, other_than: int = 0) -> int:
        """Wait until somebody records; returns the PID."""

        def recording() -> int:
            said = self.published(symbol)
            return said.pid if said and said.connected and said.pid != other_than else 0

        wait_for(recording, what=f"{symbol} recorded")
        return recording()

    def status(self, *more: str) -> tuple[int, dict]:
        done = mexcflow("status", "--database", self.database, "--json", *more, cwd=self.folder)
        return done.returncode, json.loads(done.stdout)

    def rows(self, table: str) -> int:
        return self.front.store.query(f"SELECT count() FROM mexc_data.{table}")[0][0]

    def pids(self) -> list[int]:
        """Every process that records into this place."""
        folders = self.folder.glob("journal/mexc/*")
        return [int(who.split()[1]) for one in folders if (who := holder(one))]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(str(tmp_path_factory.mktemp("server"))) as opened:
        yield opened


@pytest.fixture
def place(tmp_path: Path, store: Store, start: Callable) -> Iterator[Place]:
    store.command("DROP DATABASE IF EXISTS mexc_data")
    store.command("DROP DATABASE IF EXISTS market_data")
    with Simulator(speed=20, keep_sent=True) as exchange, HttpFront(store, PASSWORD) as front:
        made = Place(tmp_path, front, exchange, start)
        yield made
        for pid in made.pids():  # what a failed test left
            os.kill(pid, signal.SIGKILL)


def is_gone(pid: int) -> bool:
    # the name in brackets may have blanks in it: processes give themselves a title
    return parent_of(pid) == 0 or Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_all_are_started_one_that_is_killed_is_restarted_and_all_end_in_order(place):
    place.write("btc", "BTC_USDT")
    place.write("eth", "ETH_USDT")
    up = place.up()
    btc, eth = place.pid("BTC_USDT"), place.pid("ETH_USDT")
    assert place.published("BTC_USDT").up == up.process.pid
    for pid in (btc, eth, up.process.pid):
        assert os.getpgid(pid) == (pid if pid != up.process.pid else os.getpgid(0))
        if pid != up.process.pid:
            assert PASSWORD not in Path(f"/proc/{pid}/cmdline").read_text()
    os.kill(btc, signal.SIGKILL)
    place.pid("BTC_USDT", other_than=btc)
    assert place.pid("ETH_USDT") == eth
    code, told = place.status("--max-staleness", "30")
    assert (code, [one["state"] for one in told["streams"]]) == (0, ["recording", "recording"])
    with place.exchange.silence():
        assert up.stop(within=30) == 0
        assert place.pids() == []
        deals = sum(
            len(json.loads(frame)["data"])
            for _, frames in place.exchange.sent_to for frame in frames
            if b'"push.deal"' in frame and b"ETH_USDT" in frame
        )  # fmt: skip
        assert deals == place.front.store.query("SELECT count() FROM mexc_data.eth WHERE mt = 'd'")[0][0] > 50
    assert "btc: exit code 137; starts again in" in up.err
    assert "eth: 20" in up.err  # the instances' log lines, with their names
    assert up.out.splitlines()[-1].startswith(f"total: 0 of 2 recording, {place.rows('eth')}"[:24])
    assert up.out.splitlines()[-1].endswith("restarts 1")
    assert PASSWORD not in up.err + up.out + json.dumps(told)
    assert not [one for one in place.folder.rglob("status.json") if PASSWORD in one.read_text()]
    assert place.status()[0] == 1


def test_an_empty_folder_waits_files_come_and_go_and_misuse_is_not_tried_again_until_it_is_mended(place):
    up = place.up("--log-format", "json")
    wait_for(lambda: "instances has no instance to record: waiting for a file" in up.err)
    place.write("btc", "BTC_USDT")
    place.write("odd", "NOPE_USDT")
    btc = place.pid("BTC_USDT")
    wait_for(lambda: "it is started again when" in up.err)
    (place.folder / "instances/wrong.toml").write_text("symbl = 1\n")
    place.write("odd", "SOL_USDT")
    place.pid("SOL_USDT")
    (place.folder / "instances/btc.toml").unlink()
    wait_for(lambda: is_gone(btc))
    assert place.pid("SOL_USDT")
    wait_for(lambda: "unknown key 'symbl'" in up.err)
    assert up.stop(signal.SIGTERM, within=30) == 2  # for the wrong file
    log = [json.loads(line) for line in up.err.splitlines()]
    refused = [one["message"] for one in log if "mexc does not know the contract NOPE_USDT" in one["message"]]
    assert len(refused) == 2  # its own line, and up's: it was started once
    assert sum("symbl" in one["message"] for one in log) == 1
    assert {one["instance"] for one in log if "instance" in one} == {"btc", "odd"}
    *_, last = [json.loads(line) for line in up.out.splitlines()]
    assert last["final"] is True
    assert {one["name"]: one["state"] for one in last["instances"]} == {"odd": "ended", "wrong": "wrong file"}
    assert last["total"]["rows"] == place.rows("sol") > 0


def test_a_missing_folder_is_misuse(tmp_path):
    done = mexcflow("up", "--config", "nope", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "mexcflow: nope: no such folder of instance files. Give one with --config\n",
    )


def test_a_second_signal_ends_all_at_once_and_the_journal_keeps_what_waits(place):
    place.write("btc", "BTC_USDT")
    up = place.up()
    btc = place.pid("BTC_USDT")
    wait_for(lambda: place.front.inserts)
    with place.front.holding_inserts():
        wait_for(lambda: place.published("BTC_USDT").statistics["backlog_frames"] > 5)
        up.process.send_signal(signal.SIGINT)
        wait_for(lambda: "stopping: no more frames" in up.err)
        assert not is_gone(btc)
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(15) == 130
        wait_for(lambda: is_gone(btc))
    assert place.status()[1]["streams"][0]["state"] == "died"


def test_an_up_that_was_killed_finds_its_own_again_and_leaves_others_alone(place):
    place.write("btc", "BTC_USDT")
    place.write("eth", "ETH_USDT")
    by_hand = place.run("BTC_USDT")
    assert place.pid("BTC_USDT") == by_hand.process.pid
    first = place.up()
    eth = place.pid("ETH_USDT")
    wait_for(lambda: f"btc: elsewhere, PID {by_hand.process.pid}" in first.out)
    second = place.up("--only", "eth")
    wait_for(lambda: f"eth: elsewhere, PID {eth}" in second.out)  # the first one looks after it
    second.stop(within=30)
    first.process.kill()
    first.process.wait()
    wait_for(lambda: place.published("ETH_USDT").connected)  # though nobody reads its log any more
    third = place.up()
    wait_for(lambda: f"eth: recording, PID {eth}" in third.out)
    assert f"recorded by PID {by_hand.process.pid} on " in third.out
    fourth = place.up("--only", "eth")
    wait_for(lambda: f"eth: elsewhere, PID {eth}" in fourth.out)  # the third one looks after it now
    fourth.stop(within=30)
    assert by_hand.stop(within=30) == 0
    btc = place.pid("BTC_USDT", other_than=by_hand.process.pid)
    assert parent_of(btc) == third.process.pid
    assert third.stop(within=30) == 0
    assert is_gone(eth)
    assert place.pids() == []


def test_an_up_that_stands_still_holds_up_no_recording(place):
    """Ctrl-Z, or a terminal whose output was stopped: nobody reads the instances' log lines."""
    place.write("btc", "BTC_USDT", "max_errors = 1000000")
    up = place.up()
    place.pid("BTC_USDT")
    up.process.send_signal(signal.SIGSTOP)
    for _ in range(600):  # 300 kB of log; a pipe holds 64
        place.exchange.send(b'{"channel":"rs.error","data":"%s","ts":1}' % (b"x" * 500))
    flooded = datetime.now(UTC)
    wait_for(lambda: (place.published("BTC_USDT").newest_data or flooded) > flooded)
    wait_for(lambda: place.published("BTC_USDT").statistics["exchange_errors"] == 600)
    up.process.send_signal(signal.SIGCONT)
    assert up.stop(within=30) == 0
    assert "the exchange says: xxx" in up.err
