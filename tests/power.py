"""A disk whose power is cut: what was synced is there, of everything else anything may be there."""

import os
import random
from pathlib import Path

from mexcflow.journal.files import Files


class PowerCut(BaseException):
    """The machine is off: nothing of the program runs any more."""


class CuttableFiles(Files):
    """Does what it is asked, and remembers what of it a power cut could undo.

    The power goes at the operation of number `cut_at`: before it, or when it is done but did not return.
    Nothing is really forced down. Names that change are remembered for each folder until it is synced; bytes
    by file, with a second link to each, so that what was removed can come back.
    """

    def __init__(self, root: Path, vault: Path, cut_at: int) -> None:
        self.root = root
        self._vault = vault
        self.cut_at = cut_at
        self._operations = 0
        vault.mkdir(parents=True)
        self._synced: dict[int, int] = {}
        self._names: dict[Path, int | None] = {}  # what is on the disk; None is a folder
        self._changes: dict[Path, list[tuple[Path, Path | None, int | None]]] = {}
        for path in sorted(root.rglob("*")):
            self._names[path] = None if path.is_dir() else self._known(path)

    def _known(self, path: Path) -> int:
        """Take in a file that is on the disk."""
        status = path.stat()
        os.link(path, self._vault / str(status.st_ino))
        self._synced[status.st_ino] = status.st_size
        return status.st_ino

    def _step(self) -> None:
        """Half an operation; the power may be off by now."""
        self._operations += 1
        if self._operations >= self.cut_at:
            raise PowerCut

    def _change(self, folder: Path, old: Path, new: Path | None, inode: int | None) -> None:
        self._changes.setdefault(folder, []).append((old, new, inode))

    def make_folder(self, path: Path) -> None:
        self._step()
        for one in (path, *path.parents):
            if not one.exists():
                self._change(one.parent, one, one, None)
        super().make_folder(path)

    def create(self, path: Path) -> int:
        self._step()
        descriptor = super().create(path)
        inode = os.fstat(descriptor).st_ino
        os.link(path, self._vault / str(inode))
        self._synced[inode] = 0
        self._change(path.parent, path, path, inode)
        return descriptor

    def append(self, descriptor: int, data: bytes, at: int) -> None:
        self._step()
        super().append(descriptor, data, at)
        self._step()

    def cut(self, path: Path, size: int) -> None:
        self._step()
        os.truncate(path, size)
        self._synced[path.stat().st_ino] = size
        self._step()

    def sync(self, descriptor: int) -> None:
        self._step()
        status = os.fstat(descriptor)
        self._synced[status.st_ino] = status.st_size
        self._step()

    def sync_folder(self, path: Path) -> None:
        self._step()
        for change in self._changes.pop(path, []):
            _apply(self._names, change)
        self._step()

    def rename(self, path: Path, target: Path) -> None:
        self._step()
        self._change(path.parent, path, target, path.stat().st_ino)
        super().rename(path, target)
        self._step()

    def remove(self, path: Path) -> None:
        self._step()
        if path.exists() and path.name != "lock":
            self._change(path.parent, path, None, path.stat().st_ino)
        super().remove(path)
        self._step()

    def after_the_cut(self, target: Path, dice: random.Random) -> None:
        """Write to `target` what may be on the disk now."""
        names = dict(self._names)
        for changes in self._changes.values():
            for change in changes:
                if dice.random() < 0.5:
                    _apply(names, change)
        for path, inode in sorted(names.items()):
            place = target / path.relative_to(self.root)
            if not place.parent.is_dir():
                continue  # its folder's name was lost
            if inode is None:
                place.mkdir(exist_ok=True)
            else:
                place.write_bytes(self._bytes(inode, dice))

    def _bytes(self, inode: int, dice: random.Random) -> bytes:
        written = (self._vault / str(inode)).read_bytes()
        synced = self._synced[inode]
        kept = bytearray(written[: dice.choice([synced, len(written), dice.randint(synced, len(written))])])
        while len(kept) > synced and dice.random() < 0.6:
            start = dice.randint(synced, len(kept))
            end = dice.randint(start, len(kept))
            kept[start:end] = dice.choice(
                [bytes(end - start), dice.randbytes(end - start), written[: end - start]]
            )
        return bytes(kept)


def _apply(names: dict[Path, int | None], change: tuple[Path, Path | None, int | None]) -> None:
    old, new, inode = change
    if new != old:
        names.pop(old, None)
    if new is not None:
        names[new] = inode
