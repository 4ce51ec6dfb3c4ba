"""One process of the real command, with a witness of what its journal took; see `target.py`."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from mexcflow.simulator import Simulator
from tests.conftest import environment
from tests.disasters import target

_WAIT_S = 60.0


class Run:
    """A process; its log, its output and the witness are in `folder`, which is on no disk of ours.

    `how` are variables of its environment that `target.py` knows.
    """

    PREFIX: tuple[str, ...] = ()

    def __init__(self, exchange: Simulator, folder: Path, *options: str, **how: str) -> None:
        self._exchange = exchange
        self._witness = folder / "witness"
        self._witness.unlink(missing_ok=True)
        self._log, self._out = folder / "log.txt", folder / "out.txt"
        self._begins = self._log.stat().st_size if self._log.exists() else 0
        command = [
            *self.PREFIX, sys.executable, target.__file__, str(self._witness), "run", "--symbol", "BTC_USDT",
            "--endpoint", exchange.url, *options,
        ]  # fmt: skip
        with self._log.open("ab") as log, self._out.open("wb") as out:
            self.process = subprocess.Popen(
                command, cwd=folder, stdout=out, stderr=log, env=environment(**how)
            )

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def log(self) -> str:
        """What this process has logged."""
        return self._log.read_bytes()[self._begins :].decode()

    @property
    def out(self) -> str:
        return self._out.read_text()

    def statistics(self) -> dict:
        """Return the newest block that it printed (with --log-format json)."""
        lines = self._out.read_bytes().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        return json.loads(whole[-1])["statistics"] if whole else {}

    def messages(self) -> list[str]:
        """Return the messages of its log (with --log-format json)."""
        return [json.loads(line)["message"] for line in self.log.splitlines()]

    def rss_bytes(self) -> int:
        """Return how much memory it has."""
        return psutil.Process(self.process.pid).memory_info().rss

    def seen(self) -> list[target.Entry]:
        return list(target.entries(self._witness))

    def appended(self) -> int:
        """Return how many messages the journal has taken."""
        return max((entry.number for entry in self.seen() if entry.port), default=0)

    def wait_for_frames(self, number: int = 10) -> None:
        until = time.monotonic() + _WAIT_S
        while self.appended() < number:
            assert self.process.poll() is None, f"ended by itself:\n{self.log}"
            assert time.monotonic() < until, f"no frames within {_WAIT_S:g} s:\n{self.log}"
            time.sleep(0.01)

    def wait(self) -> int:
        """Wait until it ends by itself; returns the exit code."""
        return self.process.wait(_WAIT_S)

    def stop(self) -> int:
        """End it in order; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def sent(self) -> Sequence[bytes]:
        """Return what was sent to it: on one connection, which is all this is made for."""
        ports = {entry.port for entry in self.seen() if entry.port}
        assert len(ports) <= 1, f"more than one connection:\n{self.log}"
        for client, messages in reversed(self._exchange.sent_to):
            if any(client.endswith(f":{port}") for port in ports):
                return list(messages)
        return ()


class CommonRun(Run):
    """A process that folders' rights hold for, even if it is root's."""

    PREFIX = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
