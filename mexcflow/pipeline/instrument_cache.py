"""The lists of symbols that exchanges gave us, kept in the user's cache folder, a file an exchange.

`$XDG_CACHE_HOME/mexcflow/symbols-<exchange>.json`, by default below `~/.cache`. A file is replaced as a
whole or not at all. Nothing depends on it: one that is missing, damaged or not to be written is no error.
"""

import contextlib
import logging
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import msgspec

from mexcflow.model import Instrument

logger = logging.getLogger(__name__)


class Listed(NamedTuple):
    """An exchange's list of symbols, or a part of it, and when it said so (Unix ms)."""

    instruments: list[Instrument]
    seen_ms: int


def cache_folder() -> Path | None:
    """Return our folder among the user's caches; None for a user without a home."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if given and Path(given).is_absolute():  # the standard has a relative one ignored
        return Path(given) / "mexcflow"
    try:
        return Path.home() / ".cache" / "mexcflow"
    except RuntimeError:
        return None


def read_cache(exchange: str) -> Listed | None:
    """Return the list that was kept, however old it is; None if there is none that can be read."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        kept = msgspec.json.decode(_file(folder, exchange).read_bytes(), type=_Kept)
    except (OSError, msgspec.DecodeError) as error:
        if not isinstance(error, FileNotFoundError):
            logger.debug("the kept list of symbols of %s is not used: %s", exchange, error)
        return None
    return Listed(kept.instruments, kept.seen_ms)


def write_cache(exchange: str, listed: Listed) -> None:
    """Keep a list; what goes wrong is logged, no more."""
    folder = cache_folder()
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(_file(folder, exchange), msgspec.json.encode(_Kept(listed.seen_ms, listed.instruments)))
    except OSError as error:
        logger.info("the list of symbols of %s is not kept: %s", exchange, error)


class _Kept(msgspec.Struct):
    seen_ms: int
    instruments: list[Instrument]


def _file(folder: Path, exchange: str) -> Path:
    return folder / f"symbols-{exchange}.json"


def _replace(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
