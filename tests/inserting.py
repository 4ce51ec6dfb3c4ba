"""An inserter in a thread, over a real journal and a real engine whose inserts fail as told."""

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from mexcflow.clock import SYSTEM_CLOCK
from mexcflow.exchanges.mexc import Mexc
from mexcflow.journal import Durability, Journal, JournalSettings, this_run
from mexcflow.metrics import Backlog, Metrics
from mexcflow.model import Row
from mexcflow.pipeline.feed import string_target
from mexcflow.pipeline.insert import Inserter
from mexcflow.pipeline.table import InsertSettings
from mexcflow.store import Store, open_store

T_MS = 1_790_000_000_000
ACK = b'{"channel":"rs.sub.deal","data":"success","ts":1}'
ALL = "SELECT toUnixTimestamp64Milli(ts), toString(mt), m FROM mexc_data.btc SETTINGS max_threads = 1"


def deal(number: int, *, symbol: str = "BTC_USDT") -> bytes:
    return b'{"symbol":"%s","data":[{"p":%d,"v":1,"T":1,"t":%d}],"channel":"push.deal","ts":%d}' % (
        symbol.encode(),
        number,
        T_MS + number,
        T_MS + number,
    )


class FaultyStore:
    """A store whose inserts fail as told: one fault an INSERT, each before or after the rows are in.

    `tries` are the rows of each INSERT that was asked for, `batches` the numbers of rows that went in.
    """

    def __init__(self, store: Store, faults: Sequence[tuple[str, Exception]] = ()) -> None:
        self._store = store
        self.faults = list(faults)
        self.batches: list[int] = []
        self.tries: list[tuple[Row, ...]] = []
        self.query_ids: list[str] = []
        self.synced: list[int] = []
        self.embedded = store.embedded
        self.tears_after = -1
        """After that many batches data.bin is shorter than the engine thinks, as on a full disk."""

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def insert_rows(self, table: str, rows: Sequence[Row], *, query_id: str = "") -> None:
        self.tries.append(tuple(rows))
        self.query_ids.append(query_id)
        when, error = self.faults.pop(0) if self.faults else ("never", None)
        if when == "before":
            raise error
        self._store.insert_rows(table, rows, query_id=query_id)
        self.batches.append(len(rows))
        if len(self.batches) == self.tears_after:
            data = self._store.table_folder(table) / "data.bin"
            os.truncate(data, data.stat().st_size - 3)
        if when == "after":
            raise error

    def sync(self, table: str) -> None:
        self.synced.append(len(self.batches))
        self._store.sync(table)

    @property
    def prices(self) -> list[int]:
        if not self._store.query("SELECT 1 FROM system.tables WHERE database = 'mexc_data' AND name = 'btc'"):
            return []
        return [int(m.split("|")[0]) for _, _, m in self._store.query(ALL)]


class Inserting:
    """What a run does with its journal, without the socket."""

    def __init__(
        self,
        folder: Path,
        *,
        faults: Sequence[tuple[str, Exception]] = (),
        store: FaultyStore | None = None,
        connect: Callable[[], FaultyStore] | None = None,
        **settings: float,
    ) -> None:
        self.store = store or FaultyStore(open_store(str(folder / "data")), faults)
        self.journal = Journal(
            folder / "journal" / "mexc" / "BTC_USDT",
            this_run("mexc", "BTC_USDT"),
            settings=JournalSettings(durability=Durability(segment_bytes=2000)),
        )
        self.metrics = Metrics("BTC_USDT", "btc", ("ticker", "deal", "depth"), now=0.0)
        self.error: Exception | None = None
        wanted = InsertSettings(**{"table": "btc", "min_free_bytes": 0, **settings})
        self.inserter = Inserter(
            self.journal,
            connect or (lambda: self.store),
            self.metrics,
            target=string_target(Mexc("BTC_USDT", ("deal",)), self.journal, wanted, SYSTEM_CLOCK),
            settings=wanted,
        )
        self.thread = threading.Thread(target=self._run, daemon=True)
        self._closed = False

    def start(self) -> "Inserting":
        self.thread.start()
        return self

    def _run(self) -> None:
        try:
            self.inserter.run()
        except Exception as error:
            self.error = error

    def send(self, *payloads: bytes) -> None:
        self.journal.append(T_MS * 1_000_000, list(payloads))

    def end(self) -> None:
        """Stop in order."""
        self.inserter.close()
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.close()

    def close(self) -> None:
        """Stop at once, and let go of journal and database, as the end of a process does."""
        if self._closed:
            return
        self._closed = True
        self.inserter.close()
        self.inserter.give_up()
        if self.thread.ident:
            self.thread.join(10)
        self.journal.close()
        self.store.close()

    @property
    def total(self):
        return self.metrics.snapshot(now=1.0, backlog=Backlog(), close=False).total
