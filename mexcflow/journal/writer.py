"""Writing a stream's segments: append, sync, seal, begin the next one.

Appending never waits for the disk: a segment that is full is handed to whoever syncs next (the journal's own
thread, at the latest), which forces it down and seals it. So for a moment two segments are open, and the
older one is always forced down first.
"""

import contextlib
import logging
import math
import os
import threading
from collections import deque
from pathlib import Path
from typing import NamedTuple

from mexcflow.clock import SYSTEM_CLOCK, Clock
from mexcflow.errors import DiskFailed, MexcflowError, Permanent
from mexcflow.journal.files import Files, disk_failed
from mexcflow.journal.format import MAX_PAYLOAD_BYTES, Kind, Position, encode
from mexcflow.journal.opening import Opened
from mexcflow.journal.records import Head, Stream, control
from mexcflow.journal.segments import segment_path
from mexcflow.journal.settings import Durability

logger = logging.getLogger(__name__)


class _Full(NamedTuple):
    """A segment that waits for its seal."""

    number: int
    descriptor: int


class Writer:
    """Appends to the newest segment. `lock` guards it and the ledger; `sync` takes it for a moment only.

    Who syncs has a lock of its own for as long as it takes, so when `sync` returns, what was appended before
    is on the disk, whichever thread forced it down. That lock is taken first, `lock` second.
    """

    def __init__(
        self,
        folder: Path,
        stream: Stream,
        opened: Opened,
        *,
        durability: Durability,
        files: Files,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.ledger = opened.ledger
        self.lock = threading.Condition()
        self.segment = opened.next_number - 1
        self.size = 0
        self._received: tuple[int, int] = opened.ledger.received
        self._folder = folder
        self._stream = stream
        self._journal = opened.journal
        self._durability = durability
        self._forced = not math.isinf(durability.fsync_s)
        self._files = files
        self._clock = clock
        self._descriptor = -1
        self._full: deque[_Full] = deque()
        self._head_bytes = 0
        self._new_name = False
        self._sync_lock = threading.Lock()
        self._unsynced_since: float | None = None
        self._begun = clock.monotonic()
        self._failure: MexcflowError | None = None
        self._closing = threading.Event()
        with contextlib.ExitStack() as stack:
            stack.callback(self._close_files)
            with self.lock:
                self._begin_segment()
            self.sync()
            stack.pop_all()
        self._timer = threading.Thread(target=self._keep_time, name="journal", daemon=True)
        self._timer.start()

    @property
    def end(self) -> Position:
        """Where the next record will begin."""
        return Position(self.segment, self.size)

    @property
    def received(self) -> Position:
        """Where the last frame or record of a connection ends; the caller has `lock`."""
        return Position(*self._received)

    @property
    def failure(self) -> MexcflowError | None:
        """What ended writing, if anything did."""
        return self._failure

    def append(self, kind: Kind, at_ns: int, payloads: list[bytes], *, received: bool = False) -> None:
        """Append records; the caller has `lock`. `received`: they are what a power cut must not take.

        With an fsync interval of 0 the caller syncs, once it gave `lock` back. Raises `DiskFailed`; then
        nothing of this is in the journal, and nothing more can be appended.
        """
        if self._failure is not None:
            raise self._failure
        if self.size >= self._durability.segment_bytes and self.size > self._head_bytes:
            self._begin_segment()
        data = encode(kind, at_ns, payloads, self.segment)
        if len(data) > MAX_PAYLOAD_BYTES and max(map(len, payloads)) > MAX_PAYLOAD_BYTES:
            raise Permanent(
                f"journal {self._folder}: a record of {max(map(len, payloads))} bytes is too large"
            )
        try:
            self._files.append(self._descriptor, data, self.size)
        except OSError as error:
            raise self._failed(error) from error
        self.size += len(data)
        if received:
            self._received = self.segment, self.size
            if self._unsynced_since is None:
                self._unsynced_since = self._clock.monotonic()

    def sync(self) -> None:
        """Force everything appended so far down to the disk, and seal what is full or old."""
        with self._sync_lock:
            with self.lock:
                if self._failure is not None:
                    raise self._failure
                if self._is_old():
                    self._seal_by_age()
                full, descriptor = len(self._full), self._descriptor
                new_name, self._new_name, self._unsynced_since = self._new_name, False, None
            try:
                for _ in range(full):
                    self._seal(self._full[0])
                if self._forced:
                    self._files.sync(descriptor)
                    if full or new_name:
                        self._files.sync_folder(self._folder)
            except OSError as error:
                raise self._failed(error) from error
            except DiskFailed as error:
                self._failure = error
                raise

    def close(self) -> None:
        """Force everything down and stop; the segment stays open by name, the next opening seals it."""
        self._closing.set()
        self._timer.join()
        try:
            if self._failure is None and self._descriptor >= 0:
                self.sync()
        finally:
            self._close_files()

    def _close_files(self) -> None:
        while self._full:
            os.close(self._full.popleft().descriptor)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _begin_segment(self) -> None:
        """Go over to a new file; the caller has `lock`. The old one waits for whoever syncs next."""
        number = self.segment + 1
        stream = self._stream
        self.ledger.received = self.received
        head = Head(
            exchange=stream.exchange,
            symbol=stream.symbol,
            journal=self._journal,
            ledger=self.ledger,
            run=stream.run,
            host=stream.host,
        )
        record = control(Kind.SEGMENT, self._clock.time_ns(), head)
        data = encode(record.kind, record.at_ns, [record.payload], number)
        descriptor = self._create(segment_path(self._folder, number, sealed=False), data)
        if self._descriptor >= 0:
            self._full.append(_Full(self.segment, self._descriptor))
        self.segment, self.size, self._descriptor = number, len(data), descriptor
        self._head_bytes, self._new_name = len(data), True
        self._begun = self._clock.monotonic()

    def _create(self, path: Path, data: bytes) -> int:
        try:
            descriptor = self._files.create(path)
        except DiskFailed as error:
            self._failure = error
            raise
        try:
            self._files.append(descriptor, data, 0)
        except OSError as error:  # an empty segment is left; the next opening removes it
            os.close(descriptor)
            raise self._failed(error) from error
        return descriptor

    def _seal(self, segment: _Full) -> None:
        """Close the oldest full segment for ever: force it down, then say so by its name."""
        if self._forced:
            self._files.sync(segment.descriptor)
        self._files.rename(
            segment_path(self._folder, segment.number, sealed=False),
            segment_path(self._folder, segment.number, sealed=True),
        )
        self._full.popleft()
        os.close(segment.descriptor)

    def _seal_by_age(self) -> None:
        if self.size > self._head_bytes:
            self._begin_segment()
        self._begun = self._clock.monotonic()  # one with nothing in it is as good as new

    def _is_old(self) -> bool:
        return self._clock.monotonic() - self._begun >= self._durability.segment_age_s

    def _keep_time(self) -> None:
        """Sync when the oldest unsynced bytes have waited long enough, and seal by age (a thread)."""
        try:
            while not self._clock.wait(self._closing, self._rest_s()) and self._failure is None:
                since = self._unsynced_since
                due = since is not None and self._clock.monotonic() - since >= self._durability.fsync_s
                if due or self._full or self._is_old():
                    self.sync()
        except MexcflowError as error:
            self._failure = error  # the next append raises it
        except BaseException as error:  # a thread's outermost frame
            logger.exception("the journal's thread failed")
            self._failure = MexcflowError(f"internal error in the journal's thread: {error!r}")

    def _rest_s(self) -> float:
        """Return how long nothing needs to be done: at most a second."""
        interval_s, since = self._durability.fsync_s, self._unsynced_since
        if interval_s == 0:
            return 1.0
        if since is None:
            return min(1.0, max(interval_s, 0.01))
        return min(1.0, max(0.0, since + interval_s - self._clock.monotonic()))

    def _failed(self, error: OSError) -> DiskFailed:
        self._failure = disk_failed(self._folder, error)
        return self._failure
