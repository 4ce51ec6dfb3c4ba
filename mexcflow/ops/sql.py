"""Ad-hoc SQL: what kind of statement it is, and how its result is asked for.

The statement is ClickHouse's to understand; here it is only cut into words, so that a comment, a quoted
text or a trailing semicolon is not taken for something else.
"""

import itertools
import re
from typing import NamedTuple

from mexcflow.errors import Misuse

BINARY_FORMATS = re.compile(
    r"(?:Native|RowBinary\w*|Parquet|Arrow\w*|ORC|Avro|Protobuf\w*|MsgPack|CapnProto|BSONEachRow|Npy|Buffers"
    r"|RawBLOB)",
    re.IGNORECASE,
)
_READS = {"SELECT", "WITH", "FROM"}
_ANSWERS = _READS | {"SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN", "CHECK", "KILL", "BACKUP", "RESTORE"}

_WORDS = re.compile(
    r"""
    (?P<blank>\s+|--[^\n]*|\#[!\s][^\n]*|/\*.*?\*/)
    | (?P<quoted>'(?:\\.|''|[^'\\])*' | "(?:\\.|""|[^"\\])*" | `(?:\\.|``|[^`\\])*` | \$(\w*)\$.*?\$\3\$)
    | (?P<word>[A-Za-z_]\w*)
    | (?P<end>;)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


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
    tokens = [match for match in _WORDS.finditer(text) if match.lastgroup != "blank"]
    while tokens and tokens[-1].lastgroup == "end":
        tokens.pop()
    if not tokens:
        raise Misuse("the statement is empty", hint='mexcflow sql "SELECT count() FROM btc_deals"')
    if any(token.lastgroup == "end" for token in tokens):
        raise Misuse("more than one statement", hint="Run them one after the other")
    words = [token.group().upper() if token.lastgroup == "word" else token.group() for token in tokens]
    _refuse_data(words)
    first = next((word for word in words if word != "("), "")
    inserts = first == "INSERT" or (first == "WITH" and "INSERT" in words)
    format_at = next((at for at in range(len(words) - 2, 0, -1) if words[at] == "FORMAT"), None)
    named = format_at is not None and _ends_statement(words[format_at + 2 :])
    return Statement(
        text=text[tokens[0].start() : tokens[-1].end()],
        answers=first in _ANSWERS and not inserts,
        reads=first in _READS and not inserts,
        own_format=tokens[format_at + 1].group() if format_at is not None and named else "",
    )


def _ends_statement(rest: list[str]) -> bool:
    """Say whether a FORMAT clause followed by these words is the statement's own, not a subquery's."""
    return not rest or rest[0] == "SETTINGS"


def _refuse_data(words: list[str]) -> None:
    """Refuse what can lose rows in silence: data inside the text, a file written by the engine."""
    if words[0] == "INSERT" and "FORMAT" in words and "SELECT" not in words and "INFILE" not in words:
        # the embedded engine cuts such data at the first empty line and takes the rest for a statement
        raise Misuse(
            "INSERT ... FORMAT with the data in the statement is not taken",
            hint="Use INSERT ... VALUES, or INSERT ... SELECT * FROM file('/path/to/data.csv')",
        )
    if any(pair == ("INTO", "OUTFILE") for pair in itertools.pairwise(words)):
        # the embedded engine reports success on a full disk
        raise Misuse("INTO OUTFILE is not taken", hint="Use --output FILE, with --format Parquet or another")
