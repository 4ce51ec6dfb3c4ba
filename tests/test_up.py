"""`mexcflow up` with processes that only pretend: what is started, in which order, and what is signalled."""

import logging
import signal
import subprocess
from pathlib import Path

import pytest

from mexcflow.ops.processes import SystemLauncher, is_orphan
from mexcflow.ops.up import Up, UpSettings
from tests import conftest
from tests.journals import HeldClock


class FakeProcess:
    def __init__(self, launcher: "FakeLauncher", pid: int, name: str, arguments: tuple[str, ...]) -> None:
        self.pid, self.name, self.arguments = pid, name, arguments
        self.code: int | None = None
        self.complaint = ""
        self._launcher = launcher

    def poll(self) -> int | None:
        return self.code

    def signal(self, number: int) -> None:
        self._launcher.signals.append((self.name, number))


class FakeLauncher:
    def __init__(self) -> None:
        self.started: list[FakeProcess] = []
        self.environments: list[dict[str, str]] = []
        self.signals: list[tuple[str, int]] = []
        self.fails = False

    def start(self, name, arguments, environment):
        if self.fails:
            raise OSError(11, "Resource temporarily unavailable")
        self.environments.append(environment)
        self.started.append(FakeProcess(self, 4_000_000 + len(self.started), name, tuple(arguments)))
        return self.started[-1]

    def adopt(self, pid, found):
        raise AssertionError("nothing is to be taken over here")

    def names(self) -> list[str]:
        return [one.name for one in self.started]

    def newest(self, name: str) -> FakeProcess:
        return [one for one in self.started if one.name == name][-1]


class Upkeep:
    """`Up` with a clock that moves when it is told to."""

    def __init__(self, folder: Path, **more) -> None:
        self.clock, self.launcher, self.folder = HeldClock(), FakeLauncher(), folder
        settings = {"database": "http://me:secret@127.0.0.1:1", "pid": 99, **more}
        self.up = Up(UpSettings(config=folder, **settings), self.launcher, clock=self.clock)

    def tick(self, seconds: float = 0.0) -> None:
        """One tick, or one a second."""
        for _ in range(max(1, int(seconds))):
            self.clock.seconds += min(seconds, 1.0)
            self.up.tick()

    def states(self) -> dict[str, str]:
        return {one.name: one.state for one in self.up.statuses()}


def write(folder: Path, name: str, symbol: str, more: str = "") -> None:
    (folder / f"{name}.toml").write_text(f'symbol = "{symbol}"\n{more}\n')


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEXCFLOW_DATABASE", raising=False)
    instances = tmp_path / "instances"
    instances.mkdir()
    write(instances, "btc", "BTC_USDT")
    write(instances, "eth", "ETH_USDT")
    return instances


def test_every_file_becomes_a_process_and_no_password_is_on_its_command_line(folder):
    upkeep = Upkeep(folder)
    upkeep.tick()
    assert upkeep.launcher.names() == ["btc", "eth"]
    assert upkeep.launcher.started[0].arguments == (
        "run", f"--config={folder}/btc.toml", "--symbol=BTC_USDT", "--exchange=mexc",
        "--log-level=info", "--log-format=text",
    )  # fmt: skip
    assert upkeep.launcher.environments[0] == {
        "MEXCFLOW_DATABASE": "http://me:secret@127.0.0.1:1",
        "MEXCFLOW_UP": "99",
    }
    assert upkeep.states() == {"btc": "starting", "eth": "starting"}


def test_without_a_database_given_each_has_that_of_its_file(folder):
    write(folder, "btc", "BTC_USDT", 'database = "http://127.0.0.1:1"')
    upkeep = Upkeep(folder, database=None, engines=False)
    upkeep.tick()
    assert upkeep.launcher.environments == [{"MEXCFLOW_UP": "99"}] * 2


def test_what_ends_is_started_again_and_what_is_refused_waits_for_its_file(folder, caplog):
    upkeep = Upkeep(folder)
    upkeep.tick()
    upkeep.launcher.newest("btc").code = 69
    upkeep.launcher.newest("btc").complaint = "the database does not answer"
    upkeep.launcher.newest("eth").code = 2
    upkeep.tick()
    assert upkeep.states() == {"btc": "waiting", "eth": "refused"}
    assert upkeep.up.statuses()[0].problem == "exit code 69: the database does not answer"
    upkeep.tick(90)
    assert upkeep.launcher.names() == ["btc", "eth", "btc"]
    write(folder, "eth", "ETH_USDT", "# mended")
    upkeep.tick(3)
    assert upkeep.launcher.names() == ["btc", "eth", "btc", "eth"]
    assert f"it is started again when {folder}/eth.toml changes" in caplog.text


