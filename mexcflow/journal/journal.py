"""The journal of one stream: what stands between receive and decode, on the disk.

The receive thread appends what it read; the insert thread takes it back from the files, in order, names
each batch before its INSERT, and acknowledges it once the table has it. So the backlog costs no memory,
and after a crash the same path goes on where the acknowledgement ended. `format.py` says what is written;
`opening.py`, what happens to what an earlier run left.

One thread receives and one reads; any may append what comes beside the connection, and ask the properties.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from mexcflow.clock import SYSTEM_CLOCK, Clock
from mexcflow.journal.files import Files
from mexcflow.journal.format import Kind, Position
from mexcflow.journal.lock import Lock
from mexcflow.journal.opening import discard, open_folder
from mexcflow.journal.reader import Reader, Taken, find_batch
from mexcflow.journal.records import Acknowledged, BatchRecord, Connected, Disconnected, Stream, control
from mexcflow.journal.retention import Tidier
from mexcflow.journal.settings import JournalSettings
from mexcflow.journal.writer import Writer

logger = logging.getLogger(__name__)

ENDED_WITHOUT_NOTICE = "ended without notice (killed, power cut, or full disk)"


class Journal:
    """Opens (and makes) a stream's folder for writing; raises `StreamInUse`, `DiskFailed`."""

    def __init__(
        self,
        folder: Path,
        stream: Stream,
        *,
        settings: JournalSettings | None = None,
        files: Files | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.folder = folder
        self.stream = stream
        self._settings = settings or JournalSettings()
        self._files = files or Files()
        self._clock = clock
        self._always_sync = self._settings.durability.fsync_s == 0
        self._lock = Lock(folder, f"PID {os.getpid()} on {stream.host}, run {stream.run}", self._files)
        with contextlib.ExitStack() as stack:
            stack.callback(self._lock.release)
            self._open()
            stack.pop_all()

    def _open(self) -> None:
        opened = open_folder(self.folder, self._files)
        self.id = opened.journal
        self.new = opened.new
        self.torn_bytes = opened.torn_bytes
        self.corrupt_bytes = opened.corrupt_bytes
        self._ledger = ledger = opened.ledger
        self.recovered_frames = self.backlog
        settings = self._settings
        self._tidier = Tidier(self.folder, settings.retention, files=self._files, clock=self._clock)
        self._taken: Taken | None = None
        self._wanted = 0
        self._closed = False
        self._unread = max(0, ledger.backlog)
        self._read_to = ledger.end
        self._writer = Writer(
            self.folder,
            self.stream,
            opened,
            durability=settings.durability,
            files=self._files,
            clock=self._clock,
        )
        self._changed = self._writer.lock
        self._reader = Reader(self.folder, ledger.end, self._writer, self._files)
        with contextlib.ExitStack() as stack:
            stack.callback(self._writer.close)
            self._waiting_since_ns = self._oldest_ns()
            if ledger.connected:
                ended = Disconnected(reason=ENDED_WITHOUT_NOTICE, since_ns=ledger.last_ns)
                self._control(Kind.DISCONNECTED, ledger.last_ns, ended)
            stack.pop_all()

    def _oldest_ns(self) -> int:
        """Return the time of the oldest record that an earlier run left; 0 when there is none."""
        first = None if self.drained else self._reader.take(1, 1)
        self._reader.seek(self._ledger.end)
        return first.first_ns if first else 0

    # ---- the receive thread

    def append(self, received_ns: int, payloads: list[bytes], *, beside: bool = False) -> None:
        """Keep the messages of one read; when this returns, a SIGKILL does not take them any more.

        `beside`: they came by another way, and in any thread. Without a connection they are not kept.
        """
        with self._changed:
            if not payloads or (beside and not self._ledger.connected):
                return
            self._writer.append(Kind.FRAME, received_ns, payloads, received=True)
            self._ledger.frames += len(payloads)
            self._ledger.last_ns = received_ns
            if not self._unread:
                self._waiting_since_ns = received_ns
            self._unread += len(payloads)
            # waking the reader costs a context switch: only when it waits for this many
            if self._wanted and self._unread >= self._wanted:
                self._wanted = 0
                self._changed.notify_all()
        if self._always_sync:
            self._writer.sync()

    def connected(self, at_ns: int, *, channels: Sequence[str], url: str, handover: bool = False) -> None:
        """Write down that the connection stands."""
        whose = Connected(*self.stream[2:], list(channels), url, handover)
        self._control(Kind.CONNECTED, at_ns, whose)

    def disconnected(self, at_ns: int, *, reason: str, since_ns: int) -> None:
        """Write down that it is gone; nothing, when it was not there."""
        if self._ledger.connected:
            self._control(Kind.DISCONNECTED, at_ns, Disconnected(reason=reason, since_ns=since_ns))

    def _control(self, kind: Kind, at_ns: int, content: Connected | Disconnected) -> None:
        record = control(kind, at_ns, content)
        with self._changed:
            self._writer.append(kind, at_ns, [record.payload], received=True)
            self._ledger.apply(record)
            if not self._unread:
                self._waiting_since_ns = at_ns
            self._unread += 1
        if self._always_sync:
            self._writer.sync()

    # ---- the insert thread

    def wait(self, at_least: int, seconds: float) -> None:
        """Return once so many frames wait, after that time, or at `close`; raises what ended writing."""
        with self._changed:
            if not self._closed and self._unread < at_least:
                self._wanted = at_least
                self._changed.wait(seconds)
                self._wanted = 0
        if self._writer.failure is not None:
            raise self._writer.failure

    def take(self, at_most: int) -> Taken | None:
        """Return what is next, without forgetting it: the same again until it is acknowledged."""
        if self._taken is None:
            self._read(max(1, at_most), self._settings.taken_bytes)
        return self._taken

    def take_pending(self) -> Taken | None:
        """Return the frames of the batch that was in doubt when the journal was opened."""
        pending = self._ledger.pending
        if pending is not None and self._taken is None:
            self._read(sys.maxsize, sys.maxsize, until=pending.end)
        return self._taken

    def _read(self, at_most: int, at_most_bytes: int, until: Position | None = None) -> None:
        taken = self._reader.take(at_most, at_most_bytes, until=until)
        with self._changed:
            self._taken = taken
            if taken is not None:
                self._unread = max(0, self._unread - len(taken.frames) - (taken.control is not None))
                self._waiting_since_ns = taken.last_ns
            self._read_to = self._reader.position
            if self._read_to >= self._writer.received:
                self._unread = 0
            if self.drained:
                # nothing is left: what was counted and is not found, damaged records, is written off
                ledger = self._ledger
                ledger.acknowledged_frames, ledger.acknowledged_controls = ledger.frames, ledger.controls

    @property
    def pending(self) -> BatchRecord | None:
        """The batch whose fate is in doubt, named and not acknowledged."""
        return self._ledger.pending

    @property
    def state(self) -> dict[str, Any]:
        """What the newest acknowledgement was given to keep."""
        return self._ledger.state

    def begin(self, taken: Taken, *, table: str, uuid: str, rows_before: int, rows: int) -> BatchRecord:
        """Name the batch of what was taken, and have the record on the disk before its INSERT."""
        stream = self.stream
        number = self._ledger.batches + 1
        batch = BatchRecord(
            name=f"{stream.exchange}/{stream.symbol}/{self.id}/{stream.run}/{number}",
            number=number,
            table=table,
            uuid=uuid,
            rows_before=rows_before,
            rows=rows,
            frames=len(taken.frames),
            start=taken.start,
            end=taken.end,
        )
        record = control(Kind.BATCH, self._clock.time_ns(), batch)
        with self._changed:
            self._writer.append(record.kind, record.at_ns, [record.payload])
            self._ledger.apply(record)
        self._writer.sync()
        return batch

    def acknowledge(self, taken: Taken, state: dict[str, Any]) -> None:
        """Write down that the table has what was taken: it is not taken again."""
        ledger = self._ledger
        with self._changed:
            done = Acknowledged(
                end=taken.end,
                frames=ledger.acknowledged_frames + len(taken.frames),
                controls=ledger.acknowledged_controls + (taken.control is not None),
                name=ledger.pending.name if ledger.pending else "",
                state=state,
            )
            self._acknowledged(done)

    def rewind(self, uuid: str, rows: int) -> bool:
        """Go back to the batch before which that table had so many rows; False when it is not kept.

        The state is then that of the acknowledgement before it. This is written down as well: what comes
        behind that batch is not acknowledged any more, also after a crash.
        """
        found = find_batch(self.folder, uuid, rows)
        if found is None:
            return False
        batch, before = found
        with self._changed:
            self._acknowledged(msgspec.structs.replace(before, end=batch.start, name=""))
            self._unread = max(0, self._ledger.backlog)
            self._read_to = batch.start
            self._reader.seek(batch.start)
        return True

    def _acknowledged(self, done: Acknowledged) -> None:
        record = control(Kind.ACKNOWLEDGED, self._clock.time_ns(), done)
        self._writer.append(record.kind, record.at_ns, [record.payload])
        self._ledger.apply(record)
        self._taken = None

    def keep(self) -> None:
        """Leave the folder at `close`, also without any batch: what was written elsewhere needs its state."""
        self.new = False

    def tidy(self) -> None:
        """Delete or archive what is acknowledged and no longer needed; does nothing most of the time."""
        self._tidier.tidy(self._ledger.end.segment, self._writer.sync)

    def sync(self) -> None:
        """Force everything appended so far down to the disk."""
        self._writer.sync()

    # ---- any thread

    @property
    def backlog(self) -> int:
        """How many frames are not yet acknowledged."""
        return max(0, self._ledger.backlog_frames)

    @property
    def drained(self) -> bool:
        """Whether everything that was appended is acknowledged."""
        with self._changed:
            return self._taken is None and self._read_to >= self._writer.received

    @property
    def backlog_age_s(self) -> float:
        """How long the oldest frame has waited that is not yet acknowledged."""
        taken = self._taken
        oldest_ns = taken.frames[0].received_ns if taken and taken.frames else self._waiting_since_ns
        return max(0.0, (self._clock.time_ns() - oldest_ns) / 1e9) if self.backlog and oldest_ns else 0.0

    def finish(self) -> None:
        """Nothing more will be appended by the receive thread: end every wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def close(self) -> None:
        """Force everything down, and let go of the folder; a folder without any batch ever is removed."""
        if self._lock.released:
            return
        with contextlib.ExitStack() as stack:
            stack.callback(self._lock.release)
            stack.callback(self._reader.close)
            self._writer.close()
            if self.new and not self._ledger.batches and not self.backlog:
                discard(self.folder, self._files)
