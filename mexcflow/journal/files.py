"""What the journal asks of the file system, in one place, so that a test can play a power cut.

Whatever changes a file or a name goes through `Files`; reading does not. A name is on the disk only after
`sync_folder`, and bytes only after `sync`. Errors are `DiskFailed` (exit code 74), with the path in them.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from mexcflow.errors import DiskFailed

_HINTS = {
    errno.ENOSPC: "Free some space and start again; what was recorded is unharmed",
    errno.EDQUOT: "Your quota is used up: free some space and start again; what was recorded is unharmed",
    errno.EACCES: "Mend the folder's rights and start again; what was recorded is unharmed",
    errno.EROFS: "After an error of the disk it is mounted read-only (see dmesg): mend it and start again",
    errno.EIO: "The disk does not work (see dmesg): mend it and start again",
}
_HINT = "What was recorded is unharmed"


class Files:
    """Appending, syncing, renaming, removing; nothing here buffers."""

    def make_folder(self, path: Path) -> None:
        """Make a folder and those above it, and their names for sure."""
        with failing(path):
            missing = [one for one in (path, *path.parents) if not one.exists()]
            path.mkdir(parents=True, exist_ok=True)
        for made in missing:
            self.sync_folder(made.parent)

    def create(self, path: Path) -> int:
        """Make a file that must not be there yet, for appending; returns its descriptor."""
        with failing(path):
            return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def append(self, descriptor: int, data: bytes, at: int) -> None:
        """Append `data` whole to a file that is `at` bytes long, or nothing: then the file is cut back."""
        try:
            written = os.write(descriptor, data)
            while written < len(data):
                written += os.write(descriptor, memoryview(data)[written:])
        except OSError:
            with contextlib.suppress(OSError):  # what is left is a torn tail, cut at the next opening
                os.ftruncate(descriptor, at)
            raise

    def cut(self, path: Path, size: int) -> None:
        """Make a file shorter, and that for sure."""
        with failing(path), _opened(path, os.O_WRONLY) as descriptor:
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)

    def sync(self, descriptor: int) -> None:
        """Force a file's bytes and its length down to the disk."""
        os.fdatasync(descriptor)

    def sync_file(self, path: Path) -> None:
        """Do the same with a file that is not open."""
        with failing(path), _opened(path, os.O_WRONLY) as descriptor:
            self.sync(descriptor)

    def sync_folder(self, path: Path) -> None:
        """Force the names in a folder down to the disk."""
        with failing(path), _opened(path, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
            try:
                os.fsync(descriptor)
            except OSError as error:
                if error.errno not in (
                    errno.EINVAL,
                    errno.ENOTSUP,
                ):  # some network file systems have no such thing
                    raise

    def rename(self, path: Path, target: Path) -> None:
        """Give a file another name in one step."""
        with failing(path):
            path.rename(target)

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there."""
        with failing(path):
            path.unlink(missing_ok=True)

    def remove_folder(self, path: Path) -> None:
        """Remove a folder, if it is there and empty."""
        with contextlib.suppress(OSError):
            path.rmdir()

    def write_whole(self, path: Path, data: bytes) -> None:
        """Make a file that is there whole, on the disk, or not at all; its folder is made if need be."""
        self.make_folder(path.parent)
        new = path.with_name(f"{path.name}.new")
        self.remove(new)  # of an earlier attempt
        try:
            descriptor = self.create(new)
            try:
                with failing(path):
                    self.append(descriptor, data, 0)
                    self.sync(descriptor)
            finally:
                os.close(descriptor)
        except DiskFailed:
            self.remove(new)
            raise
        self.rename(new, path)
        self.sync_folder(path.parent)


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def failing(path: Path) -> Iterator[None]:
    """Turn an error of the file system into `DiskFailed`."""
    try:
        yield
    except OSError as error:
        raise disk_failed(path, error) from error


def disk_failed(path: Path, error: OSError) -> DiskFailed:
    """Return the error that says that the journal cannot be written."""
    return DiskFailed(f"journal {path}: {error.strerror or error}", hint=_HINTS.get(error.errno or 0, _HINT))
