"""The journal against a plain list: whatever is done to it, it gives back what was appended, in order, once.

The model is a list of what was appended, and how much of it is acknowledged. A crash is a copy of the folder
as it is at that moment, with a torn tail of any length; damage is any byte of any record.

It plays the same 40 plays each time, so that a change alone can make it fail. JOURNAL_PLAYS=1000, with
--timeout 0, plays as many others; what that has found is what the list did not know of a journal that is
damaged several times.
"""

import logging
import math
import os
import shutil
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mexcflow.journal import Journal, Kind, Position, Record, read_stream
from mexcflow.journal.format import MARKER, encode
from mexcflow.journal.journal import ENDED_WITHOUT_NOTICE
from mexcflow.journal.segments import list_segments
from tests import journals
from tests.journals import (
    STREAM,
    HeldClock,
    UnsyncedFiles,
    corrupt_files,
    path_of,
    positions,
    read_json,
    size_of,
)

CONTROLS = (Kind.CONNECTED, Kind.DISCONNECTED)
ELSEWHERE = 99_999_999
"""Records of another segment, e.g. one whose place on the disk was used again."""

payload = st.one_of(
    st.binary(max_size=40),
    st.just(b""),
    st.builds(lambda n: MARKER * n, st.integers(1, 20)),
    st.builds(
        lambda one, kind: encode(kind, 5, [one], ELSEWHERE), st.binary(max_size=9), st.sampled_from(Kind)
    ),
    st.builds(lambda n: bytes(range(256)) * n, st.integers(1, 40)),
    st.builds(lambda: b"x" * (1 << 20)),
)


@dataclass
class Found:
    """What the records of a folder say when every one of them is read."""

    end: Position = field(default_factory=lambda: Position(1, 0))
    state: dict[str, Any] = field(default_factory=dict)
    pending: dict[str, Any] | None = None
    connected: bool = False
    last_ns: int = 0


def read_all(folder: Path) -> Found:
    """Go through every record that is kept, by the description of the format."""
    found = Found()
    for _, record in positions(folder):
        content = {} if record.kind is Kind.FRAME else read_json(record)
        if record.kind is Kind.SEGMENT:
            ledger = content["ledger"]
            found = Found(
                Position(*ledger["end"]),
                ledger["state"],
                ledger["pending"],
                ledger["connected"],
                ledger["last_ns"],
            )
            continue
        found.last_ns = record.at_ns
        if record.kind in CONTROLS:
            found.connected = record.kind is Kind.CONNECTED
        elif record.kind is Kind.BATCH:
            # a batch begins where all before it is acknowledged, also when the record that says so is damaged
            found.pending, found.end = content, Position(*content["start"])
        elif record.kind is Kind.ACKNOWLEDGED:
            found.end, found.state, found.pending = Position(*content["end"]), content["state"], None
    return found


