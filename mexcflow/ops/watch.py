"""The folder of instance files, looked at again and again.

What is read must have lain still for one look, since editors write in steps. A file that is wrong changes
nothing that runs: the instance that was read from it before stays, and the reason is in `wrong`.
"""

from pathlib import Path

from mexcflow.config import Instance, conflict, journal_folder, load_instance, told
from mexcflow.errors import Misuse
from mexcflow.pipeline.check import check_instance

Signature = tuple[int, int, int]
"""What changes when a file does: time, size, inode."""


class Watch:
    """The instances that a folder (or one file) asks for, by the file's name without `.toml`.

    `only` chooses some by that name, by symbol or by table. Raises `Misuse` when there is no such folder,
    or nothing of that name in it.
    """

    def __init__(self, config: Path, only: tuple[str, ...] = ()) -> None:
        self._config = config
        self._only = only
        self._seen: dict[str, Signature] = {}
        self._taken: dict[str, Signature] = {}
        self._accepted: dict[str, Instance] = {}
        self._read: dict[str, Instance | str] = {}
        self.wrong: dict[str, str] = {}
        """Why a file (by name; '' for the folder) is not obeyed."""
        if not config.exists():
            raise Misuse(f"{config}: no such folder of instance files", hint="Give one with --config")
        try:
            self._seen = self._signatures()
        except OSError as error:
            raise Misuse(f"{config}: {error.strerror or error}", hint="May you read it?") from error
        self._take()
        self._check_only()

    @property
    def wanted(self) -> dict[str, Instance]:
        """What should run."""
        return {name: one for name, one in self._accepted.items() if self._is_chosen(name, one)}

    def look(self) -> set[str]:
        """Return the names of the files that were touched, are new or gone since the last time."""
        try:
            seen = self._signatures()
        except OSError as error:
            self.wrong[""] = f"{self._config}: {error.strerror or error}; nothing is changed until it is back"
            return set()
        self.wrong.pop("", None)
        still, self._seen = seen == self._seen, seen
        return self._take() if still and seen != self._taken else set()

    def _take(self) -> set[str]:
        touched = {name for name in self._seen | self._taken if self._seen.get(name) != self._taken.get(name)}
        self._taken = dict(self._seen)
        for name in touched:
            self._read.pop(name, None)
            if name in self._taken:
                self._read[name] = _load(self._path(name))
        self._accepted, wrong = merge(self._accepted, self._read)
        self.wrong = {name: why for name, why in wrong.items() if not self._only or name in self._only}
        return touched

    def _signatures(self) -> dict[str, Signature]:
        if self._config.is_file():
            paths = [self._config]
        else:
            paths = [self._config / name for name in sorted(path.name for path in self._config.iterdir())]
            paths = [path for path in paths if path.match("*.toml")]
        found = {}
        for path in paths:
            status = path.stat() if path.exists() else path.lstat()
            found[path.stem] = (status.st_mtime_ns, status.st_size, status.st_ino)
        return found

    def _path(self, name: str) -> Path:
        return self._config if self._config.is_file() else self._config / f"{name}.toml"

    def _is_chosen(self, name: str, instance: Instance) -> bool:
        return not self._only or bool({name, instance.symbol, instance.table} & set(self._only))

    def _check_only(self) -> None:
        known = {word for name, one in self._accepted.items() for word in (name, one.symbol, one.table)}
        for word in self._only:
            if word not in known | self.wrong.keys():
                hint = f"There are: {', '.join(self._accepted)}" if self._accepted else "It is empty"
                raise Misuse(f"--only: {word!r} is no instance in {self._config}", hint=hint)


def _load(path: Path) -> Instance | str:
    try:
        instance = load_instance(path)
        check_instance(instance, where=instance.source)
        journal_folder("", ".", instance.exchange, instance.symbol)
    except Misuse as error:
        return told(path, error)
    return instance


def merge(
    before: dict[str, Instance], read: dict[str, Instance | str]
) -> tuple[dict[str, Instance], dict[str, str]]:
    """Return what is accepted of what was read, and why the rest is not.

    What runs already goes first: of two that want one stream or one table the new one is wrong, and what
    was accepted of its file before stays.
    """
    unchanged = [name for name, one in read.items() if before.get(name) == one]
    others = [name for name in sorted(read) if name not in unchanged]
    # a wrong file's former instance runs on, so it counts before any new one
    others.sort(key=lambda name: not isinstance(read[name], str))
    accepted: dict[str, Instance] = {}
    wrong: dict[str, str] = {}
    for name in [*unchanged, *others]:
        one = read[name]
        problem = one if isinstance(one, str) else conflict(one, accepted.values())
        if problem:
            wrong[name] = problem
            former = before.get(name)
            if former is None or conflict(former, accepted.values()):
                continue
            one = former
        if not isinstance(one, str):
            accepted[name] = one
    return {name: accepted[name] for name in sorted(accepted)}, wrong
