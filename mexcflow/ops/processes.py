"""Processes of our own program, as `up` needs them: started, found running, their log lines, their end.

Each child is in a process group of its own, so that a terminal's Ctrl-C does not reach it. Its log goes
through a pipe that it never waits for: lines are dropped rather than a recording held up.
"""

import contextlib
import errno
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import orjson

from mexcflow.config import STARTED_BY

_LINES = 10_000
_LINE_BYTES = 65_536
_REST_S = 0.5
"""How long to wait for the last log lines of a process that has ended."""
_SAID = "mexcflow: "
"""How our own command begins its last line when an error ended it."""


class LogLine(NamedTuple):
    """A line that a process wrote to its standard error."""

    name: str
    text: str


class Process(Protocol):
    """A process that was started or found."""

    pid: int

    def poll(self) -> int | None:
        """Return its exit code (128 + signal when one ended it), None while it runs."""

    def signal(self, number: int) -> None:
        """Send it a signal; nothing happens when it has ended."""

    @property
    def complaint(self) -> str:
        """What it said was wrong."""


class Found(Protocol):
    """What is known of a process that is no child of ours."""

    def is_there(self) -> bool:
        """Say whether that PID is still what it is taken for."""

    def how_it_ended(self) -> tuple[int, str] | None:
        """Return exit code and error by its own words; None when it left none."""


class Launcher(Protocol):
    """Starts processes; `up` knows no other way to."""

    def start(self, name: str, arguments: Sequence[str], environment: dict[str, str]) -> Process:
        """Start `mexcflow` with these arguments; raises `OSError`."""

    def adopt(self, pid: int, found: "Found") -> Process:
        """Take over a process that somebody else started; raises `OSError` when that cannot be."""


class SystemLauncher:
    """Real processes. `lines` has what they log, the oldest first; the newest 10,000 are kept."""

    def __init__(self) -> None:
        self.lines: deque[LogLine] = deque(maxlen=_LINES)

    def start(self, name: str, arguments: Sequence[str], environment: dict[str, str]) -> "Child":
        """See `Launcher`."""
        return Child(name, arguments, environment, self.lines)

    def adopt(self, pid: int, found: Found) -> "Adopted":
        """See `Launcher`."""
        return Adopted(pid, found)


class Child:
    """A process of our own."""

    def __init__(
        self, name: str, arguments: Sequence[str], environment: dict[str, str], lines: deque[LogLine]
    ) -> None:
        self._name = name
        self._lines = lines
        self._last = ""
        self.complaint = ""
        read, write = os.pipe()
        os.set_blocking(write, False)  # a child that logs must never wait for us
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [*_command(), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=write,
                env={**os.environ, **environment},
                process_group=0,
            )
        except OSError:
            os.close(read)
            raise
        finally:
            os.close(write)
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, args=(read,), name=f"log {name}", daemon=True)
        self._reader.start()

    def poll(self) -> int | None:
        """See `Process`."""
        code = self._process.poll()
        if code is None:
            return None
        self._reader.join(_REST_S)
        if not self.complaint:
            self.complaint = self._last if code > 0 else ""
        return code if code >= 0 else 128 - code

    def signal(self, number: int) -> None:
        """See `Process`."""
        self._process.send_signal(number)

    def _read(self, descriptor: int) -> None:
        with open(descriptor, "rb") as pipe:
            while line := pipe.readline(_LINE_BYTES):
                text = line.decode("utf-8", "replace").rstrip("\n")
                if text.strip():
                    self._last = text.strip()
                    self.complaint = complaint_of(text) or self.complaint
                    self._lines.append(LogLine(self._name, text))


def _is_readable(descriptor: int) -> bool:
    poll = select.poll()  # select() knows the first 1,024 descriptors only
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


class Adopted:
    """A process that an earlier `up` started. It is no child of ours, so its end is seen, not its code."""

    def __init__(self, pid: int, found: Found) -> None:
        self.pid = pid
        self._found = found
        self._code: int | None = None
        self.complaint = ""
        with contextlib.ExitStack() as failing:
            # one `up` alone looks after it: the kernel gives a name once, and takes it back at the end
            self._claim = failing.enter_context(socket.socket(socket.AF_UNIX))
            self._claim.bind(f"\0mexcflow looks after PID {pid}")
            # from here on the PID cannot come to mean another process without our noticing
            self._descriptor = os.pidfd_open(pid)
            failing.callback(os.close, self._descriptor)
            signal.pidfd_send_signal(self._descriptor, 0)  # may we?
            if not found.is_there():
                raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
            failing.pop_all()

    def poll(self) -> int | None:
        """See `Process`."""
        if self._descriptor >= 0 and _is_readable(self._descriptor):
            os.close(self._descriptor)
            self._descriptor = -1
            self._claim.close()
            killed = (128 + signal.SIGKILL, "ended without notice (killed?)")
            self._code, self.complaint = self._found.how_it_ended() or killed
        return self._code

    def signal(self, number: int) -> None:
        """See `Process`."""
        if self._descriptor >= 0:
            try:
                signal.pidfd_send_signal(self._descriptor, number)
            except ProcessLookupError:
                return


def parent_of(pid: int) -> int:
    """Return the PID of a process's parent; 0 when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(text.rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def is_orphan(pid: int, command: str) -> bool:
    """Say whether a process is this command of ours, started by an `up` that is gone.

    Its own words tell, as its title has them: where the environment was, the title is now.
    """
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").split()
    except OSError:
        return False
    prefix = f"{STARTED_BY}=".encode()
    up = next((one.removeprefix(prefix) for one in words if one.startswith(prefix)), b"")
    return command.encode() in words and up.isdigit() and parent_of(pid) not in (0, int(up))


def complaint_of(line: str) -> str:
    """Return what a log line says was wrong with the whole run, as text or JSON; '' when it is another."""
    if line.startswith(_SAID):
        return line.removeprefix(_SAID)
    if line.startswith("{"):
        try:
            said = orjson.loads(line)
        except orjson.JSONDecodeError:
            return ""
        if isinstance(said, dict) and said.get("level") == "error" and said.get("logger") == "mexcflow":
            return str(said.get("message", ""))
    return ""


def _command() -> list[str]:
    """Return our own command: this interpreter, and this package wherever it was found."""
    package = Path(__file__).resolve().parents[1]
    # -m would look into the working directory first, where anything may lie
    safe = [] if package.parent == Path.cwd() else ["-P"]
    return [sys.executable, *safe, "-m", package.name]
