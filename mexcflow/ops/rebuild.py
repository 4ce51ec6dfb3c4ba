"""Rebuild: a table made again, beside the old one, from the frames that the journal and its archive keep.

What is not kept as frames is copied from the old table, so the new one is whole: rows from before the
archive begins, rows whose frames are damaged or gone, rows that somebody else put there. What the next run
will insert is left to it: frames that no batch has, and a batch whose fate is in doubt.

The old table is only read, until the two change places in one step, and only if that is asked for. The
stream's journal is locked meanwhile, and its segments are only read.
"""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mexcflow.config import Instance, check_table_name, journal_folder
from mexcflow.errors import DiskFailed, Misuse, Permanent
from mexcflow.exchanges import Exchange
from mexcflow.journal import has_history
from mexcflow.journal.files import Files
from mexcflow.journal.lock import Lock
from mexcflow.journal.retention import list_archive
from mexcflow.journal.segments import list_segments
from mexcflow.journal.stream import read_positions
from mexcflow.ops.layout import Frames, Layout, read_layout
from mexcflow.ops.remake import Remade, Remaker
from mexcflow.ops.rowdiff import Difference, compare
from mexcflow.ops.rowmap import Heading, expire_maps, read_map, write_map
from mexcflow.pipeline.table import InsertSettings
from mexcflow.store import DATABASE, Store, TableState, check_table, ensure_table, open_store, table_state
from mexcflow.store.beside import drop_beside, drop_unfinished, make_beside, swap
from mexcflow.store.forms import Kept, existing_tables
from mexcflow.store.rows import count_types
from mexcflow.store.sizes import table_files

SUFFIX = "_rebuilt"
"""The new table is `btc_rebuilt`; after a swap that is the old one's name."""


@dataclass(frozen=True)
class RebuildSettings:
    """What is rebuilt: the table of an instance, in a database. `swap`: put it in the old one's place."""

    instance: Instance
    database: str
    swap: bool = False
    min_free_bytes: int = InsertSettings.min_free_bytes

    @property
    def folder(self) -> Path:
        """The journal's folder of this stream."""
        instance = self.instance
        return journal_folder(instance.journal, self.database, instance.exchange, instance.symbol)

    @property
    def beside(self) -> str:
        """The name of the table that is made."""
        return self.instance.table + SUFFIX


@dataclass(kw_only=True)
class Rebuilt:
    """What was done. Rows `old` are those of the table as it was, `new` those of the one that was made.

    Batches are compared in groups of rows as they were inserted; `batches_different` have other rows now.
    `waiting_frames` are not acknowledged: the next run inserts them, and `waiting_rows` of them are in the
    old table already. `missing_rows` are in neither. `left`: the name of the table that stays beside it.
    """

    database: str
    journal: str
    table: str
    old: dict[str, int]
    new: dict[str, int]
    remade: Remade
    batches_equal: int
    batches_different: int
    differences: list[Difference]
    waiting_frames: int
    waiting_rows: int
    dropped: bool
    swapped: bool = False
    left: str | None = None

    @property
    def same(self) -> bool:
        """Whether the table is exactly what the archive decodes to."""
        return not self.batches_different


def rebuild(
    settings: RebuildSettings, exchange: Exchange, *, progress: Callable[[str], None] = lambda step: None
) -> Rebuilt:
    """Make the table again and compare the two; swap them if that is asked for.

    Raises `Misuse` when there is nothing to make it from, `StreamInUse` while the stream is recorded,
    `DiskFailed` when the disk has no room for a second table.
    """
    folder = settings.folder
    if not has_history(folder) and not list_archive(folder):
        raise Misuse(
            f"there is no journal of {exchange.name} {exchange.symbol} ({folder})",
            hint="Is the symbol spelt as it was recorded, and is this its --database (or --journal)?",
        )
    with _held(folder), open_store(settings.database, create=False) as store:
        return _Rebuild(store, settings, exchange, progress).run()


