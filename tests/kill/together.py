"""What a play of many processes came to: tables against deliveries, answers against what there ever was."""

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mexcflow.journal import Kind
from mexcflow.journal.segments import list_segments, scan
from tests.kill.frames import Verdict, judge
from tests.kill.players import Instance
from tests.kill.round import stored

_SHOWN = 3
_TRANSIENT = {"StoreUnavailable", "OwnerGone"}


@dataclass
class Together:
    """What a play came to; `str` is one line for people."""

    seed: int
    kills: int = 0
    owners_killed: int = 0
    frozen: int = 0
    stopped: int = 0
    owners: int = 0
    longest_without_s: float = 0.0
    frames: int = 0
    answers: int = 0
    answers_as_owner: int = 0
    impossible: int = 0
    transient: int = 0
    doubts: Counter = field(default_factory=Counter)
    """What was found of the batches in doubt, as the instances logged it."""
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    """Everything that should not have been."""

    @property
    def exact(self) -> bool:
        """Whether all was as it must be."""
        return not self.troubles and all(verdict.exact for verdict in self.verdicts.values())

    def __str__(self) -> str:
        verdicts = self.verdicts.values()
        order = "in order" if all(verdict.in_order for verdict in verdicts) else "NOT AS DELIVERED"
        return (
            f"seed {self.seed}: {self.kills} kills, {self.owners_killed} of them of the owner, {self.frozen} "
            f"times it was frozen, {self.stopped} stopped in order; {self.owners} owners, at most "
            f"{self.longest_without_s:.1f} s without one; {self.frames} frames delivered, "
            f"{sum(one.rows for one in verdicts)} rows: {sum(len(one.lost) for one in verdicts)} lost, "
            f"{sum(len(one.doubled) for one in verdicts)} doubled, {order}; batches in doubt: "
            f"{self.doubts['present']} were in their tables, {self.doubts['absent']} were not; "
            f"{sum(one.spared for one in verdicts)} kills between recv and journal; {self.answers} answers, "
            f"{self.answers_as_owner} of them as owner, {self.impossible} impossible, {self.transient} "
            "transient errors"
        )

    def failure(self) -> str:
        """Return the line above with what is wrong."""
        wrong = list(self.troubles)
        for symbol, verdict in self.verdicts.items():
            if not verdict.exact:
                wrong.append(
                    f"{symbol}: {len(verdict.lost)} lost {verdict.lost[:3]}, {len(verdict.doubled)} doubled "
                    f"{verdict.doubled[:3]}, {'' if verdict.in_order else 'not '}as delivered"
                )
        return "\n".join([str(self), *wrong])


def judge_all(outcome: Together, instances: list[Instance], folder: Path) -> None:
    """Judge each table, and every answer."""
    for instance in instances:
        _judge(outcome, instance, folder)
    _judge_answers(outcome, folder, {one.table: set(_commits(folder, one.symbol)) for one in instances})


def _judge(outcome: Together, instance: Instance, folder: Path) -> None:
    outcome.frames += sum(len(one.sure) + len(one.last) for one in instance.deliveries)
    rows = stored(folder / "data", instance.table)
    outcome.verdicts[instance.symbol] = judge(rows, instance.deliveries, instance.symbol)
    for line in _lines(instance.log):
        if line["level"] == "error":
            outcome.troubles.append(f"{instance.symbol}: {line['message']}")
        if found := re.fullmatch(r"batch (\S+): (\w+)", line["message"]):
            outcome.doubts[found[2]] += 1
            if found[2] not in ("present", "absent"):
                outcome.troubles.append(f"{instance.symbol}: {line['message']}")


def _judge_answers(outcome: Together, folder: Path, commits: dict[str, set[int]]) -> None:
    before: dict[str, int] = {}
    for line in _lines(folder / "answers"):
        if "error" in line:
            outcome.transient += 1
            if line["error"] not in _TRANSIENT:
                outcome.troubles.append(f"asked, and got {line['error']}: {line['text']}")
            continue
        table, rows = line["table"], line["rows"]
        outcome.answers += 1
        outcome.answers_as_owner += line["owner"]
        if rows < before.get(table, 0) or line["torn"] or rows not in commits[table]:
            outcome.impossible += 1
            if outcome.impossible <= _SHOWN:
                outcome.troubles.append(f"impossible after {before.get(table)} rows: {line}")
        before[table] = rows


def _commits(folder: Path, symbol: str) -> Iterator[int]:
    """Yield how many rows the table may have had at any time: a batch is in it as a whole or not at all."""
    yield 0
    for segment in list_segments(folder / "data/journal/mexc" / symbol):
        for chunk in scan(segment):
            if chunk.record is not None and chunk.record.kind is Kind.BATCH:
                batch = json.loads(chunk.record.payload)
                yield batch["rows_before"]
                yield batch["rows_before"] + batch["rows"]


def _lines(path: Path) -> Iterator[dict]:
    """Yield the JSON lines of a file; one that a kill has cut is left out."""
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            yield json.loads(line)
