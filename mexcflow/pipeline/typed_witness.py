"""The witness of one connection of an exchange with typed tables: it decodes, and knows what was listened to.

What `witness.py` is for a string table. Coverage is kept a symbol; an outage is one of the channels that this
connection carries. A symbol that never brought anything has no coverage: perhaps there is none of that name.
"""

from collections.abc import Sequence
from typing import Any

from mexcflow.clock import Clock
from mexcflow.exchanges import TypedExchange
from mexcflow.journal import Journal, Kind, Record, read_connected, read_disconnected
from mexcflow.model import Frame
from mexcflow.pipeline.assemble import Assembler
from mexcflow.pipeline.coverage import Coverage
from mexcflow.pipeline.typed_decode import Heard, TypedBatch, decode_typed
from mexcflow.pipeline.witness import LIVE_EVERY_S
from mexcflow.store.coverage import Interval


class TypedWitness:
    """What the journal's acknowledged part came to, and goes on from there.

    `channels` has each symbol's channels on this connection.
    """

    def __init__(
        self,
        exchange: TypedExchange,
        channels: dict[str, tuple[str, ...]],
        journal: Journal,
        clock: Clock,
        *,
        book_interval_us: int = 0,
    ) -> None:
        state = journal.state
        self._exchange = exchange
        self._channels = channels
        self._assembler = Assembler(exchange, book_interval_us=book_interval_us, state=state.get("assembled"))
        self._coverage = {
            symbol: self._new_coverage(symbol, kept) for symbol, kept in state.get("coverage", {}).items()
        }
        self._connection: dict[str, Any] = state.get("connection", {})
        self._clock = clock
        self._to_write: list[Interval] = []
        self._last_live = clock.monotonic()

    def _new_coverage(self, symbol: str, state: dict[str, Any] | None = None) -> Coverage:
        scope = self._channels.get(symbol, ("",))
        return Coverage(self._exchange.name, symbol, state, scope=scope)

    def decode(self, frames: Sequence[Frame]) -> TypedBatch:
        """Return what these frames become."""
        return decode_typed(self._exchange, frames, self._assembler)

    def control(self, record: Record) -> None:
        """Take in that a connection began or ended."""
        if record.kind is Kind.CONNECTED:
            began = read_connected(record.payload)
            self._assembler.connected(record.at_ns, handover=began.handover)
            self._connection = {"at_ns": record.at_ns, "run": began.run, "host": began.host}
            if began.handover:
                return
            for coverage in self._coverage.values():
                self._to_write += coverage.connected(record.at_ns, run=began.run, host=began.host)
        else:
            ended = read_disconnected(record.payload)
            self._connection = {}
            for coverage in self._coverage.values():
                self._to_write += coverage.disconnected(
                    record.at_ns, reason=ended.reason, since_ns=ended.since_ns
                )

    def stored(self, batch: TypedBatch) -> None:
        """Count a batch that the tables have."""
        for symbol in batch.heard:
            if symbol not in self._coverage:
                coverage = self._coverage[symbol] = self._new_coverage(symbol)
                if began := self._connection:
                    self._to_write += coverage.connected(began["at_ns"], run=began["run"], host=began["host"])
        # a line that stands proves all of its symbols alive, also those that have nothing to say
        for symbol, coverage in self._coverage.items():
            of_symbol = batch.heard.get(symbol) or Heard()
            of_symbol.last_ns = batch.last_ns
            self._to_write += coverage.stored(of_symbol)

    def to_write(self, *, force: bool = False) -> list[Interval]:
        """Return what is to be written now; live intervals with it, twice a minute or when forced."""
        now = self._clock.monotonic()
        if force or now - self._last_live >= LIVE_EVERY_S:
            self._last_live = now
            for coverage in self._coverage.values():
                self._to_write += coverage.live()
        return self._to_write

    def written(self) -> None:
        """Forget what `to_write` returned."""
        self._to_write = []

    def checkpoint(self) -> dict[str, Any]:
        """Return what a later run goes on from."""
        return {
            "coverage": {symbol: one.checkpoint() for symbol, one in self._coverage.items()},
            "connection": self._connection,
            "assembled": self._assembler.checkpoint(),
        }
