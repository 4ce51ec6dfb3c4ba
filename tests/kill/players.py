"""The processes that share one data folder, each over all its lives, and who of them owns it."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from mexcflow.simulator import Simulator
from mexcflow.store.owner import ENDPOINT_NAME, LOCK_NAME
from tests.conftest import MEXCFLOW, environment
from tests.kill.frames import Delivery
from tests.kill.round import Trial

_WAIT_S = 60.0
_LOOK_S = 0.005


class Player:
    """One process over all its lives: start it, end it, start it again."""

    name: str
    log: Path

    def __init__(self) -> None:
        self.starts_at: float | None = None
        """When it shall be started again, if it does not run."""
        self.stopping = False
        """Whether it was asked to stop in order."""

    @property
    def pid(self) -> int | None:
        """Its process's id, None while it does not run."""
        raise NotImplementedError

    @property
    def ended(self) -> int | None:
        """The exit code, if it has just ended without being told to."""
        raise NotImplementedError

    @property
    def ready(self) -> bool:
        """Whether it does what it is for, and can be asked to stop in order."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it."""
        raise NotImplementedError

    def send(self, number: int) -> None:
        """Send a signal."""
        raise NotImplementedError

    def finish(self) -> int:
        """Wait for the end, and return the exit code."""
        raise NotImplementedError

    def give_up(self) -> None:
        """Leave nothing behind."""
        if self.pid is not None:
            self.send(signal.SIGKILL)
            self.finish()


class Instance(Player):
    """`mexcflow run`, and what it was delivered in all its lives."""

    def __init__(self, exchange: Simulator, folder: Path, symbol: str, rng: Random) -> None:
        super().__init__()
        self.name = self.symbol = symbol
        self.table = symbol.partition("_")[0].lower()
        self.log = folder / f"{symbol}.log"
        self.deliveries: list[Delivery] = []
        self._exchange, self._folder, self._rng = exchange, folder, rng
        self._trial: Trial | None = None

    @property
    def pid(self) -> int | None:
        return self._trial.pid if self._trial else None

    @property
    def ended(self) -> int | None:
        return self._trial.ended if self._trial else None

    @property
    def ready(self) -> bool:
        return self._trial is not None and self._trial.receives

    def start(self) -> None:
        self._trial = Trial(self._exchange, self._folder, _options(self._rng), symbol=self.symbol)

    def send(self, number: int) -> None:
        assert self._trial is not None
        self._trial.send(number)

    def finish(self) -> int:
        assert self._trial is not None
        code = self._trial.wait()
        self.deliveries += self._trial.delivered(killed=code == -signal.SIGKILL)
        self._trial = None
        return code


class Helper(Player):
    """Any other command; it says something once it is there."""

    def __init__(self, name: str, folder: Path, command: Sequence[str]) -> None:
        super().__init__()
        self.name = name
        self.log = folder / f"{name}.log"
        self._folder, self._command = folder, command
        self._process: subprocess.Popen[bytes] | None = None
        self._said = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def ended(self) -> int | None:
        return self._process.poll() if self._process else None

    @property
    def ready(self) -> bool:
        return self._process is not None and self.log.stat().st_size > self._said

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._said = log.tell()
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, stdout=log, stderr=log, env=environment()
            )

    def send(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def finish(self) -> int:
        assert self._process is not None
        code = self._process.wait(_WAIT_S)
        self._process = None
        return code


def asker(folder: Path) -> Helper:
    """Return who asks all the time; its answers are in `answers`."""
    command = [sys.executable, "-m", "tests.kill.asker", str(folder / "data"), str(folder / "answers")]
    return Helper("asker", folder, command)


def engine(folder: Path) -> Helper:
    """Return who stands by to own the folder."""
    return Helper("engine", folder, [*MEXCFLOW, "engine", "--wait", "--log-format", "json"])


def _options(rng: Random) -> list[str]:
    return [
        "--flush-interval", rng.choice(("0", "0.02", "0.1", "0.5")),
        "--batch-frames", rng.choice(("7", "100", "10000")),
        "--fsync", rng.choice(("0", "1")),
        "--stats-interval", "15",
    ]  # fmt: skip


class Owners:
    """Watches who owns a folder: each owner that has let others in, and how long there was none."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.seen: list[str] = []
        self.longest_without_s = 0.0
        self._gone_at: float | None = None

    def __enter__(self) -> "Owners":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def pid(self) -> int | None:
        """The process that `owner.lock` names, dead or alive."""
        return self._read(LOCK_NAME).get("pid")

    def gone(self) -> None:
        """Say that the owner was killed just now."""
        self._gone_at = time.monotonic()

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK_S):
            lock, address = self._read(LOCK_NAME), self._read(ENDPOINT_NAME)
            owner = lock.get("owner")
            if not owner or owner != address.get("owner") or not address.get("url") or owner in self.seen:
                continue
            self.seen.append(owner)
            gone_at, self._gone_at = self._gone_at, None
            if gone_at is not None:
                self.longest_without_s = max(self.longest_without_s, time.monotonic() - gone_at)

    def _read(self, name: str) -> dict:
        try:
            found = json.loads((self._data / name).read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}