def _refuse_sorted(store: Store, table: str) -> None:
    """Raise `Misuse` for a table whose engine sorts: nobody knows any more which rows a batch became."""
    there = existing_tables(store).get(table)
    if there is not None and there.kept is not Kept.STRIPELOG:
        raise Misuse(
            f"{DATABASE}.{table} is {there.engine}, which is sorted: only StripeLog can be rebuilt",
            hint="Record into another table what was kept: mexcflow simulate --archive (docs/scaling.md)",
        )


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the stream, so that nobody records it meanwhile."""
    lock = Lock(folder, f"PID {os.getpid()} on {socket.gethostname()}, which rebuilds its table", Files())
    try:
        yield
    finally:
        lock.release()


class _Rebuild:
    def __init__(
        self, store: Store, settings: RebuildSettings, exchange: Exchange, progress: Callable[[str], None]
    ) -> None:
        self._store = store
        self._settings = settings
        self._exchange = exchange
        self._progress = progress
        self._folder = settings.folder
        self._table = settings.instance.table
        self._stream = (settings.instance.exchange, settings.instance.symbol)
        self._beside = settings.beside
        self._journal_uuids: list[str] = []
        self._segments = sorted(
            {one.number for one in list_segments(self._folder)}
            | {one.number for one in list_archive(self._folder)}
        )

    def run(self) -> Rebuilt:
        store, table, beside = self._store, self._table, self._beside
        check_table_name(beside, where="the table to be made")
        check_table(store, table)
        _refuse_sorted(store, table)
        old = table_state(store, table)
        layout = self._layout(old)
        rows = self._rows_to_keep(layout, old)
        dropped = drop_unfinished(store, beside, uuid=old.uuid if old else None)
        self._check_disk(table if old else None)
        make_beside(store, beside, uuid=old.uuid if old else None)
        remaker = Remaker(
            store,
            self._exchange,
            source=(table, rows),
            target=beside,
            min_free_bytes=self._settings.min_free_bytes,
        )
        frames = Frames(read_positions(self._folder))
        remade = remaker.run(layout.pieces, frames, progress=self._told(frames))
        waiting = self._waiting(frames, layout)
        self._progress("comparing")
        compared = compare(store, (table if old else None, beside), remaker.sections)
        report = Rebuilt(
            database=store.location,
            journal=str(self._folder),
            table=table,
            old=count_types(store, table) if old else {},
            new=count_types(store, beside),
            remade=remade,
            batches_equal=compared.equal,
            batches_different=compared.different,
            differences=compared.examples,
            waiting_frames=waiting,
            waiting_rows=old.rows - rows if old else 0,
            dropped=dropped,
        )
        self._conclude(report, remaker, old)
        return report

    def _layout(self, old: TableState | None) -> Layout:
        """Return which frames became which rows of the table as it is now.

        One that is gone or empty (dropped and made anew, lost with its disk) is taken for the one that the
        journal knows under its name: all of that one can be had back that is kept as frames.
        """
        self._progress("reading the journal's records")
        uuid = old.uuid if old else ""
        layout = self._read_layout(uuid)
        self._journal_uuids = [state.uuid for state in layout.tables.values()]
        known = layout.tables.get(self._table)
        if not len(layout.pieces) and not (old and old.rows) and known and known.uuid != uuid:
            layout = self._read_layout(known.uuid)
        if not len(layout.pieces):
            names = ", ".join(sorted(layout.tables)) or "none"
            raise Misuse(
                f"nothing that {self._folder} keeps went into {DATABASE}.{self._table} as it is now",
                hint=f"The journal knows these tables: {names}. Frames are kept with --keep-raw",
            )
        return layout

    def _read_layout(self, uuid: str) -> Layout:
        pieces = read_map(self._folder, uuid, first_segment=self._segments[0])
        return read_layout(read_positions(self._folder), uuid, pieces)

    def _rows_to_keep(self, layout: Layout, old: TableState | None) -> int:
        """Return how many rows of the old table count: those of a batch in doubt are the next run's."""
        rows, in_doubt = old.rows if old else 0, layout.in_doubt
        if in_doubt is None:
            return rows
        before, end = in_doubt.rows_before, in_doubt.rows_before + in_doubt.rows
        if rows > before and rows != end:
            raise _unfinished(f"and the table has {rows:,} rows where {before:,} or {end:,} are expected")
        return min(rows, before)

    def _waiting(self, frames: Frames, layout: Layout) -> int:
        """Return how many frames are left to the next run; raises when it could not insert them."""
        in_doubt = layout.in_doubt
        if in_doubt is None:
            return frames.count_from(layout.end)
        kept = len(frames.between(in_doubt.start, in_doubt.end))
        if kept != in_doubt.frames:
            raise _unfinished("and not all of its frames can be read")
        return kept + frames.count_from(in_doubt.end)

    def _check_disk(self, table: str | None) -> None:
        """Raise `DiskFailed` unless a second table of this size finds room."""
        free = self._store.free_bytes()
        if free is None:  # a server looks after its own
            return
        files = table_files(self._store, table) if table else None
        needed = (files.data_bin_bytes + (files.index_mrk_bytes or 0)) if files else 0
        least = self._settings.min_free_bytes
        if free < needed + least:
            raise DiskFailed(
                f"{self._store.location}: {free / 1e6:,.0f} MB are free; a second table takes about "
                f"{needed / 1e6:,.0f} MB, and {least / 1e6:,.0f} MB have to stay free (--min-free)",
                hint="Nothing was changed",
            )

    def _told(self, frames: Frames) -> Callable[[str], None]:
        def tell(step: str) -> None:
            at = self._segments.index(frames.segment) if frames.segment else len(self._segments)
            self._progress(f"{step} ({at / len(self._segments):.0%} of the journal)")

        return tell

    def _conclude(self, report: Rebuilt, remaker: Remaker, old: TableState | None) -> None:
        """Swap if that is asked for; else a new table that is the same as the old one is of no use."""
        store, table, beside = self._store, self._table, self._beside
        full = f"{DATABASE}.{beside}"
        if self._settings.swap:
            self._progress("swapping")
            self._write_map(remaker)
            swap(store, table, beside)
            ensure_table(store, table, self._stream)
            report.swapped = True
            report.left = full if old else None
        elif report.same and old:
            drop_beside(store, beside)
        else:
            report.left = full
        self._expire_maps()

    def _write_map(self, remaker: Remaker) -> None:
        made = table_state(self._store, self._beside)
        if made is None:
            raise Permanent(f"table {DATABASE}.{self._beside} is gone: somebody dropped it meanwhile")
        heading = Heading(
            uuid=made.uuid, table=self._table, database=self._store.location, segment=self._segments[-1]
        )
        write_map(self._folder, heading, remaker.pieces())

    def _expire_maps(self) -> None:
        there = self._store.query(
            "SELECT toString(uuid) FROM system.tables WHERE database = {database:String}",
            {"database": DATABASE},
        )
        expire_maps(
            self._folder,
            first_segment=self._segments[0],
            database=self._store.location,
            # also those of tables that are gone: what was in them can be had back from the frames
            uuids=[*self._journal_uuids, *(uuid for (uuid,) in there)],
        )


def _unfinished(why: str) -> Permanent:
    return Permanent(
        f"the last run did not finish its last batch, {why}",
        hint="Start `mexcflow run` once: it finds out what became of the batch",
    )