def test_a_process_that_cannot_be_started_is_tried_again(folder):
    upkeep = Upkeep(folder, only=("btc",))
    upkeep.launcher.fails = True
    upkeep.tick()
    assert upkeep.up.statuses()[0].problem == "cannot be started: Resource temporarily unavailable"
    upkeep.launcher.fails = False
    upkeep.tick(2)
    assert upkeep.states() == {"btc": "starting"}


def test_files_that_come_and_go_start_and_stop_theirs_alone(folder):
    upkeep = Upkeep(folder)
    upkeep.tick()
    write(folder, "sol", "SOL_USDT")
    (folder / "btc.toml").unlink()
    upkeep.tick(3)
    assert upkeep.launcher.names() == ["btc", "eth", "sol"]
    assert upkeep.launcher.signals == [("btc", signal.SIGTERM)]
    assert upkeep.states() == {"btc": "stopping", "eth": "starting", "sol": "starting"}
    upkeep.launcher.newest("btc").code = 0
    upkeep.tick()
    assert upkeep.states() == {"eth": "starting", "sol": "starting"}


def test_a_changed_file_restarts_its_own_and_a_comment_does_not(folder):
    upkeep = Upkeep(folder)
    upkeep.tick()
    write(folder, "btc", "BTC_USDT", "flush_interval = 2")
    write(folder, "eth", "ETH_USDT", "# only a comment")
    upkeep.tick(3)
    assert upkeep.launcher.signals == [("btc", signal.SIGTERM)]
    upkeep.launcher.newest("btc").code = 0
    upkeep.tick()
    assert upkeep.launcher.names() == ["btc", "eth", "btc"]
    assert upkeep.up.statuses()[0].restarts == 0


def test_a_table_that_changes_hands_has_one_writer_at_a_time(folder):
    upkeep = Upkeep(folder)
    upkeep.tick()
    write(folder, "btc", "BTC_USDT", 'table = "eth"')
    write(folder, "eth", "ETH_USDT", 'table = "btc"')
    upkeep.tick(3)
    upkeep.launcher.newest("btc").code = 0
    upkeep.tick(5)
    assert upkeep.launcher.names() == ["btc", "eth"]  # eth still writes into the table that btc wants
    upkeep.launcher.newest("eth").code = 0
    upkeep.tick()
    upkeep.tick()
    assert sorted(upkeep.launcher.names()[2:]) == ["btc", "eth"]


def test_a_renamed_file_waits_for_the_process_of_the_old_name(folder):
    upkeep = Upkeep(folder)
    upkeep.tick()
    (folder / "btc.toml").rename(folder / "bitcoin.toml")
    upkeep.tick(4)
    assert upkeep.launcher.names() == ["btc", "eth"]
    upkeep.launcher.newest("btc").code = 0
    upkeep.tick()
    assert upkeep.launcher.names() == ["btc", "eth", "bitcoin"]


def test_a_wrong_file_is_said_once_and_shown(folder, caplog):
    (folder / "wrong.toml").write_text("symbl = 1\n")
    caplog.set_level(logging.ERROR)
    upkeep = Upkeep(folder)
    upkeep.tick(5)
    assert [record.getMessage() for record in caplog.records] == [
        f"{folder}/wrong.toml: unknown key 'symbl'. Did you mean 'symbol'?"
    ]
    assert upkeep.states() == {"btc": "starting", "eth": "starting", "wrong": "wrong file"}


def test_the_end_is_in_order_and_its_code_the_worst(folder):
    upkeep = Upkeep(folder)
    upkeep.tick()
    upkeep.up.stop()
    assert upkeep.launcher.signals == [("btc", signal.SIGTERM), ("eth", signal.SIGTERM)]
    upkeep.launcher.newest("btc").code = 0
    upkeep.tick()
    assert not upkeep.up.done
    upkeep.launcher.newest("eth").code = 69
    upkeep.tick()
    assert upkeep.up.done
    assert upkeep.up.exit_code == 69
    assert upkeep.launcher.names() == ["btc", "eth"]


