"""Leftover: frames that an earlier run left in a journal which no run of today opens.

Who records 'BTCUSDT' today and recorded 'BTCUSDT,ETHUSDT' yesterday has another journal today, and so has who
leaves out a channel. What that run had received and not inserted, because it was killed or the database was
away, is inserted by the next run of the same exchange, beside its own. A journal that somebody holds is his.
"""

import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mexcflow.errors import MexcflowError, StoreUnavailable, StreamInUse
from mexcflow.exchanges import TYPED
from mexcflow.journal import Kind, holder, read_stream, waiting_frames
from mexcflow.pipeline.feed import Feed, Maker
from mexcflow.pipeline.insert import Inserter
from mexcflow.pipeline.instruments import contract_sizes
from mexcflow.pipeline.parts import open_journal
from mexcflow.pipeline.plan import plan
from mexcflow.store.contracts import read_contracts

_AGAIN_S = 5.0

logger = logging.getLogger(__name__)


class _Head(msgspec.Struct):
    symbol: str


class Leftovers:
    """Inserts what lies in the journals beside those of these feeds; `run` in a thread of its own."""

    def __init__(self, maker: Maker, feeds: list[Feed]) -> None:
        self._maker = maker
        self._own = {feed.journal.folder.absolute() for feed in feeds}
        self._stop = threading.Event()
        self._inserter: Inserter | None = None

    def stop(self) -> None:
        """End `run` soon; what is not inserted by then stays for the next run."""
        self._stop.set()
        inserter = self._inserter
        if inserter is not None:
            inserter.give_up()

    def run(self) -> None:
        """Insert all of it; what cannot be read is told, and stays."""
        for folder in self._folders():
            while not self._stop.is_set() and self._insert_or_wait(folder):
                self._maker.clock.wait(self._stop, _AGAIN_S)

    def _insert_or_wait(self, folder: Path) -> bool:
        """Insert one journal's frames; True when the database is away, and it is to be tried again."""
        try:
            if holder(folder) is None and waiting_frames(folder):
                self._insert(folder)
        except StreamInUse:  # somebody began to record into it just now
            return False
        except StoreUnavailable:
            return True
        except MexcflowError as error:
            logger.error("%s: what an earlier run left is not inserted: %s", folder, error)
        return False

    def _folders(self) -> Iterator[Path]:
        for path in sorted(self._maker.settings.folder.parent.glob("*/*/lock")):
            if path.parent.absolute() not in self._own:
                yield path.parent

    def _insert(self, folder: Path) -> None:
        maker = self._maker
        first = next(record for record in read_stream(folder) if record.kind is Kind.SEGMENT)
        symbol = msgspec.json.decode(first.payload, type=_Head).symbol
        kind = TYPED[maker.stream.exchange]
        symbols = tuple(symbol.split(","))
        known = contract_sizes(read_contracts(maker.connect(), kind.name, symbols))
        sizes = {**known, **maker.wanted.contract_sizes}
        wanted = msgspec.structs.replace(
            maker.wanted, symbols=symbols, channels=kind.channels, contract_sizes=sizes
        )
        exchange = kind(wanted)
        channels = {one.name: one.channels for one in plan(exchange)}.get(folder.name, {})
        journal = open_journal(
            maker.settings, folder, maker.stream._replace(symbol=symbol), clock=maker.clock
        )
        with contextlib.closing(journal):
            logger.info("%s: %d frames of an earlier run are inserted now", folder, journal.backlog)
            self._inserter = inserter = maker.inserter(
                journal, maker.typed_target(exchange, channels, journal)
            )
            if self._stop.is_set():
                return
            inserter.close()  # nothing more will come: it returns when the journal is empty
            inserter.run()
