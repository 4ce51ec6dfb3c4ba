"""Up: every instance of the configuration as a process of its own, watched, restarted, stopped in order.

One loop without threads: `tick` looks at files and processes and does what is due. Where the database is a
folder, an engine that owns it is started first, one a folder; instances wait for it a little and then start
anyway, since they can share the folder among themselves. Nothing here opens a database.
"""

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path

from mexcflow.clock import SYSTEM_CLOCK, Clock
from mexcflow.config import (
    DATABASE_VARIABLE,
    STARTED_BY,
    UP_VARIABLE,
    Instance,
    database_location,
    journal_folder,
)
from mexcflow.errors import Misuse
from mexcflow.ops.member import Command, InstanceMember, Member
from mexcflow.ops.owner import read_owner
from mexcflow.ops.processes import Launcher, is_orphan
from mexcflow.ops.status import WRONG_FILE, StreamStatus
from mexcflow.ops.supervise import State, Supervision
from mexcflow.ops.watch import Watch

logger = logging.getLogger(__name__)

_LOOK_S = 1.0
_ENGINE = "engine"
_ENGINE_S = 10.0
"""How long instances wait for the engine of their folder to answer."""


@dataclass(frozen=True)
class UpSettings:
    """What `mexcflow up` was asked for; `pid` is its own."""

    config: Path
    pid: int
    database: str | None = None
    only: tuple[str, ...] = ()
    engines: bool = True
    log_level: str = "info"
    log_format: str = "text"


@dataclass(frozen=True)
class _FoundEngine:
    """An engine that an earlier `up` started."""

    pid: int

    def is_there(self) -> bool:
        """See `Found`."""
        return is_orphan(self.pid, _ENGINE)

    def how_it_ended(self) -> tuple[int, str] | None:
        """See `Found`; it leaves no word."""
        return None


class _Engine(Member):
    """The engine of one data folder."""

    def __init__(self, folder: Path, command: Command, launcher: Launcher, now: float) -> None:
        super().__init__(command, launcher, Supervision(now))
        self.folder = folder
        self._until = now + _ENGINE_S
        self._ready = False

    def _elsewhere(self, now: float) -> str:
        """Take over the engine that an `up` had started which is gone; nobody else would end it."""
        owner = read_owner(self.folder) if self.supervision.state is State.WAITING else None
        if owner is not None and is_orphan(owner.pid, _ENGINE):
            with contextlib.suppress(OSError):
                self.process = self._launcher.adopt(owner.pid, _FoundEngine(owner.pid))
                self.supervision.started(now)
        return ""

    def lets_start(self, now: float) -> bool:
        """Say whether instances may start: it answers, or has had its time."""
        if not self._ready:
            owner = read_owner(self.folder)
            gone = self.supervision.state is State.REFUSED  # without chDB, for example
            self._ready = gone or now >= self._until or (owner is not None and owner.answers)
        return self._ready


