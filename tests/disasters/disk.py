"""A disk for the tests: an ext4 file system in an image file, mounted through a loop device. Needs root.

    with Disks(tmp_path) as disks:
        disk = disks.new(300)
        ...                     # work in disk.folder
        at_ns = disk.cut()      # the power fails
        disk = disks.copy_of(disk)

`cut` is what file system developers use for it (FS_IOC_SHUTDOWN, as in xfstests): from one moment on nothing
more of this file system reaches the device, neither its journal nor what is dirty in memory, and whoever
writes gets EIO. What the device then holds is the image file. It is copied, and mounting the copy replays
ext4's journal as after a power cut. Whatever the device had been sent counts as being on it.
"""

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

_SHUTDOWN = 0x8004587D
"""FS_IOC_SHUTDOWN: _IOR('X', 125, u32)."""
_NOTHING_IS_FLUSHED = struct.pack("I", 2)
_MB = 1_000_000
_BLOCK_BYTES = 4096


class Disk:
    """One image, mounted at `folder`."""

    def __init__(self, image: Path, folder: Path) -> None:
        self.image = image
        self.folder = folder

    def mount(self) -> None:
        self.folder.mkdir(exist_ok=True)
        _run("mount", "-o", "loop,errors=remount-ro", str(self.image), str(self.folder))

    def unmount(self) -> None:
        """Unmount whatever is there, also when somebody still has a file open."""
        if os.path.ismount(self.folder):
            done = subprocess.run(["umount", str(self.folder)], capture_output=True, check=False)
            if done.returncode:
                _run("umount", "--lazy", str(self.folder))

    def cut(self) -> int:
        """Let the power fail; returns the Unix ns just before it."""
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            at_ns = time.time_ns()
            fcntl.ioctl(handle, _SHUTDOWN, _NOTHING_IS_FLUSHED)
        finally:
            os.close(handle)
        return at_ns

    @property
    def free_bytes(self) -> int:
        disk = os.statvfs(self.folder)
        return disk.f_bavail * disk.f_frsize

    def fill(self, *, leave_bytes: int = 0) -> Path:
        """Write a file beside everything until so much is left; returns it, to be removed."""
        path = self.folder / "somebody-elses"
        piece = self.free_bytes - leave_bytes
        with path.open("wb") as file:
            while piece >= _BLOCK_BYTES:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, piece)
                except OSError:
                    piece //= 2
                else:
                    piece = min(piece, self.free_bytes - leave_bytes)
        return path

    def fail(self) -> None:
        """Let the file system find itself damaged: it becomes read-only, as after an error of the disk."""
        device = _run("findmnt", "-no", "SOURCE", str(self.folder)).strip()
        Path(f"/sys/fs/ext4/{Path(device).name}/trigger_fs_error").write_text("a test")


class Disks:
    """Makes disks and cleans all of them up, whatever happens."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._disks: list[Disk] = []

    def __enter__(self) -> "Disks":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for disk in self._disks:
            with contextlib.suppress(OSError):
                disk.unmount()
            disk.image.unlink(missing_ok=True)

    def new(self, megabytes: int) -> Disk:
        """Return a new and empty disk."""
        disk = self._next()
        with disk.image.open("wb") as image:
            image.truncate(megabytes * _MB)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(disk.image))
        disk.mount()
        return disk

    def copy_of(self, disk: Disk) -> Disk:
        """Return the disk that a machine finds when the power is back; the old one is gone."""
        found = self._next()
        _copy(disk.image, found.image)
        disk.unmount()
        disk.image.unlink()
        found.mount()
        return found

    def _next(self) -> Disk:
        number = len(self._disks)
        self._disks.append(Disk(self._folder / f"disk{number}.img", self._folder / f"disk{number}"))
        return self._disks[-1]


def why_not() -> str:
    """Return why there can be no such disks here, '' if there can."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [name for name in ("mkfs.ext4", "mount", "umount", "losetup") if not shutil.which(name)]
    if missing:
        return f"needs {', '.join(missing)}"
    try:
        with tempfile.TemporaryDirectory() as folder, Disks(Path(folder)) as disks:
            disk = disks.new(20)
            disk.cut()
            disks.copy_of(disk)
    except OSError as error:
        return f"no loop devices: {error}"
    return ""


def _copy(source: Path, target: Path) -> None:
    """Copy an image as it stands; what was on its way to the device when it was cut arrives first."""
    while True:
        _run("cp", "--sparse=always", str(source), str(target))
        if not subprocess.run(["cmp", "--silent", str(source), str(target)], check=False).returncode:
            return
        time.sleep(0.05)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
