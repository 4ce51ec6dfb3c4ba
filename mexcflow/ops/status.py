"""Status: how each stream is doing, from the outside, by its instance file and its journal's folder.

Opens no database and imports nothing that does: it must be quick enough for a health check. What a run says
of itself (`pipeline/publish.py`) counts while it holds its journal's lock.
"""

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mexcflow.config import (
    DEFAULT_EXCHANGE,
    Instance,
    conflict,
    database_location,
    journal_folder,
    load_instance,
    told,
)
from mexcflow.errors import Misuse
from mexcflow.journal import STATUS, has_history, holder
from mexcflow.pipeline.publish import Published, read_published

RECORDS = ("recording", "connecting", "starting")
NEVER = "never recorded"
WRONG_FILE = "wrong file"
_STUCK_S = 30.0
"""A run that holds its lock and has said nothing for so long hangs; it speaks every 2 s."""
_HOLDER = re.compile(r"PID (\d+) on (.*), run (\w+)")


@dataclass(frozen=True)
class StreamStatus:
    """One stream; `name` is its instance file's, empty without one. None is what is not known.

    `statistics` is the block of the run, as `mexcflow run --log-format json` prints it; `problem` is the
    last that went wrong, which may be over by now.
    """

    name: str
    exchange: str
    symbol: str
    table: str
    state: str
    pid: int | None = None
    host: str = ""
    up: int = 0
    uptime_s: float | None = None
    restarts: int | None = None
    statistics: dict[str, Any] | None = None
    staleness_s: float | None = None
    proxy: str = ""
    problem: str = ""
    source: str = ""
    journal: str = ""

    @property
    def title(self) -> str:
        """What people call it; of several exchanges' BTCUSDT, which one."""
        if self.name or self.exchange in ("", DEFAULT_EXCHANGE):
            return self.name or self.symbol
        return f"{self.exchange} {self.symbol}"

    def as_json(self) -> dict[str, Any]:
        """Return everything for machines."""
        return dataclasses.asdict(self)


def status_of(name: str, instance: Instance, folder: Path) -> StreamStatus:
    """Return how a stream is doing by what lies in its journal's folder."""
    now = datetime.now(UTC)
    who = holder(folder)
    published = read_published(folder)
    base = StreamStatus(
        name=name,
        exchange=instance.exchange,
        symbol=instance.symbol,
        table=instance.table,
        state=NEVER,
        source=instance.source,
        journal=str(folder),
    )
    if who is None:
        return _of_ended(base, published, folder)
    match = _HOLDER.fullmatch(who)
    if match is not None and published is not None and published.run == match[3]:
        return with_published(base, published, now)
    # it has just begun, and what lies there is of the run before
    try:
        began = datetime.fromtimestamp((folder / "lock").stat().st_mtime, UTC)
    except FileNotFoundError:  # it has just ended, and left nothing
        began = now
    return dataclasses.replace(
        base,
        state="starting",
        pid=int(match[1]) if match else None,
        host=match[2] if match else "",
        uptime_s=(now - began).total_seconds(),
    )


def _of_ended(base: StreamStatus, published: Published | None, folder: Path) -> StreamStatus:
    if published is None:
        return dataclasses.replace(base, state="ended" if has_history(folder) else NEVER)
    ended = dataclasses.replace(
        base,
        state="ended",
        table=published.table,
        statistics=published.statistics,
        staleness_s=_age_s(published.newest_data, datetime.now(UTC)),
    )
    if published.exit_code is None:
        return dataclasses.replace(ended, state="died", problem="ended without notice (killed, power cut)")
    if published.exit_code:
        return dataclasses.replace(ended, problem=f"exit code {published.exit_code}: {published.error}")
    return ended