class Up:
    """Keeps everything running until `stop`; call `tick` a few times a second until `done`."""

    def __init__(self, settings: UpSettings, launcher: Launcher, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._settings = settings
        self._launcher = launcher
        self._clock = clock
        self._watch = Watch(settings.config, settings.only)
        self._looked = clock.monotonic()
        self._instances: dict[str, InstanceMember] = {}
        self._leaving: list[InstanceMember] = []
        """Of files that are gone, or of a stream that a file no longer names."""
        self._engines: dict[str, _Engine] = {}
        self._stopping = False
        self._said: dict[str, str] = {}
        self._complain()
        self._arrange(set())
        if not self._instances:
            logger.warning("%s has no instance to record: waiting for a file", settings.config)

    @property
    def done(self) -> bool:
        """Whether everything has ended after `stop`."""
        return self._stopping and not (self._leaving or self._engines) and self._all_over

    @property
    def exit_code(self) -> int:
        """0 when all that ended last ended with 0, else the worst of their codes."""
        codes = [member.supervision.exit_code for member in self._instances.values()]
        return max([*codes, Misuse.exit_code if self._watch.wrong else 0])

    @property
    def _members(self) -> list[InstanceMember]:
        return [*self._leaving, *self._instances.values()]

    @property
    def _all_over(self) -> bool:
        return all(member.is_over for member in self._instances.values())

    def tick(self) -> None:
        """Look at files and processes, and do what is due."""
        now = self._clock.monotonic()
        if not self._stopping and now - self._looked >= _LOOK_S:
            self._looked = now
            touched = self._watch.look()
            self._complain()
            if touched:
                self._arrange(touched)
        self._tend_engines(now)
        for member in self._members:
            before = member.supervision.state, member.supervision.restarts
            member.tick(now, may_start=self._may_start(member, now))
            if before != (member.supervision.state, member.supervision.restarts):
                self._tell(member, now)
        self._leaving = [member for member in self._leaving if not member.is_over]

    def stop(self) -> None:
        """End all instances in order, then the engines."""
        now = self._clock.monotonic()
        self._stopping = True
        logger.info("stopping: %s", ", ".join(self._instances) or "nothing runs")
        for member in self._members:
            member.obey(member.supervision.stop(now), now)

    def kill(self) -> None:
        """End everything at once: what is in the journals goes into the tables with the next run."""
        now = self._clock.monotonic()
        self._stopping = True
        for member in [*self._members, *self._engines.values()]:
            member.obey(member.supervision.kill(now), now)

    def statuses(self) -> list[StreamStatus]:
        """Return how every instance is doing, in the order of their names; wrong files among them."""
        now = self._clock.monotonic()
        found = [member.status(now) for member in self._members]
        names = {one.name for one in found}
        for name, problem in self._watch.wrong.items():
            if name not in names:
                found.append(StreamStatus(name or "-", "", "", "", WRONG_FILE, problem=problem))
        return sorted(found, key=lambda one: one.name)

    def _complain(self) -> None:
        """Say once what is wrong with a file."""
        for name, problem in self._watch.wrong.items():
            if self._said.get(name) != problem:
                logger.error("%s", problem)
        self._said = dict(self._watch.wrong)

    def _arrange(self, touched: set[str]) -> None:
        """Make what runs what the files ask for."""
        now = self._clock.monotonic()
        wanted = self._watch.wanted
        for name, member in list(self._instances.items()):
            instance = wanted.get(name)
            if instance is None or self._folder(instance) != member.folder:
                logger.info("%s: %s", name, "its file is gone" if instance is None else "another stream")
                member.obey(member.supervision.stop(now), now)
                self._leaving.append(self._instances.pop(name))
        for name, instance in wanted.items():
            if name not in self._instances:
                self._instances[name] = self._member(name, instance, now)
            elif self._instances[name].instance != instance:
                logger.info("%s: its file has changed", name)
                self._instances[name].instance = instance
                self._instances[name].obey(self._instances[name].supervision.changed(now), now)
            elif name in touched:
                self._instances[name].supervision.mended(now)
        self._instances = {name: self._instances[name] for name in sorted(self._instances)}

    def _member(self, name: str, instance: Instance, now: float) -> InstanceMember:
        command = Command(name, self._arguments(instance), self._environment())
        return InstanceMember(instance, self._folder(instance), command, self._launcher, Supervision(now))

    def _arguments(self, instance: Instance) -> tuple[str, ...]:
        settings = self._settings
        return (
            "run",
            f"--config={instance.source}",
            *(f"--symbol={symbol}" for symbol in instance.all_symbols),
            f"--exchange={instance.exchange}",
            f"--log-level={settings.log_level}",
            f"--log-format={settings.log_format}",
        )

    def _environment(self) -> dict[str, str]:
        """Return what goes to an instance: the database's URL has a password, so not on its command line."""
        settings = self._settings
        environment = {UP_VARIABLE: str(settings.pid)}
        if settings.database is not None:
            environment[DATABASE_VARIABLE] = settings.database
        return environment

    def _folder(self, instance: Instance) -> Path:
        location = database_location(self._settings.database, instance)
        return journal_folder(instance.journal, location, instance.exchange, instance.symbol)

    def _data_folder(self, instance: Instance) -> str:
        """Return the folder that needs an engine, '' for none."""
        location = database_location(self._settings.database, instance)
        return "" if "://" in location or not self._settings.engines else location

    def _may_start(self, member: InstanceMember, now: float) -> bool:
        if any(one.is_in_the_way_of(member) for one in self._members):
            return False
        folder = self._data_folder(member.instance)
        return not folder or (folder in self._engines and self._engines[folder].lets_start(now))

    def _tend_engines(self, now: float) -> None:
        """Start the engines that are needed, end the others; one that is needed again begins anew."""
        needed = {self._data_folder(one.instance): None for one in self._members if not one.is_over}
        for folder in needed:
            if folder and folder not in self._engines:
                self._engines[folder] = self._engine(folder, now)
        for folder, engine in list(self._engines.items()):
            if folder not in needed:
                engine.obey(engine.supervision.stop(now), now)
            engine.tick(now)
            if engine.is_over:
                del self._engines[folder]

    def _engine(self, folder: str, now: float) -> _Engine:
        settings = self._settings
        log = (f"--log-level={settings.log_level}", f"--log-format={settings.log_format}")
        by = f"{STARTED_BY}={settings.pid}"
        arguments = (_ENGINE, f"--database={folder}", "--wait", by, *log)
        command = Command(_ENGINE, arguments, {UP_VARIABLE: str(settings.pid)})
        return _Engine(Path(folder), command, self._launcher, now)

    def _tell(self, member: InstanceMember, now: float) -> None:
        """Log what became of an instance."""
        supervision, name = member.supervision, member.command.name
        if member.process is not None:
            logger.info("%s: PID %d %s", name, member.process.pid, supervision.state)
        elif supervision.state is State.WAITING and supervision.problem:
            wait_s = supervision.due - now
            logger.warning("%s: %s; starts again in %.1f s", name, supervision.problem, wait_s)
        elif supervision.state is State.REFUSED:
            logger.error(
                "%s: %s; it is started again when %s changes",
                name,
                supervision.problem,
                member.instance.source,
            )
        elif supervision.problem:
            logger.warning("%s: %s", name, supervision.problem)
