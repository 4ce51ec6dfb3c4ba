"""How a process gets at a data folder: as its owner, or as a guest of the one that is.

Whoever comes first becomes the owner. When the owner goes, in any way, the next guest that wants something
finds that out and begins here again: one of them becomes the owner, the others its guests.
"""

import logging
import time
from pathlib import Path

from mexcflow.errors import FolderInUse, Misuse, StoreUnavailable
from mexcflow.store import guest
from mexcflow.store.folder import checked_folder
from mexcflow.store.owner import Listen, holder, own
from mexcflow.store.store import Attached, Store

logger = logging.getLogger(__name__)

_LOOK_S = 0.05
_OWNER_S = 10.0
"""How long an owner may take to open the folder: the engine starts in half a second, but others start too."""
_STRANGER_S = 2.0
"""How long to wait for somebody who has the engine open and lets nobody in: a repair, another program."""
_AGAIN_S = 5.0
"""The same for a store that had its folder once: it comes again anyhow."""


def open_folder(
    folder: Path, *, create: bool, listen: Listen, alone: bool = False, within_s: float | None = None
) -> Store:
    """Open (and with `create` make) a data folder; see `open_store` for the errors.

    `alone`: be its owner, or raise `FolderInUse`. `within_s`: how long an owner may take to let us in.
    """
    folder = checked_folder(folder, create=create)
    attached = _own(folder, listen) if alone else _attach(folder, listen, within_s=within_s or _OWNER_S)
    return Store(attached, str(folder), folder, again=lambda: _again(folder, listen._replace(insists=False)))


def _again(folder: Path, listen: Listen) -> Attached:
    """Get at a folder that this process had before; every reason why it does not work may pass."""
    try:
        # an owner may have gone before anything was made in the folder, so there need be no database yet
        there = checked_folder(folder, create=folder.is_dir())
        attached = _attach(there, listen, within_s=_AGAIN_S)
    except (FolderInUse, Misuse) as error:  # in use by a stranger; or without chDB we cannot be its owner
        raise StoreUnavailable(error.what) from error
    logger.info("%s: %s", folder, "this process owns it now" if attached.embedded else "it has a new owner")
    return attached


def _attach(folder: Path, listen: Listen, *, within_s: float) -> Attached:
    """Own a folder or be a guest in it, whichever comes first.

    Raises `FolderInUse` when somebody has it who is no owner, `Unanswered` when its owner says nothing.
    """
    begun = owner_seen = time.monotonic()
    while True:
        try:
            return _own(folder, listen)
        except FolderInUse as refused:
            why = refused
        was_owned = holder(folder) is not None
        try:
            return _visit(folder)
        except guest.Unanswered as unanswered:  # an owner that was killed while we waited for its answer
            now = time.monotonic()
            is_owned = holder(folder) is not None
            if was_owned or is_owned:
                owner_seen = now
            if is_owned and now - begun > within_s:
                raise
            if now - owner_seen > _STRANGER_S:
                raise why from unanswered
        time.sleep(_LOOK_S)


def _own(folder: Path, listen: Listen) -> Attached:
    owner, client = own(folder, listen)
    return Attached(client, embedded=True, release=lambda: owner.leave(client), address=owner.address)


def _visit(folder: Path) -> Attached:
    client = guest.connect(folder)
    return Attached(client, embedded=False, release=client.close)
