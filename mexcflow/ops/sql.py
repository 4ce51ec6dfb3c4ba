"""Ad-hoc SQL: what kind of statement it is, and how its result is asked for.

The statement is ClickHouse's to understand; here it is only cut into words (`store/words.py`).
"""

import itertools
import re
from typing import NamedTuple

from mexcflow.errors import Misuse
from mexcflow.store.words import ends_engine, own_format, spelled, tokens

BINARY_FORMATS = re.compile(
    r"(?:Native|RowBinary\w*|Parquet|Arrow\w*|ORC|Avro|Protobuf\w*|MsgPack|CapnProto|BSONEachRow|Npy|Buffers"
    r"|RawBLOB)",
    re.IGNORECASE,
)
_READS = {"SELECT", "WITH", "FROM"}
_ANSWERS = _READS | {"SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN", "CHECK", "KILL", "BACKUP", "RESTORE"}


class Statement(NamedTuple):
    """One statement without its semicolon.

    `answers`: it has a result. `reads`: its result may be long and can be limited. `own_format`: the format
    it names itself, else ''.
    """

    text: str
    answers: bool
    reads: bool
    own_format: str

    @property
    def is_binary(self) -> bool:
        """Whether it asks for a format that is no text."""
        return bool(BINARY_FORMATS.fullmatch(self.own_format))


def parse_statement(text: str) -> Statement:
    """Return what `text` asks for; raises `Misuse` when it is no statement or more than one."""
    found = list(tokens(text))
    while found and found[-1].lastgroup == "end":
        found.pop()
    if not found:
        raise Misuse("the statement is empty", hint='mexcflow sql "SELECT count() FROM btc_deals"')
    if any(token.lastgroup == "end" for token in found):
        raise Misuse("more than one statement", hint="Run them one after the other")
    words = [spelled(token) for token in found]
    _refuse_data(words)
    first = next((word for word in words if word != "("), "")
    inserts = first == "INSERT" or (first == "WITH" and "INSERT" in words)
    format_at = own_format(words)
    return Statement(
        text=text[found[0].start() : found[-1].end()],
        answers=first in _ANSWERS and not inserts,
        reads=first in _READS and not inserts,
        own_format=found[format_at + 1].group() if format_at is not None else "",
    )


def _refuse_data(words: list[str]) -> None:
    """Refuse what can lose rows in silence: data inside the text, a file written by the engine."""
    if words[0] == "INSERT" and "FORMAT" in words and "SELECT" not in words and "INFILE" not in words:
        # the embedded engine cuts such data at the first empty line and takes the rest for a statement
        raise Misuse(
            "INSERT ... FORMAT with the data in the statement is not taken",
            hint="Use INSERT ... VALUES, or INSERT ... SELECT * FROM file('/path/to/data.csv')",
        )
    if ends_engine(words):
        # it ends its process with all of the group: this command's, and what was started beside it
        raise Misuse("SYSTEM SHUTDOWN and SYSTEM KILL are not taken", hint="Stop the process itself")
    if any(pair == ("INTO", "OUTFILE") for pair in itertools.pairwise(words)):
        # the embedded engine reports success on a full disk
        raise Misuse("INTO OUTFILE is not taken", hint="Use --output FILE, with --format Parquet or another")
