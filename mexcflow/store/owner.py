"""The owner of a data folder: the one process that runs its engine, and lets the others in over HTTP.

Two files in the folder belong to it:

- `owner.lock`: flock for as long as the process lives, taken before the engine starts; it names the PID and
  a random id of this very start. The kernel drops the lock when the process dies, however it dies, so what
  a dead one leaves behind is no obstacle. The file stays: to remove it would take the lock from under
  somebody who waits for it.
- `endpoint.json`, which only the user can read: where the engine answers and the token it asks for. The
  token stays the same from owner to owner, so that a tool need be told only once; delete the file for
  another one. It counts only together with the lock: the ids in both are the same.

A process that opens its folder several times is its owner until the last of its stores is closed.
"""

import contextlib
import fcntl
import logging
import os
import resource
import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from mexcflow.errors import DiskFailed, FolderInUse, Misuse
from mexcflow.store.folder import LOCK_NAME, another_handle, in_use, start_engine

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from mexcflow.store.endpoint.door import Door

logger = logging.getLogger(__name__)

ENDPOINT_NAME = "endpoint.json"
_TOKEN_BYTES = 24
_FILES = 65_536
_LOOK_S = 1.0
_GRACE_S = 5.0
"""How long the statements of others may go on when the owner leaves."""

_owners: dict[Path, "Owner"] = {}
_owners_lock = threading.Lock()


class Listen(NamedTuple):
    """Where the engine answers other processes; port 0 means any free one."""

    host: str = "127.0.0.1"
    port: int = 0
    insists: bool = True
    """Whether a port that is taken is an error; else any free one will do."""


ANYWHERE = Listen()


class Holder(msgspec.Struct, frozen=True):
    """What `owner.lock` says: the process, and a random id of its start."""

    pid: int
    owner: str


class Address(msgspec.Struct, frozen=True):
    """What `endpoint.json` says. `url` is empty once the owner has left in order."""

    url: str
    token: str
    pid: int
    owner: str


class Owner:
    """This process's hold on a folder, shared by all its stores; use `own`."""

    def __init__(self, folder: Path, listen: Listen) -> None:
        self.folder = folder
        self.address: Address | None = None
        self._id = secrets.token_hex(8)
        self._clients: list[Client] = []
        self._leaving = threading.Event()
        self._written: tuple[int, int] | None = None
        self._complaint: str | None = None
        _allow_many_files()
        with contextlib.ExitStack() as undo:
            self._lock = _take_lock(folder, self._id)
            undo.callback(lambda: os.close(self._lock))
            self._clients.append(start_engine(folder))
            undo.callback(lambda: self._clients.pop().close())
            self._serve(listen, undo)
            self._undo = undo.pop_all()

    def client(self) -> "Client":
        """Return a client of the engine for one more store."""
        client = another_handle(self.folder)
        self._clients.append(client)
        return client

    @property
    def first(self) -> "Client":
        """The client that the engine was started with."""
        return self._clients[0]

    def leave(self, client: "Client") -> None:
        """Close a store's client; with the last one the engine ends, and the folder is free."""
        with _owners_lock:
            if len(self._clients) == 1:
                del _owners[self.folder]
                self._undo.close()
                return
            self._clients.remove(client)
        client.close()

    def _serve(self, listen: Listen, undo: contextlib.ExitStack) -> None:
        token = _known_token(self.folder) or secrets.token_urlsafe(_TOKEN_BYTES)
        try:
            door, port = self._open_door(token, listen)
        except Misuse as taken:
            if listen.insists or not listen.port:
                raise
            logger.warning("%s; another one is used", taken.what)
            door, port = self._open_door(token, listen._replace(port=0))
        undo.callback(lambda: door.close(grace_s=_GRACE_S))
        host = f"[{listen.host}]" if ":" in listen.host else listen.host
        self.address = Address(f"http://{host}:{port}", token, os.getpid(), self._id)
        undo.callback(self._gone, Address("", token, os.getpid(), self._id))
        self._written = self._write_down(self.address)
        thread = threading.Thread(target=self._keep_written, args=(self.address,), name="owner", daemon=True)
        thread.start()
        undo.callback(thread.join)
        undo.callback(self._leaving.set)

    def _keep_written(self, address: Address) -> None:
        """Put back what somebody has removed or changed, `endpoint.json` or the lock: guests need both."""
        while not self._leaving.wait(_LOOK_S):
            if not _is_at(self._lock, self.folder / LOCK_NAME):
                # whoever tries to start the engine meanwhile is kept off by the engine's own lock;
                # if it has this one just now, it is ours a second later
                with contextlib.suppress(FolderInUse, DiskFailed):
                    old, self._lock = self._lock, _take_lock(self.folder, self._id)
                    os.close(old)
            if self._written != _state(self.folder / ENDPOINT_NAME):
                self._written = self._write_down(address)

    def _write_down(self, address: Address) -> tuple[int, int] | None:
        try:
            _write_address(self.folder, address)
        except OSError as error:  # a full disk: those who only read must get in all the same
            if error.strerror != self._complaint:
                logger.warning("%s: %s; other processes cannot get in", ENDPOINT_NAME, error.strerror)
            self._complaint = error.strerror
            return None
        self._complaint = None
        return _state(self.folder / ENDPOINT_NAME)

    def _open_door(self, token: str, listen: Listen) -> tuple["Door", int]:
        from mexcflow.store.endpoint import Endpoint
        from mexcflow.store.endpoint.door import Door

        endpoint = Endpoint(self.folder, token=token, owner=self._id, host=listen.host, port=listen.port)
        door = Door(endpoint)
        return door, door.open()

    def _gone(self, address: Address) -> None:
        with contextlib.suppress(OSError):
            _write_address(self.folder, address)


