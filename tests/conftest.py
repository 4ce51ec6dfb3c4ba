"""What several tests need: the command as a real process, and a simulated exchange."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from mexcflow.simulator import Simulator

# a busy machine is no finding
hypothesis.settings.register_profile("mexcflow", deadline=None)
hypothesis.settings.load_profile("mexcflow")

ROOT = Path(__file__).resolve().parents[1]
MEXCFLOW = [sys.executable, "-m", "mexcflow"]


def wait_for(condition: Callable[[], object], *, seconds: float = 30.0, what: str = "") -> None:
    """Wait until `condition` holds; fail the test when it does not in time."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds} s: {what or condition}"
        time.sleep(0.02)


def environment(**more: str) -> dict[str, str]:
    """The environment of a command: nothing of the developer's own settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MEXCFLOW_")}
    return {**kept, **more}


def mexcflow(*arguments: str, cwd: Path, stdin: str = "", timeout: float = 60) -> subprocess.CompletedProcess:
    """Run the command to its end."""
    return subprocess.run(
        [*MEXCFLOW, *arguments],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(),
        check=False,
    )


class Running:
    """A command that runs until it is stopped; its output goes to files, so that no pipe can fill."""

    def __init__(self, arguments: tuple[str, ...], cwd: Path, name: str) -> None:
        self._out = cwd / f"{name}.out"
        self._err = cwd / f"{name}.err"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [*MEXCFLOW, *arguments], cwd=cwd, stdout=out, stderr=err, env=environment()
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def stop(self, number: int = signal.SIGINT, *, within: float = 20.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(within)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start commands in the test's folder; whatever still runs at the end is killed."""
    started: list[Running] = []

    def run(*arguments: str) -> Running:
        started.append(Running(arguments, tmp_path, f"command{len(started)}"))
        return started[-1]

    yield run
    for running in started:
        running.process.kill()
        running.process.wait()


@pytest.fixture
def exchange() -> Iterator[Simulator]:
    """A simulated exchange that sends only what the test tells it to."""
    with Simulator(generate=False) as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def no_thread_dies_unseen() -> Iterator[None]:
    """An error that ends a thread fails the test it happened in."""
    seen: list[threading.ExceptHookArgs] = []
    before = threading.excepthook
    threading.excepthook = seen.append
    yield
    threading.excepthook = before
    assert not seen, [str(hook.exc_value) for hook in seen]
