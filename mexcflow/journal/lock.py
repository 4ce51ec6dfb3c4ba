"""One writer a stream: who holds its folder."""

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path
from urllib.parse import unquote

from mexcflow.errors import StreamInUse
from mexcflow.journal.files import Files, disk_failed, failing

STATUS = "status.json"
"""What the writer says of itself for others to read; no part of what is kept."""
_TRIES = 50
"""`holder` takes the lock for a moment, which must not look like a writer: asked again after 10 ms."""


class Lock:
    """The one writer's hold on a stream's folder; the kernel lets go of it however the process ends."""

    def __init__(self, folder: Path, text: str, files: Files) -> None:
        self._path = folder / "lock"
        self._files = files
        self._descriptor = self._acquire()
        with contextlib.ExitStack() as stack, failing(self._path):
            stack.callback(self.release)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, text.encode(), 0)
            stack.pop_all()

    @property
    def released(self) -> bool:
        """Whether it was let go."""
        return self._descriptor < 0

    def release(self) -> None:
        """Let go; the file stays, since to remove it would take the lock from under somebody who waits."""
        os.close(self._descriptor)
        self._descriptor = -1

    def _acquire(self) -> int:
        for last in [False] * _TRIES + [True]:
            self._files.make_folder(self._path.parent)
            try:
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:  # the folder was removed since by an instance that left nothing
                continue
            except OSError as error:
                raise disk_failed(self._path, error) from error
            if self._hold(descriptor):
                return descriptor
            who = holder(self._path.parent)
            if who is not None or last:
                raise in_use(self._path.parent, who or "")
            time.sleep(0.01)
        raise in_use(self._path.parent, "")

    def _hold(self, descriptor: int) -> bool:
        """Say whether the lock is ours now, and is still the one that others see; closes it if not."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == self._path.stat().st_ino:
                    return True
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                os.close(descriptor)
                raise disk_failed(self._path, error) from error
        os.close(descriptor)
        return False


def holder(folder: Path) -> str | None:
    """Return what the writer of this folder says of itself; None when nobody writes it."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return os.read(descriptor, 4096).decode("utf-8", "replace").strip()
    else:
        return None
    finally:
        os.close(descriptor)


def in_use(folder: Path, who: str) -> StreamInUse:
    """Return the error that says who writes this folder."""
    stream = " ".join(map(unquote, folder.parts[-2:]))
    return StreamInUse(
        f"{stream} is recorded already{f' by {who}' if who else ''}; its journal is {folder}",
        hint="One instance a stream: stop that one first",
    )