def test_the_code_is_0_when_all_ended_well_and_2_with_a_wrong_file(folder):
    upkeep = Upkeep(folder, only=("btc",))
    upkeep.tick()
    upkeep.up.stop()
    upkeep.launcher.newest("btc").code = 0
    upkeep.tick()
    assert upkeep.up.exit_code == 0
    (folder / "wrong.toml").write_text("symbl = 1\n")
    assert Upkeep(folder).up.exit_code == 2


def test_the_engine_of_a_folder_comes_first_and_goes_last(folder):
    upkeep = Upkeep(folder, database="data")
    upkeep.tick()
    assert upkeep.launcher.names() == ["engine"]
    assert upkeep.launcher.started[0].arguments[:3] == ("engine", "--database=data", "--wait")
    upkeep.tick(11)  # it does not answer, and they do not wait for ever
    assert upkeep.launcher.names() == ["engine", "btc", "eth"]
    upkeep.up.stop()
    upkeep.launcher.newest("btc").code = upkeep.launcher.newest("eth").code = 0
    upkeep.tick()
    assert ("engine", signal.SIGTERM) not in upkeep.launcher.signals
    upkeep.tick()
    assert upkeep.launcher.signals[-1] == ("engine", signal.SIGTERM)
    assert not upkeep.up.done
    upkeep.launcher.newest("engine").code = 0
    upkeep.tick()
    assert upkeep.up.done


def test_there_is_one_engine_a_folder_and_none_for_a_server(folder):
    write(folder, "btc", "BTC_USDT", 'database = "one"')
    write(folder, "eth", "ETH_USDT", 'database = "one"')
    write(folder, "sol", "SOL_USDT", 'database = "two"')
    write(folder, "ada", "ADA_USDT", 'database = "http://127.0.0.1:1"')
    upkeep = Upkeep(folder, database=None)
    upkeep.tick()
    assert upkeep.launcher.names() == ["engine", "engine", "ada"]
    assert [one.arguments[1] for one in upkeep.launcher.started[:2]] == ["--database=one", "--database=two"]


def test_an_engine_that_dies_is_started_again_and_one_that_cannot_be_is_done_without(folder):
    upkeep = Upkeep(folder, database="data")
    upkeep.tick()
    upkeep.launcher.newest("engine").code = 137
    upkeep.tick(3)
    assert upkeep.launcher.names() == ["engine", "engine"]
    upkeep.launcher.newest("engine").code = 2
    upkeep.tick(1)
    upkeep.tick(1)
    assert upkeep.launcher.names() == ["engine", "engine", "btc", "eth"]


def test_the_engine_of_an_up_that_was_killed_is_taken_over_and_ended_with_the_rest(folder):
    data = folder.with_name("data")
    engine = subprocess.Popen(
        [*conftest.MEXCFLOW, "engine", f"--database={data}", "--started-by=1"], stdout=subprocess.DEVNULL
    )
    try:
        conftest.wait_for(lambda: (data / "endpoint.json").exists())
        upkeep = Upkeep(folder, database="data")
        upkeep.launcher.adopt = SystemLauncher().adopt
        assert is_orphan(engine.pid, "engine")
        upkeep.tick(12)
        assert upkeep.launcher.names() == ["btc", "eth"]
        upkeep.up.stop()
        upkeep.launcher.newest("btc").code = upkeep.launcher.newest("eth").code = 0
        upkeep.tick(2)
        assert engine.wait(10) == 0
        upkeep.tick()
        assert upkeep.up.done
    finally:
        engine.kill()


def test_an_engine_that_nobody_needs_any_more_ends_and_comes_back_when_needed(folder):
    upkeep = Upkeep(folder, database="data")
    upkeep.tick()
    (folder / "btc.toml").unlink()
    (folder / "eth.toml").unlink()
    upkeep.tick(3)
    assert upkeep.launcher.signals == [("engine", signal.SIGTERM)]
    write(folder, "sol", "SOL_USDT")
    upkeep.tick(3)
    assert upkeep.launcher.names() == ["engine"]  # the old one has not ended yet
    upkeep.launcher.newest("engine").code = 0
    upkeep.tick(2)
    assert upkeep.launcher.names() == ["engine", "engine"]
    upkeep.tick(11)
    assert upkeep.launcher.names() == ["engine", "engine", "sol"]


def test_a_kill_reaches_everything_at_once(folder):
    upkeep = Upkeep(folder, database="data")
    upkeep.tick(12)
    upkeep.up.stop()
    upkeep.up.kill()
    killed = [name for name, number in upkeep.launcher.signals if number == signal.SIGKILL]
    assert killed == ["btc", "eth", "engine"]