def with_published(base: StreamStatus, published: Published, now: datetime) -> StreamStatus:
    """Return a stream's status with what its run says of itself."""
    silent_s = (now - published.updated).total_seconds()
    problem = str(published.statistics.get("last_reason", ""))
    if published.stopping:
        state = "stopping"
    elif silent_s > _STUCK_S:
        state, problem = "stuck", f"no sign of life for {silent_s:,.0f} s"
    else:
        state = "recording" if published.connected else "connecting"
    return dataclasses.replace(
        base,
        state=state,
        table=published.table,
        pid=published.pid,
        host=published.host,
        up=published.up,
        uptime_s=(now - published.started).total_seconds(),
        statistics=published.statistics,
        staleness_s=_age_s(published.newest_data, now),
        proxy=published.proxy,
        problem=problem,
    )


def trouble_of(status: StreamStatus, max_staleness_s: float) -> str:
    """Return why a stream is not as it should be; '' when it records and its market data is fresh.

    A run that has just begun has `max_staleness_s` until its first market data.
    """
    if status.state == WRONG_FILE:
        return status.problem
    if status.state not in RECORDS:
        said = f" ({status.problem})" if status.problem else ""
        return f"{status.title}: {'is' if status.pid else 'nobody records it:'} {status.state}{said}"
    waited_s = status.uptime_s or 0.0 if status.staleness_s is None else status.staleness_s
    if waited_s <= max_staleness_s:
        return ""
    said = f" ({status.problem})" if status.problem else ""
    return f"{status.title}: no market data for {waited_s:,.0f} s{said}"


@dataclass(frozen=True)
class Found:
    """What there is to look at: streams, and the data folders that lie on this machine."""

    streams: list[StreamStatus]
    folders: list[Path]


def look_around(config: Path, database: str | None, journal: Path | None, *, shipped: bool) -> Found:
    """Return every stream of the instance files, and those whose journals lie where theirs do.

    A wrong file is a stream in the state `wrong file`. Of the instance files that ship with mexcflow
    (`shipped`), only those count that somebody recorded.
    """
    if not config.exists():
        raise Misuse(f"{config}: no such folder of instance files", hint="Give one with --config")
    streams: list[StreamStatus] = []
    roots = [journal or Path("journal")]
    locations = [database_location(database)]
    accepted: list[Instance] = []
    for path in [config] if config.is_file() else sorted(config.glob("*.toml")):
        instance, problem = _load(path, accepted)
        if instance is None:
            streams.append(StreamStatus(path.stem, "", "", "", WRONG_FILE, problem=problem, source=str(path)))
            continue
        accepted.append(instance)
        location = database_location(database, instance)
        given = str(journal) if journal else instance.journal
        folder = journal_folder(given, location, instance.exchange, instance.symbol)
        streams.append(status_of(path.stem, instance, folder))
        roots.append(folder.parent.parent)
        locations.append(location)
    folders = [Path(one) for one in dict.fromkeys(locations) if "://" not in one]
    roots += [folder / "journal" for folder in folders]
    known = {Path(one.journal).absolute() for one in streams if one.journal}
    streams += list(_without_file(dict.fromkeys(root.absolute() for root in roots), known))
    if shipped:
        streams = [one for one in streams if one.state != NEVER]
    return Found(streams, folders)


def _load(path: Path, others: list[Instance]) -> tuple[Instance | None, str]:
    try:
        instance = load_instance(path)
        journal_folder("", ".", instance.exchange, instance.symbol)  # it must have a name for its folder
    except Misuse as error:
        return None, told(path, error)
    problem = conflict(instance, others)
    return (None, problem) if problem else (instance, "")


def _without_file(roots: Iterable[Path], known: set[Path]) -> Iterable[StreamStatus]:
    """Yield the streams below these folders that no instance file describes."""
    for root in roots:
        for folder in sorted(root.glob("*/*")):
            # ./journal and one in the data folder may be the same
            if folder in known or not ((folder / "lock").exists() or (folder / STATUS).exists()):
                continue
            known.add(folder)
            instance = Instance(symbol=unquote(folder.name), exchange=folder.parent.name)
            yield status_of("", instance, folder)


def _age_s(at: datetime | None, now: datetime) -> float | None:
    return None if at is None else max(0.0, (now - at).total_seconds())
