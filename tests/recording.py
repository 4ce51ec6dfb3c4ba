"""Recordings made without a network: frames go through the real journal and the real insert thread's code.

Frame n is one deal of price n, so a row tells which frame it came from and which decoder read it.
"""

import contextlib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from mexcflow.clock import SYSTEM_CLOCK
from mexcflow.config import Instance
from mexcflow.exchanges import Exchange
from mexcflow.exchanges.mexc import Mexc
from mexcflow.journal import Durability, Journal, JournalSettings, Retention, this_run
from mexcflow.metrics import Metrics
from mexcflow.model import Kind, Reading, Row
from mexcflow.ops.rebuild import RebuildSettings, Rebuilt, rebuild
from mexcflow.pipeline.feed import string_target
from mexcflow.pipeline.insert import Inserter
from mexcflow.pipeline.table import InsertSettings
from mexcflow.store import Store, ensure_table, open_store, table_state

T_MS = 1_790_000_000_000
CHANNELS = ("ticker", "deal", "depth")
PONG = b'{"channel":"pong","data":1,"ts":1}'


def deal(number: int) -> bytes:
    return b'{"symbol":"BTC_USDT","data":[{"p":%d,"v":1,"T":1,"t":%d}],"channel":"push.deal","ts":%d}' % (
        number,
        T_MS + number,
        T_MS + number,
    )


def deals(*numbers: int) -> list[bytes]:
    return [deal(number) for number in range(*numbers)]


def good(*numbers: int) -> list[Row]:
    return [(T_MS + number, "d", f"{number}|1|1") for number in range(*numbers)]


def wrong(*numbers: int) -> list[Row]:
    return [(T_MS + number, "d", f"{number}|9|2") for number in range(*numbers)]


class Broken(Mexc):
    """A decoder that reads every deal wrongly."""

    def read(self, payload: bytes) -> Reading:
        reading = super().read(payload)
        rows = tuple((ts, mt, m.replace("|1|1", "|9|2")) for ts, mt, m in reading.rows)
        return Reading(reading.kind, reading.channel, rows)


class Blind(Mexc):
    """A decoder that passes over everything."""

    def read(self, payload: bytes) -> Reading:
        return Reading(Kind.SKIPPED, "deal")


class Doubling(Mexc):
    """A decoder that makes two rows of one."""

    def read(self, payload: bytes) -> Reading:
        reading = super().read(payload)
        return Reading(reading.kind, reading.channel, reading.rows * 2)


def journal_of(data: Path) -> Path:
    return data / "journal/mexc/BTC_USDT"


def open_journal(data: Path, *, keep_raw_s: float = math.inf, tail_bytes: int = 0) -> Journal:
    """A journal of small segments, with a small tail or none."""
    return Journal(
        journal_of(data),
        this_run("mexc", "BTC_USDT"),
        settings=JournalSettings(
            durability=Durability(fsync_s=math.inf, segment_bytes=4000),
            retention=Retention(tail_s=0, tail_bytes=tail_bytes, keep_raw_s=keep_raw_s),
        ),
    )


def append(journal: Journal, frames: Iterable[bytes]) -> None:
    for number, frame in enumerate(frames):
        journal.append((T_MS + number) * 1_000_000, [frame])


def record(
    data: Path,
    frames: Sequence[bytes],
    *,
    decoder: type[Exchange] = Mexc,
    table: str = "btc",
    adopt: bool = False,
    keep_raw_s: float = math.inf,
    location: str = "",
    batch_frames: int = 10,
) -> None:
    """Record frames as a run does, five batches at a time, and end in order."""
    journal = open_journal(data, keep_raw_s=keep_raw_s)
    try:
        journal.connected(T_MS * 1_000_000, channels=CHANNELS, url="ws://nowhere")
        with open_store(location or str(data)) as store:
            for at in range(0, max(1, len(frames)), 5 * batch_frames):
                append(journal, frames[at : at + 5 * batch_frames])
                insert(store, journal, decoder=decoder, table=table, adopt=adopt, batch_frames=batch_frames)
        journal.disconnected(T_MS * 1_000_000, reason="stopped", since_ns=T_MS * 1_000_000)
        journal.sync()
        journal.tidy()
    finally:
        journal.close()


def insert(
    store: Store,
    journal: Journal,
    *,
    decoder: type[Exchange] = Mexc,
    table: str = "btc",
    adopt: bool = False,
    batch_frames: int = 10,
    sync_interval_s: float = math.inf,
) -> None:
    """Insert what waits in the journal."""
    settings = InsertSettings(
        table=table,
        flush_interval_s=0,
        sync_interval_s=sync_interval_s,
        batch_frames=batch_frames,
        adopt=adopt,
    )
    inserter = Inserter(
        journal,
        lambda: store,
        Metrics("BTC_USDT", table, CHANNELS, now=0.0),
        target=string_target(decoder("BTC_USDT", CHANNELS), journal, settings, SYSTEM_CLOCK),
        settings=settings,
    )
    inserter.close()
    inserter.run()


def leave_in_doubt(data: Path, frames: Sequence[bytes], *, inserted: bool, behind: Sequence[bytes]) -> None:
    """Be killed with a batch that was named, and sent or not; more frames wait behind it."""
    journal = open_journal(data)
    append(journal, [*frames, *behind])
    while (taken := journal.take(len(frames))) and taken.control:
        journal.acknowledge(taken, journal.state)
    assert taken is not None
    rows = [row for frame in frames for row in Mexc("BTC_USDT", CHANNELS).read(frame).rows]
    with open_store(str(data)) as store:
        ensure_table(store, "btc")
        before = table_state(store, "btc")
        journal.begin(taken, table="btc", uuid=before.uuid, rows_before=before.rows, rows=len(rows))
        if inserted:
            store.insert_rows("btc", rows)
    journal.close()


class Killed(Exception):
    """The process is gone."""


def killed_before_its_insert(data: Path, journal: Journal) -> None:
    """Be killed with a batch that was named and not sent; whatever a start does before that is done."""

    class Dying:
        def __init__(self, store: Store) -> None:
            self._store = store

        def __getattr__(self, name: str) -> object:
            return getattr(self._store, name)

        def insert_rows(self, *_: object, **__: object) -> None:
            raise Killed

    with open_store(str(data)) as store, contextlib.suppress(Killed):
        insert(Dying(store), journal)
    assert journal.pending is not None
    journal.close()


def rows_in(data: Path, table: str = "btc") -> list[Row]:
    with open_store(str(data), create=False) as store:
        return stored(store, table)


def stored(store: Store, table: str = "btc") -> list[Row]:
    return store.query(
        f"SELECT toUnixTimestamp64Milli(ts), toString(mt), m FROM mexc_data.{table} SETTINGS max_threads = 1"
    )


def tables(data: Path) -> set[str]:
    with open_store(str(data), create=False) as store:
        found = store.query(
            "SELECT name FROM system.tables WHERE database = 'mexc_data' AND engine = 'StripeLog'"
        )
    return {name for (name,) in found}


def statement(data: Path, sql: str) -> None:
    with open_store(str(data), create=False) as store:
        store.command(sql)


def made_again(
    data: Path, *, swap: bool = False, decoder: type[Exchange] = Mexc, location: str = "", table: str = "btc"
) -> Rebuilt:
    """Rebuild the table of a recording."""
    instance = Instance(symbol="BTC_USDT", table=table, journal=str(data / "journal"))
    settings = RebuildSettings(
        instance=instance, database=location or str(data), swap=swap, min_free_bytes=50_000_000
    )
    return rebuild(settings, decoder("BTC_USDT", CHANNELS))