def own(folder: Path, listen: Listen) -> tuple[Owner, "Client"]:
    """Become the owner of a folder, or be it once more, and return a client of its engine.

    Raises `FolderInUse` when another process is, and what `start_engine` raises.
    """
    with _owners_lock:
        owner = _owners.get(folder)
        if owner is not None:
            return owner, owner.client()
        owner = _owners[folder] = Owner(folder, listen)
        return owner, owner.first


def holder(folder: Path) -> Holder | None:
    """Return the living process that owns a folder, None when there is none.

    Its PID is 0 when it has not yet said who it is.
    """
    try:
        lock = os.open(folder / LOCK_NAME, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look do not meet
    except BlockingIOError:
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(os.read(lock, 4096), type=Holder)
        return Holder(0, "")
    else:
        return None
    finally:
        os.close(lock)


def read_address(folder: Path) -> Address | None:
    """Return what `endpoint.json` says, None when it says nothing; raises `PermissionError`."""
    try:
        file = os.open(folder / ENDPOINT_NAME, os.O_RDONLY | os.O_NONBLOCK)  # it may be anything: a pipe
    except PermissionError:
        raise
    except OSError:
        return None
    try:
        return msgspec.json.decode(os.read(file, 4096), type=Address)
    except (OSError, msgspec.DecodeError):
        return None
    finally:
        os.close(file)


def _take_lock(folder: Path, owner: str) -> int:
    try:
        lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise DiskFailed(f"{folder / LOCK_NAME}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        who = holder(folder)
        raise in_use(folder, f" (PID {who.pid})" if who and who.pid else "") from None
    with contextlib.suppress(OSError):  # a full disk: the lock holds without its text
        os.ftruncate(lock, 0)
        os.pwrite(lock, msgspec.json.encode(Holder(os.getpid(), owner)) + b"\n", 0)
    return lock


def _state(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file does."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _is_at(descriptor: int, path: Path) -> bool:
    """Say whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _allow_many_files() -> None:
    """Raise the limit of open files, as a server does: each of the engine's threads takes three.

    With fifty guests it has some 200, and 1024 files, the usual limit, would not be enough for long.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _known_token(folder: Path) -> str:
    """Return the token of an earlier owner, if nobody but us could have read it."""
    path = folder / ENDPOINT_NAME
    with contextlib.suppress(OSError):
        status = path.stat()
        known = read_address(folder)
        if known is not None and status.st_uid == os.geteuid() and not status.st_mode & 0o077:
            return known.token
    return ""


def _write_address(folder: Path, address: Address) -> None:
    part = folder / f"{ENDPOINT_NAME}.part"
    part.unlink(missing_ok=True)  # so that it is made anew, with our rights
    text = msgspec.json.format(msgspec.json.encode(address), indent=2) + b"\n"
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(text)
    part.replace(folder / ENDPOINT_NAME)
