"""What to do about one process that should always run: a state machine without I/O or clock.

Whoever holds it tells it what happened and when, and does what it answers. A process that ends unasked is
started again: after 1 s, and each time after twice as long, up to 60 s; a process that ran for 60 s begins
with 1 s again. Waits are shortened at random by up to a half, so that many do not come back at once. Exit
code 2 (misuse) would come again, so it waits until its file changes.
"""

import random
import signal
from collections.abc import Callable
from enum import StrEnum

from mexcflow.errors import Misuse

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
GOOD_RUN_S = 60.0
STOP_LIMIT_S = 600.0
"""How long a process may take to end in order. It inserts what is left and gives up by itself when nothing
moves, so only one that hangs takes this long."""


_TERMINATED = 128 + signal.SIGTERM


class State(StrEnum):
    """What a process is in, for its supervisor."""

    WAITING = "waiting"  # to be started when it is due
    RUNNING = "running"
    ELSEWHERE = "elsewhere"  # somebody else does its work
    STOPPING = "stopping"
    REFUSED = "refused"  # exit code 2: until its file changes
    ENDED = "ended"  # for good


class Action(StrEnum):
    """What is to be done."""

    START = "start"
    STOP = "stop"  # in order
    KILL = "kill"


class Supervision:
    """One process's state; times are monotonic seconds, exit codes those of a shell (128 + signal)."""

    def __init__(self, now: float, *, jitter: Callable[[], float] = random.random) -> None:
        self.state = State.WAITING
        self.since = self.due = now
        self.restarts = 0
        self.exit_code = 0
        self.problem = ""
        self._jitter = jitter
        self._attempts = 0
        self._again = False  # when it has stopped
        self._killed = False

    @property
    def is_stopping(self) -> bool:
        """Whether it was asked to end."""
        return self.state is State.STOPPING

    def tick(self, now: float, *, elsewhere: str = "") -> Action | None:
        """Say what is due; `elsewhere` names who else does its work."""
        if self.state is State.STOPPING and not self._killed and now - self.since >= STOP_LIMIT_S:
            return self.kill(now, again=self._again)
        if self.state in (State.WAITING, State.ELSEWHERE) and elsewhere:
            if self.state is State.WAITING:
                self._enter(State.ELSEWHERE, now)
            self.exit_code, self.problem = 0, elsewhere
            return None
        if self.state is State.ELSEWHERE:
            self.problem = ""
            self._wait(now, 0.0)
        return Action.START if self.state is State.WAITING and now >= self.due else None

    def started(self, now: float) -> None:
        """Take note that it runs: started, or found running."""
        self._enter(State.RUNNING, now)

    def ended(self, now: float, exit_code: int, problem: str) -> None:
        """Take note that it has ended, or could not be started."""
        asked = self.state is State.STOPPING
        good = self.state is State.RUNNING and now - self.since >= GOOD_RUN_S
        if asked and exit_code == _TERMINATED:  # before it had begun: there was nothing to end in order
            exit_code, problem = 0, ""
        self.exit_code, self.problem = exit_code, problem
        if asked and self._again:
            self._attempts = 0
            self._wait(now, 0.0)
        elif asked:
            self._enter(State.ENDED, now)
        elif exit_code == Misuse.exit_code:
            self._enter(State.REFUSED, now)
        else:
            self._attempts = 1 if good else self._attempts + 1
            self.restarts += 1
            ceiling_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(self._attempts - 1, 10))
            self._wait(now, ceiling_s * (1 - self._jitter() / 2))

    def changed(self, now: float) -> Action | None:
        """Take note that it is to run with other settings from now on."""
        if self.state is State.RUNNING:
            return self.stop(now, again=True)
        self.mended(now)
        return None

    def mended(self, now: float) -> None:
        """Its file was touched: what was refused, or waits for its turn, may be tried at once."""
        if self.state in (State.REFUSED, State.WAITING):
            self._attempts = 0
            self._wait(now, 0.0)

    def stop(self, now: float, *, again: bool = False) -> Action | None:
        """End it in order, for good or (`again`) to start it anew."""
        self._again = again
        if self.state is State.RUNNING:
            self._killed = False
            self._enter(State.STOPPING, now)
            return Action.STOP
        if self.state is not State.STOPPING and not again:
            self._enter(State.ENDED, now)
        return None

    def kill(self, now: float, *, again: bool = False) -> Action | None:
        """End it at once."""
        if self.stop(now, again=again) or self.state is State.STOPPING:
            self._killed = True
            return Action.KILL
        return None

    def _wait(self, now: float, seconds: float) -> None:
        self.due = now + seconds
        self._enter(State.WAITING, now)

    def _enter(self, state: State, now: float) -> None:
        self.state, self.since = state, now
