"""Containers: what docker knows of the database that a compose file runs on this machine.

A server tells the sizes of its tables. Docker tells what the volumes really take, whatever else is in them
included, and how the container does. Only the daemon on this machine is asked, and only about the container
of a compose file that publishes the database's port. Where there is no daemon or no such container, nothing
is said. Sizes are docker's: the bytes of all files of a volume.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from docker import DockerClient

_SERVICE = "com.docker.compose.service"
_ANSWER_S = 3
"""A daemon that lives answers in some ms."""
_MEASURE_S = 30
"""Docker reads every folder of every volume before it tells their sizes."""
_REFUSED = "docker did not tell of the database's container: {}; sizes are those of the server's tables"


@dataclass(kw_only=True)
class Container:
    """The database's container. `volumes` has the bytes of each; None is what nobody could tell."""

    name: str
    image: str
    volumes: dict[str, int | None] = field(default_factory=dict)
    log_bytes: int | None = None
    restarts: int = 0
    out_of_memory: bool = False
    memory_limit_bytes: int | None = None
    health: str | None = None

    @property
    def volume_bytes(self) -> int | None:
        """What all volumes take, None when that of one is not known or there is none."""
        known = [size for size in self.volumes.values() if size is not None]
        return sum(known) if known and len(known) == len(self.volumes) else None


@dataclass(kw_only=True)
class Seen:
    """What was found, and what is worth a note; no container is the usual case."""

    container: Container | None = None
    notes: list[str] = field(default_factory=list)


def look_up(location: str, environment: Mapping[str, str] = os.environ) -> Seen:
    """Ask docker about the container behind `location`, the URL of a database.

    `environment` may name the daemon (DOCKER_HOST); one on another machine is not asked. Raises nothing: what
    docker refuses is a note.
    """
    url = urlsplit(location)
    host, port = url.hostname or "", url.port
    if not (_is_loopback(host) and port and _is_here(environment.get("DOCKER_HOST", ""))):
        return Seen()
    from docker.errors import DockerException

    try:
        with _connected(environment) as client:
            found = _publisher(client, port)
            return _inspected(client, found) if found else Seen()
    except (DockerException, OSError) as error:  # the errors of requests are OSErrors
        return Seen() if _no_daemon(error) else Seen(notes=[_REFUSED.format(_reason(error))])


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _is_here(daemon: str) -> bool:
    """Say whether a DOCKER_HOST names this machine: the ports of another one are not ours."""
    return not daemon or daemon.startswith("unix://") or _is_loopback(urlsplit(daemon).hostname or "")


@contextlib.contextmanager
def _connected(environment: Mapping[str, str]) -> "Iterator[DockerClient]":
    import docker

    client = docker.from_env(environment=dict(environment), timeout=_ANSWER_S)
    try:
        yield client
    finally:
        client.close()


def _publisher(client: "DockerClient", port: int) -> dict[str, Any] | None:
    """Return the running container of a compose file that publishes this port and is a ClickHouse."""
    for one in client.api.containers(filters={"label": _SERVICE}):
        ports = {binding.get("PublicPort") for binding in one.get("Ports") or ()}
        named = f"{one.get('Image', '')} {(one.get('Labels') or {}).get(_SERVICE, '')}"
        if port in ports and "clickhouse" in named.lower():
            return dict(one)
    return None


def _inspected(client: "DockerClient", found: dict[str, Any]) -> Seen:
    details = client.api.inspect_container(found["Id"])
    state, limits = details.get("State") or {}, details.get("HostConfig") or {}
    container = Container(
        name=str(details.get("Name", found["Id"])).lstrip("/"),
        image=str(found.get("Image", "")),
        restarts=int(details.get("RestartCount") or 0),
        out_of_memory=bool(state.get("OOMKilled")),
        memory_limit_bytes=int(limits.get("Memory") or 0) or None,
        health=(state.get("Health") or {}).get("Status"),
    )
    seen = Seen(container=container, notes=_health_notes(container))
    _measure_log(seen, container, str(details.get("LogPath") or ""))
    mounts = found.get("Mounts") or ()
    _measure_volumes(client, seen, container, [one["Name"] for one in mounts if one.get("Type") == "volume"])
    return seen


def _health_notes(container: Container) -> list[str]:
    notes = []
    if container.restarts:
        notes.append(f"docker has restarted {container.name} {container.restarts:,} times: see its log")
    if container.out_of_memory:
        limit = container.memory_limit_bytes
        allowed = f" (it may have {limit / 1e6:,.0f} MB)" if limit else ""
        notes.append(f"{container.name} or a process in it was killed for want of memory{allowed}")
    if container.health == "unhealthy":
        notes.append(f"{container.name} is unhealthy: it does not answer docker's health check")
    return notes


def _measure_log(seen: Seen, container: Container, path: str) -> None:
    """Add up the log's files: the one that is written, and those that were rotated (`...-json.log.1`)."""
    if not path:  # a driver that keeps no file, or none that others may read
        return
    log = Path(path)
    try:
        files = [one for one in log.parent.iterdir() if one.name.startswith(log.name)]
        container.log_bytes = sum(one.stat().st_size for one in files)
    except OSError as error:
        seen.notes.append(f"the size of {container.name}'s log cannot be read: {error.strerror} ({path})")


def _measure_volumes(client: "DockerClient", seen: Seen, container: Container, names: list[str]) -> None:
    container.volumes = dict.fromkeys(names)
    if not names:
        return
    from docker.errors import DockerException

    client.api.timeout = _MEASURE_S
    try:
        volumes = client.api.df().get("Volumes") or ()
    except (DockerException, OSError) as error:
        seen.notes.append(_REFUSED.format(_reason(error)))
        return
    for volume in volumes:
        size = (volume.get("UsageData") or {}).get("Size", -1)
        if volume.get("Name") in container.volumes and size >= 0:  # -1: the volume's driver does not know
            container.volumes[volume["Name"]] = int(size)
    unknown = [name for name, size in container.volumes.items() if size is None]
    if unknown:
        seen.notes.append(_REFUSED.format(f"it does not know the size of {', '.join(unknown)}"))


def _no_daemon(error: BaseException) -> bool:
    """Say whether nobody listens where the daemon would."""
    return any(isinstance(one, FileNotFoundError | ConnectionRefusedError) for one in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _reason(error: BaseException) -> str:
    """Return the innermost reason, which is the one a person can do something about."""
    *_, last = _causes(error)
    text = (last.strerror if isinstance(last, OSError) else None) or str(last)
    return " ".join(text.split())
