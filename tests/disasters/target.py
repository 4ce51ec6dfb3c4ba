"""Runs the command as it is, and writes down when what was appended to the journal and when it was synced.

    python tests/disasters/target.py WITNESS run --symbol BTC_USDT ...

WITNESS is a file on another disk than the one whose power fails. Each entry is one write, of three 64-bit
words: the time (Unix ns) of its end, then for an append the local port of the connection and how many
messages of it the journal has now; for a sync of the journal 0 and the time of its beginning. The methods
are looked at from outside: nothing is changed.

FILL=insert:5:/mnt/x in the environment lets somebody fill the disk of that folder right before the fifth
INSERT of rows; the other moments are those of `MOMENTS`. PATIENCE=1 gives a server one second to answer.
"""

import importlib
import itertools
import os
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ENTRY = struct.Struct("=QQQ")


class Entry(NamedTuple):
    """One line of the witness."""

    at_ns: int
    port: int
    """Of an append; 0: a sync."""
    number: int
    """Messages of this connection so far; of a sync its beginning."""


def entries(witness: Path) -> Iterator[Entry]:
    """Return what a witness has seen."""
    text = witness.read_bytes() if witness.exists() else b""
    return map(Entry._make, ENTRY.iter_unpack(text[: len(text) - len(text) % ENTRY.size]))


def watch(path: str) -> None:
    """Let the witness see every append and every sync that came to its end."""
    from mexcflow.journal.journal import Journal
    from mexcflow.journal.writer import Writer
    from mexcflow.pipeline.connect import Line

    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    read, append, sync = Line.read, Journal.append, Writer.sync
    port = count = 0

    def watched_read(line: Line) -> list[bytes]:
        nonlocal port, count
        if line.sock.getsockname()[1] != port:
            port, count = line.sock.getsockname()[1], 0
        return read(line)

    def watched_append(journal: Journal, received_ns: int, payloads: list[bytes]) -> None:
        nonlocal count
        append(journal, received_ns, payloads)
        count += len(payloads)
        os.write(file, ENTRY.pack(time.time_ns(), port, count))

    def watched_sync(writer: Writer) -> None:
        began_ns = time.time_ns()
        sync(writer)
        os.write(file, ENTRY.pack(time.time_ns(), 0, began_ns))

    Line.read, Journal.append, Writer.sync = watched_read, watched_append, watched_sync


MOMENTS = {
    "append": ("mexcflow.journal.files", "Files", "append"),
    "create": ("mexcflow.journal.files", "Files", "create"),
    "sync": ("mexcflow.journal.files", "Files", "sync"),
    "insert": ("mexcflow.store.store", "Store", "insert_rows"),
    "coverage": ("mexcflow.store.store", "Store", "insert_block"),
    "table": ("mexcflow.store.store", "Store", "command"),
    "sync table": ("mexcflow.store.store", "Store", "sync"),
}


def fill_at(moment: str, number: int, folder: str) -> None:
    """Fill a disk right before the call of that number."""
    from tests.disasters.disk import Disk

    module, name, method = MOMENTS[moment]
    owner = getattr(importlib.import_module(module), name)
    called = getattr(owner, method)
    calls = itertools.count(1)

    def filled(*arguments, **named):
        if next(calls) == number:
            Disk(Path(), Path(folder)).fill()
        return called(*arguments, **named)

    setattr(owner, method, filled)


def be_impatient(seconds: float) -> None:
    """Wait less long for a server than the command does, whose half a minute is too long for a test."""
    from mexcflow.store.patience import Patience

    Patience.__new__.__defaults__ = (seconds,) * 3


if __name__ == "__main__":
    path, sys.argv[1:] = sys.argv[1], sys.argv[2:]
    sys.argv[0] = "mexcflow"
    watch(path)
    if "FILL" in os.environ:
        moment, number, folder = os.environ["FILL"].split(":")
        fill_at(moment, int(number), folder)
    if "PATIENCE" in os.environ:
        be_impatient(float(os.environ["PATIENCE"]))

    from mexcflow.cli.main import main

    main()
