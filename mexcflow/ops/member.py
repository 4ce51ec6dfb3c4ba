"""One process of `mexcflow up`: what it is, its supervision, the process itself, and what it publishes."""

import dataclasses
import signal
from datetime import UTC, datetime
from pathlib import Path

from mexcflow.config import Instance
from mexcflow.journal import holder
from mexcflow.ops.processes import Launcher, Process, parent_of
from mexcflow.ops.status import StreamStatus, status_of, with_published
from mexcflow.ops.supervise import Action, State, Supervision
from mexcflow.pipeline.publish import Published, read_published

_SIGNALS = {Action.STOP: signal.SIGTERM, Action.KILL: signal.SIGKILL}


@dataclasses.dataclass(frozen=True)
class Command:
    """What to start: the arguments of `mexcflow`, and what its environment has besides ours."""

    name: str
    arguments: tuple[str, ...]
    environment: dict[str, str]


class Member:
    """A process that is kept running."""

    def __init__(self, command: Command, launcher: Launcher, supervision: Supervision) -> None:
        self.command = command
        self.supervision = supervision
        self.process: Process | None = None
        self._launcher = launcher

    @property
    def is_over(self) -> bool:
        """Whether it was asked to end and has ended."""
        return self.supervision.state is State.ENDED

    def tick(self, now: float, *, may_start: bool = True) -> None:
        """Notice its end, and do what is due."""
        self._reap(now)
        if may_start or self.supervision.state is not State.WAITING:
            self.obey(self.supervision.tick(now, elsewhere=self._elsewhere(now)), now)

    def obey(self, action: Action | None, now: float) -> None:
        """Do what the supervision decided."""
        if action is Action.START:
            self._start(now)
        elif action is not None and self.process is not None:
            self.process.signal(_SIGNALS[action])

    def _elsewhere(self, now: float) -> str:
        """Return who else does its work already, or '' (and take over what may be taken over)."""
        return ""

    def _start(self, now: float) -> None:
        command = self.command
        try:
            self.process = self._launcher.start(command.name, command.arguments, command.environment)
        except OSError as error:
            self.supervision.ended(now, 1, f"cannot be started: {error.strerror or error}")
        else:
            self.supervision.started(now)

    def _reap(self, now: float) -> None:
        if self.process is None:
            return
        code = self.process.poll()
        if code is not None:
            complaint = self.process.complaint
            self.process = None
            what = f"exit code {code}" if code or not self.supervision.is_stopping else ""
            self.supervision.ended(now, code, f"{what}: {complaint}" if what and complaint else what)


class InstanceMember(Member):
    """An instance: `mexcflow run`."""

    def __init__(
        self,
        instance: Instance,
        folder: Path,
        command: Command,
        launcher: Launcher,
        supervision: Supervision,
    ) -> None:
        super().__init__(command, launcher, supervision)
        self.instance = instance
        self.folder = folder
        self.running: Instance | None = None
        """What its process was started with, while there is one."""
        self._published: Published | None = None

    def is_in_the_way_of(self, other: "InstanceMember") -> bool:
        """Say whether it writes what another one is to write, while it ends."""
        if self is other or self.process is None or self.running is None:
            return False
        if self.folder == other.folder:
            return True
        if self.running.is_typed or other.instance.is_typed:
            both = set(self.running.all_symbols) & set(other.instance.all_symbols)
            return self.running.exchange == other.instance.exchange and bool(both)
        return self.running.table == other.instance.table

    def _start(self, now: float) -> None:
        self.running = self.instance
        super()._start(now)

    def _reap(self, now: float) -> None:
        process = self.process
        super()._reap(now)
        if process is not None and self.process is None:
            self._look(process)  # its last words

    def status(self, now: float) -> StreamStatus:
        """Return how it is doing."""
        supervision, instance = self.supervision, self.instance
        base = StreamStatus(
            name=self.command.name,
            exchange=instance.exchange,
            symbol=instance.symbol,
            table=instance.table,
            state=str(supervision.state),
            restarts=supervision.restarts,
            problem=supervision.problem,
            source=instance.source,
            journal=str(self.folder),
        )
        if supervision.state is State.ELSEWHERE:
            found = status_of(base.name, instance, self.folder)
            return dataclasses.replace(
                found, state=base.state, restarts=base.restarts, problem=base.problem or found.problem
            )
        published = self._own_published()
        if published is None:
            return self._starting(base, now)
        if self.process is None:  # its numbers stay to be seen until the next one has some
            return dataclasses.replace(base, statistics=published.statistics)
        status = with_published(base, published, datetime.now(UTC))
        state = "stopping" if supervision.state is State.STOPPING else status.state
        return dataclasses.replace(status, state=state, problem=status.problem or base.problem)

    def _starting(self, base: StreamStatus, now: float) -> StreamStatus:
        if self.process is None:
            return base
        state = "starting" if self.supervision.state is State.RUNNING else base.state
        uptime_s = now - self.supervision.since
        return dataclasses.replace(base, state=state, pid=self.process.pid, uptime_s=uptime_s)

    def _own_published(self) -> Published | None:
        if self.process is not None:
            self._look(self.process)
        return self._published

    def _look(self, process: Process) -> None:
        published = read_published(self.folder)
        if published is not None and published.pid == process.pid:
            self._published = published
        elif self._published is not None and self._published.pid != process.pid:
            self._published = None

    def _elsewhere(self, now: float) -> str:
        if self.supervision.state not in (State.WAITING, State.ELSEWHERE):
            return ""
        who = holder(self.folder)
        if who is None:
            return ""
        published = read_published(self.folder)
        if published is not None and who.endswith(f", run {published.run}") and self._adopt(published, now):
            return ""
        return f"recorded by {who.partition(',')[0]}"

    def _adopt(self, published: Published, now: float) -> bool:
        """Take over what an `up` that is gone had started; a child of one that lives is left to it."""
        pid = published.pid
        if not published.up or parent_of(pid) in (0, published.up):
            return False
        try:
            process = self._launcher.adopt(pid, _FoundRun(self.folder, published.run))
        except OSError:
            return False
        self.process, self.running = process, self.instance
        self.supervision.started(now)
        if self._changed_since(published):
            self.obey(self.supervision.changed(now), now)
        return True

    def _changed_since(self, published: Published) -> bool:
        try:
            return Path(self.instance.source).stat().st_mtime > published.started.timestamp()
        except OSError:
            return False


@dataclasses.dataclass(frozen=True)
class _FoundRun:
    """A run that an earlier `up` started, by its journal's folder."""

    folder: Path
    run: str

    def is_there(self) -> bool:
        """See `Found`."""
        return (holder(self.folder) or "").endswith(f", run {self.run}")

    def how_it_ended(self) -> tuple[int, str] | None:
        """See `Found`."""
        said = read_published(self.folder)
        if said is None or said.run != self.run or said.exit_code is None:
            return None
        return said.exit_code, said.error
