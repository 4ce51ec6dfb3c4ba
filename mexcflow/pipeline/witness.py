"""The witness: follows the journal's order and knows what was listened to, and what came twice.

It wires the two state machines, `coverage.py` and `sequence.py`, to the insert thread: what they want
written, what of them must survive a crash, and that a live interval grows in the table while it lasts.
"""

from collections.abc import Sequence
from typing import Any

from mexcflow.clock import Clock
from mexcflow.exchanges import Exchange
from mexcflow.journal import Journal, Kind, Record, read_connected, read_disconnected
from mexcflow.model import Frame
from mexcflow.pipeline.coverage import Coverage
from mexcflow.pipeline.decode import Batch, decode
from mexcflow.pipeline.sequence import Watch
from mexcflow.store.coverage import Interval

LIVE_EVERY_S = 30.0


class Witness:
    """What the journal's acknowledged part came to, and goes on from there."""

    def __init__(self, exchange: Exchange, journal: Journal, clock: Clock) -> None:
        state = journal.state
        self._exchange = exchange
        self._coverage = Coverage(exchange.name, exchange.symbol, state.get("coverage"))
        self.watch = Watch(state.get("watch"))
        self._clock = clock
        self._to_write: list[Interval] = []
        self._last_live = clock.monotonic()

    def decode(self, frames: Sequence[Frame]) -> Batch:
        """Return what these frames become."""
        return decode(self._exchange, frames, self.watch)

    def control(self, record: Record) -> None:
        """Take in that a connection began or ended."""
        if record.kind is Kind.CONNECTED:
            began = read_connected(record.payload)
            self.watch = Watch()
            self._to_write += self._coverage.connected(record.at_ns, run=began.run, host=began.host)
        else:
            ended = read_disconnected(record.payload)
            self._to_write += self._coverage.disconnected(
                record.at_ns, reason=ended.reason, since_ns=ended.since_ns
            )

    def stored(self, batch: Batch) -> None:
        """Count a batch that the table has."""
        self._to_write += self._coverage.stored(batch)

    def to_write(self, *, force: bool = False) -> list[Interval]:
        """Return what is to be written now; live intervals with it, twice a minute or when forced."""
        now = self._clock.monotonic()
        if force or now - self._last_live >= LIVE_EVERY_S:
            self._last_live = now
            self._to_write += self._coverage.live()
        return self._to_write

    def written(self) -> None:
        """Forget what `to_write` returned."""
        self._to_write = []

    def checkpoint(self) -> dict[str, Any]:
        """Return what a later run goes on from."""
        return {"coverage": self._coverage.checkpoint(), "watch": self.watch.checkpoint()}
