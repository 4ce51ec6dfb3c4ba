"""The records that are no frames, as types, and the ledger: what they say when taken together."""

import socket
import uuid
from typing import Any, NamedTuple

import msgspec

from mexcflow.journal.format import FORMAT, Kind, Position, Record


class Stream(NamedTuple):
    """Whose journal it is, and who writes it: `run` is the id of this run, `host` the machine's name."""

    exchange: str
    symbol: str
    run: str = ""
    host: str = ""


def this_run(exchange: str, symbol: str) -> Stream:
    """Return a stream with a new run id and this machine's name."""
    return Stream(exchange, symbol, uuid.uuid4().hex[:12], socket.gethostname())


class Connected(msgspec.Struct, frozen=True):
    """The connection stands. `url` holds no password. `handover`: it took over from one that still stood."""

    run: str
    host: str
    channels: list[str]
    url: str
    handover: bool = False


class Disconnected(msgspec.Struct, frozen=True, kw_only=True):
    """The connection is gone; since `since_ns` nothing proved the feed alive."""

    reason: str
    since_ns: int


class BatchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A batch, written before its INSERT: which frames, and what the table had before it."""

    name: str
    number: int
    table: str
    uuid: str
    rows_before: int
    rows: int
    frames: int
    start: Position
    end: Position


class Acknowledged(msgspec.Struct, frozen=True, kw_only=True):
    """Everything before `end` is in the table; `state` is what the insert thread wants to find again."""

    end: Position
    frames: int
    controls: int
    name: str = ""
    state: dict[str, Any] = {}


class Ledger(msgspec.Struct, kw_only=True):
    """What the records say when taken together, kept up to date and written into each segment's head.

    frames, controls: written so far; controls are records of kinds connected and disconnected.
    end, acknowledged_frames, acknowledged_controls, state: of the newest acknowledgement.
    batches: the number of the newest batch. pending: that batch, until it is acknowledged.
    connected: the connection stood at the end.
    last_ns: time of the last record that is no head, as the clock then was.
    received: where the last frame or record of a connection ends.
    After damage `frames` may count some that are gone; it is never less than what was acknowledged.
    """

    frames: int = 0
    controls: int = 0
    end: Position = Position(1, 0)
    acknowledged_frames: int = 0
    acknowledged_controls: int = 0
    state: dict[str, Any] = {}
    batches: int = 0
    pending: BatchRecord | None = None
    connected: bool = False
    received: Position = Position(1, 0)
    last_ns: int = 0

    def apply(self, record: Record) -> None:
        """Take in a record that is no frame; a segment's head says nothing new."""
        if record.kind is Kind.SEGMENT:
            return
        self.last_ns = record.at_ns
        if record.kind in (Kind.CONNECTED, Kind.DISCONNECTED):
            self.controls += 1
            self.connected = record.kind is Kind.CONNECTED
        elif record.kind is Kind.BATCH:
            self.pending = read_batch(record.payload)
            self.batches = self.pending.number
            # whatever is before it is acknowledged, also when the record that says so is damaged
            self.end = self.pending.start
        elif record.kind is Kind.ACKNOWLEDGED:
            done = read_acknowledged(record.payload)
            self.end, self.state, self.pending = done.end, done.state, None
            self.acknowledged_frames, self.acknowledged_controls = done.frames, done.controls
            self.frames, self.controls = max(self.frames, done.frames), max(self.controls, done.controls)

    @property
    def backlog_frames(self) -> int:
        """Frames that no table has yet."""
        return self.frames - self.acknowledged_frames

    @property
    def backlog(self) -> int:
        """Frames and records of connections that are not yet acknowledged."""
        return self.backlog_frames + self.controls - self.acknowledged_controls


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The first record of a segment."""

    exchange: str
    symbol: str
    journal: str
    ledger: Ledger
    run: str = ""
    host: str = ""
    format: int = FORMAT


read_batch = msgspec.json.Decoder(BatchRecord).decode
read_acknowledged = msgspec.json.Decoder(Acknowledged).decode
read_connected = msgspec.json.Decoder(Connected).decode
read_disconnected = msgspec.json.Decoder(Disconnected).decode
read_head = msgspec.json.Decoder(Head).decode
_write = msgspec.json.Encoder().encode


def control(kind: Kind, at_ns: int, content: msgspec.Struct) -> Record:
    """Return a record with JSON in it."""
    return Record(kind, at_ns, _write(content))