class JournalAgainstAList(RuleBasedStateMachine):
    @initialize(
        segment_bytes=st.sampled_from([1, 300, 1000, 1 << 24]),
        taken_bytes=st.sampled_from([1, 500, 1 << 25]),
        fsync_s=st.sampled_from([0, 1, math.inf]),
        archive=st.booleans(),
    )
    def begin_journal(self, segment_bytes: int, taken_bytes: int, fsync_s: float, archive: bool) -> None:
        logging.disable(logging.ERROR)  # all the damage is reported, again and again
        self.base = Path(tempfile.mkdtemp(prefix="journal-"))
        self.lives = 0
        self.folder = self.base / "0" / "mexc" / "BTC_USDT"
        self.archive = archive
        self.settings = journals.settings(
            segment_bytes=segment_bytes,
            taken_bytes=taken_bytes,
            fsync_s=fsync_s,
            tail_s=0,
            tail_bytes=0,
            keep_raw_s=math.inf if archive else 0,
        )
        self.taken_bytes = taken_bytes
        self.clock = HeldClock()
        self.damaged = defaultdict[Position, list[bytes]](list)  # a number may be used again
        self.reset()
        self.journal = self.open()

    def reset(self) -> None:
        self.items: list[Record] = []  # what was appended, but for what is damaged
        self.acknowledged = 0  # how many of them
        self.state: dict[str, Any] = {}
        self.pending: tuple[int, int] | None = None  # items from, to
        self.connected = False
        self.taken: Any = None
        self.rows = 0
        self.batches = 0
        self.exact = True  # no damage since everything was read
        self.must_be_set_aside: set[Position] = set()

    def open(self) -> Journal:
        journal = Journal(
            self.folder, STREAM, settings=self.settings, clock=self.clock, files=UnsyncedFiles()
        )
        self.taken = None
        return journal

    def teardown(self) -> None:
        logging.disable(logging.NOTSET)
        if hasattr(self, "journal"):
            self.journal.close()
            shutil.rmtree(self.base)

    # ---- the receive thread

    @rule(payloads=st.lists(payload, max_size=5), step_ns=st.integers(-(10**12), 10**12))
    def append(self, payloads: list[bytes], step_ns: int) -> None:
        self.clock.wall_ns += step_ns  # the wall clock may be set back
        at_ns = self.clock.time_ns()
        self.journal.append(at_ns, payloads)
        self.items += [Record(Kind.FRAME, at_ns, one) for one in payloads]

    @rule()
    def connect(self) -> None:
        at_ns = self.clock.time_ns()
        self.journal.connected(at_ns, channels=("deal",), url="wss://x")
        self.connected = True
        self.items.append(Record(Kind.CONNECTED, at_ns, b""))

    @rule()
    def disconnect(self) -> None:
        at_ns = self.clock.time_ns()
        self.journal.disconnected(at_ns, reason="stopped", since_ns=at_ns)
        if self.connected:
            self.items.append(Record(Kind.DISCONNECTED, at_ns, b""))
        self.connected = False

    # ---- the insert thread

    @rule(at_most=st.integers(1, 12))
    def take(self, at_most: int) -> None:
        before = self.taken
        taken = self.journal.take(at_most)
        if before is not None:
            assert taken is before
            return
        self.taken = taken
        rest = self.items[self.acknowledged :]
        if not rest:
            assert taken is None
            assert self.journal.drained
            assert self.journal.backlog == 0
            self.exact = True
            assert self.must_be_set_aside <= self.set_aside()
        elif rest[0].kind in CONTROLS:
            assert taken.control is not None
            assert (taken.control.kind, taken.control.at_ns, taken.frames) == (
                rest[0].kind,
                rest[0].at_ns,
                [],
            )
        else:
            run = next((n for n, one in enumerate(rest) if one.kind in CONTROLS), len(rest))
            self.frames_are(taken.frames, rest[: len(taken.frames)])
            assert 0 < len(taken.frames) <= min(run, at_most)
            whole = self.exact and not self.must_be_set_aside  # a damaged record of any kind ends a batch
            if not taken.full or (self.taken_bytes == 1 << 25 and whole):
                assert len(taken.frames) == min(run, at_most)

    def frames_are(self, frames: list[Any], items: list[Record]) -> None:
        assert [(Kind.FRAME, one.received_ns, one.payload) for one in frames] == [
            (one.kind, one.at_ns, one.payload) for one in items
        ]

    @precondition(lambda self: self.taken and self.taken.frames and not self.pending)
    @rule()
    def begin(self) -> None:
        self.rows += 1
        batch = self.journal.begin(self.taken, table="btc", uuid="u1", rows_before=self.rows, rows=7)
        self.batches += 1
        assert batch.name.endswith(f"/{batch.number}")
        self.pending = self.acknowledged, self.acknowledged + len(self.taken.frames)

    @precondition(lambda self: self.taken)
    @rule(number=st.integers())
    def acknowledge(self, number: int) -> None:
        self.state = {"number": str(number)}
        self.journal.acknowledge(self.taken, self.state)
        self.acknowledged += len(self.taken.frames) + (self.taken.control is not None)
        self.taken, self.pending = None, None

    @rule(counts=st.lists(st.integers(1, 4), min_size=1, max_size=4), at_most=st.integers(1, 12))
    def work(self, counts: list[int], at_most: int) -> None:
        """What the threads do all day; left to chance, the steps seldom come in this order."""
        for count in counts:
            self.append([b"%d" % (len(self.items) + n) for n in range(count)], 1)
            if self.pending and not self.taken:
                self.take_what_is_in_doubt()
            self.take(at_most)
            if self.taken and self.taken.frames and not self.pending:
                self.begin()
            if self.taken:
                self.acknowledge(self.rows)

    @precondition(lambda self: self.pending and not self.taken)
    @rule()
    def take_what_is_in_doubt(self) -> None:
        taken = self.taken = self.journal.take_pending()
        start, end = self.pending
        assert start == self.acknowledged
        if start == end:
            assert taken is None
        else:
            self.frames_are(taken.frames, self.items[start:end])

    @precondition(lambda self: self.batches)
    @rule(back=st.integers(0, 5))
    def rewind(self, back: int) -> None:
        rows = self.rows - back
        expected = self.kept_batch(rows)
        if not self.journal.rewind("u1", rows):
            assert expected is None
            return
        assert expected is not None
        start, self.state = expected
        self.taken = self.pending = None
        self.acknowledged = self.index_of(start)
        self.must_be_set_aside |= {one for one in self.damaged if one >= start}
        if self.damaged:  # what is counted again may not be found again
            self.exact = False
        assert not self.journal.rewind("another table", rows)

    def kept_batch(self, rows: int) -> tuple[Position, dict[str, Any]] | None:
        """Where the newest batch with so many rows before it begins, and the state before it."""
        segments = {segment.number for segment in list_segments(self.folder)}
        found, state = None, None
        for position, record in positions(self.folder):
            content = {} if record.kind is Kind.FRAME else read_json(record)
            if record.kind is Kind.SEGMENT:
                state = content["ledger"]["state"] if position.segment in segments else state
            elif record.kind is Kind.ACKNOWLEDGED:
                state = content["state"] if position.segment in segments else state
            elif record.kind is Kind.BATCH and content["rows_before"] == rows:
                found = (position.segment, Position(*content["start"]), state)
        if found is None or found[2] is None or not {found[0], found[1].segment} <= segments:
            return None
        return found[1], found[2]

    def index_of(self, position: Position) -> int:
        """How many items come before a position."""
        behind = [
            at
            for at, record in positions(self.folder)
            if record.kind in (Kind.FRAME, *CONTROLS) and at >= position
        ]
        return len(self.items) - len(behind)

    @rule()
    def tidy(self) -> None:
        self.clock.advance(10)
        self.journal.sync()
        self.journal.tidy()
        end = read_all(self.folder).end
        sealed = [segment.number for segment in list_segments(self.folder) if segment.sealed]
        assert not [number for number in sealed if number < end.segment]

    @rule()
    def grow_old(self) -> None:
        newest = list_segments(self.folder)[-1]
        empty = len([at for at, _ in positions(self.folder) if at.segment == newest.number]) == 1
        self.clock.advance(601)
        self.journal.sync()
        assert list_segments(self.folder)[-1].number == newest.number + (not empty)

    # ---- what ends a run

    @rule()
    def reopen(self) -> None:
        self.journal.close()
        self.opened_again()

    @rule(payloads=st.lists(payload, max_size=3), data=st.data())
    def crash(self, payloads: list[bytes], data: st.DataObject) -> None:
        self.lives += 1
        self.folder = journals.crash(self.journal, self.base / str(self.lives) / "mexc" / "BTC_USDT")
        newest = list_segments(self.folder)[-1]
        at_ns = self.clock.time_ns()
        records = [encode(Kind.FRAME, at_ns, [one], newest.number) for one in payloads]
        whole = b"".join(records)
        cut = data.draw(st.integers(0, len(whole)), label="bytes of the last append that were written")
        with newest.path.open("ab") as file:
            file.write(whole[:cut])
        for one, record in zip(payloads, records, strict=True):
            if cut >= len(record):  # nothing says that it did not arrive
                self.items.append(Record(Kind.FRAME, at_ns, one))
            elif cut > 0:
                at = Position(newest.number, newest.path.stat().st_size - cut)
                self.damaged[at].append(record[:cut])
            cut = max(0, cut - len(record))
        self.opened_again()

    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        """The run ends in order, then bytes of some records change on the disk."""
        self.journal.close()
        segments = {segment.number for segment in list_segments(self.folder)}
        there = (
            [(at, record) for at, record in positions(self.folder) if at.segment in segments]
            if segments
            else []
        )
        wanted = data.draw(st.lists(st.integers(0, 10**6), max_size=4), label="records") if there else []
        lost = sorted({number % len(there) for number in wanted})
        end = read_all(self.folder).end if lost else None
        behind = [n for n, (_, record) in enumerate(there) if record.kind in (Kind.FRAME, *CONTROLS)]
        for number in reversed(lost):
            at, record = there[number]
            path = path_of(self.folder, at.segment)
            where = data.draw(st.integers(0, size_of(record) - 1), label="byte")
            journals.flip(path, at.offset + where, mask=data.draw(st.integers(1, 255), label="mask"))
            self.damaged[at].append(path.read_bytes()[at.offset : at.offset + size_of(record)])
            self.exact = False
            if number in behind:
                del self.items[len(self.items) - (len(behind) - behind.index(number))]
                behind.remove(number)
                if at >= end:
                    self.must_be_set_aside.add(at)
        self.opened_again(damaged=bool(lost))

    def opened_again(self, *, damaged: bool = False) -> None:
        if not list_segments(self.folder):  # it was new, or all of it was damaged, and left nothing
            assert self.batches == 0 or self.damaged
            assert self.must_be_set_aside <= self.set_aside()
            assert not any(one.kind is Kind.FRAME for one in self.items[self.acknowledged :])
            self.reset()
            self.journal = self.open()
            return
        found = read_all(self.folder)
        if damaged:
            self.state, self.connected = found.state, found.connected
            # what was archived is in its table, also when the record that says so is damaged since
            oldest = Position(list_segments(self.folder)[0].number, 0)
            self.acknowledged = self.index_of(max(found.end, oldest))
            start, end = [
                self.index_of(max(Position(*found.pending[key]), oldest)) if found.pending else 0
                for key in ("start", "end")
            ]
            self.pending = (start, end) if found.pending else None
        new = all(record.kind is Kind.SEGMENT for _, record in positions(self.folder))
        self.journal = self.open()
        if self.damaged:  # what it has read past before, it counts again until it has read that far
            self.exact = False
        assert self.journal.new == new or self.damaged
        if self.connected:
            self.items.append(Record(Kind.DISCONNECTED, found.last_ns, b""))
            self.connected = False
            assert read_json(positions(self.folder)[-1][1])["reason"] == ENDED_WITHOUT_NOTICE

    # ---- what always holds

    @invariant()
    def it_agrees_with_the_list(self) -> None:
        journal = getattr(self, "journal", None)
        if journal is None:
            return
        assert journal.state == self.state
        assert (journal.pending is not None) == (self.pending is not None)
        rest = self.items[self.acknowledged :]
        if self.exact:
            assert journal.backlog == sum(one.kind is Kind.FRAME for one in rest)
            assert journal.drained == (not rest)
            assert (journal.backlog_age_s > 0) <= bool(rest)
        elif journal.drained:
            assert not rest

    @invariant()
    def read_stream_gives_the_list(self) -> None:
        if not hasattr(self, "journal"):
            return
        kept = [one for one in read_stream(self.folder) if one.kind in (Kind.FRAME, *CONTROLS)]
        there = [(one.kind, one.at_ns, one.payload if one.kind is Kind.FRAME else b"") for one in kept]
        listed = [(one.kind, one.at_ns, one.payload) for one in self.items]
        assert there == listed[len(listed) - len(there) :]
        assert len(there) >= len(self.items) - self.acknowledged
        if self.archive:
            assert len(there) == len(listed)

    @invariant()
    def what_is_set_aside_was_damaged(self) -> None:
        if hasattr(self, "journal"):
            self.set_aside()

    def set_aside(self) -> set[Position]:
        """The positions of the damaged records that are set aside; there is nothing else in there."""
        found = set()
        for (number, offset), content in corrupt_files(self.folder).items():
            at = 0
            while at < len(content):
                position = Position(number, offset + at)
                known = [one for one in self.damaged[position] if content.startswith(one, at)]
                assert known
                found.add(position)
                at += max(map(len, known))
        return found


PLAYS = int(os.environ.get("JOURNAL_PLAYS", "0"))

JournalAgainstAList.TestCase.settings = settings(
    max_examples=PLAYS or 40,
    derandomize=not PLAYS,
    stateful_step_count=30,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),  # to explain takes too long
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
TestJournalAgainstAList = JournalAgainstAList.TestCase
