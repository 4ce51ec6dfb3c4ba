"""What a request asks for: where an INSERT's data begins, whether there is a result, and in which format.

ClickHouse reads the statement from `?query=`, a newline and the body, one after the other. Of an INSERT
only the head is looked at; its data goes to the engine in a file, because the engine cuts data that stands
in the statement at the first empty line and executes the rest.

Everything here is text in which each character is one byte (latin-1), so that places in it are places in
the request; the engine gets the bytes.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mexcflow.store.endpoint.refusal import Refusal
from mexcflow.store.words import own_format, spelled, tokens

READS = frozenset({"SELECT", "WITH", "FROM", "SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN", "CHECK"})
"""Statements whose result is streamed, and which end when nobody waits for it."""

_ANSWERS = frozenset({"KILL", "BACKUP", "RESTORE"})
_POOLED = READS | {"INSERT", "DROP", "ALTER", "RENAME", "EXCHANGE", "TRUNCATE", "OPTIMIZE", "KILL"}
"""Statements that leave nothing behind in the handle they ran on."""

_WRITES = frozenset(
    {"INSERT", "CREATE", "REPLACE", "ALTER", "OPTIMIZE", "ATTACH", "UPDATE", "DELETE", "BACKUP", "RESTORE"}
)
"""Statements that need free disk."""

_BLANK_BEFORE_DATA = re.compile(r"[ \t\f]*\r?\n?")


class Statement(NamedTuple):
    """A statement without its data and its semicolon. `first` is its first word in capitals."""

    text: str
    first: str
    words: tuple[str, ...]
    format: str = ""
    """The format that the statement names itself: of its result, or of an INSERT's data."""
    splice_at: int = -1
    """Where INTO OUTFILE or FROM INFILE goes; -1 for statements that take neither."""
    data_at: int = -1
    """Where the data begins in the text that was parsed; -1 for none."""

    @property
    def reads(self) -> bool:
        """Whether its result goes through the pipe, and it may be cancelled when nobody waits."""
        return self.first in READS and "INSERT" not in self.words

    @property
    def answers(self) -> bool:
        """Whether there is a result at all."""
        return self.reads or self.first in _ANSWERS

    @property
    def writes(self) -> bool:
        """Whether it needs free disk."""
        return self.first in _WRITES or "INSERT" in self.words

    @property
    def leaves_nothing(self) -> bool:
        """Whether the handle that it ran on can be used again."""
        return self.first in _POOLED


def parse(text: str, *, whole: bool) -> Statement:
    """Return what `text` asks for; with `whole=False` it is the beginning of an INSERT with its data.

    Raises `Refusal` for what is no statement, more than one, or reads and writes files of its own.
    """
    stream = tokens(text)
    first = next((token for token in stream if spelled(token) != "("), None)
    if first is None or first.lastgroup == "end":
        raise Refusal(62, "Empty query")
    if spelled(first) == "INSERT":
        found = _insert_with_data(text, first, stream)
        if found:
            return found
    if not whole:
        raise Refusal(62, "Max query size exceeded: the statement is too long", status=400)
    return _plain(text)


def _plain(text: str) -> Statement:
    found = list(tokens(text))
    while found[-1].lastgroup == "end":
        found.pop()
    if any(token.lastgroup == "end" for token in found):
        raise Refusal(62, "Syntax error (Multi-statements are not allowed)")
    words = [spelled(token) for token in found]
    pairs = set(itertools.pairwise(words))
    if ("INTO", "OUTFILE") in pairs:
        raise Refusal(1, "INTO OUTFILE is not allowed (UNSUPPORTED_METHOD)", status=400)
    if ("FROM", "INFILE") in pairs:
        raise Refusal(78, "Query has infile and was sent directly to server (UNKNOWN_TYPE_OF_QUERY)")
    first = next(word for word in words if word != "(")
    begin, end = found[0].start(), found[-1].end()
    named = own_format(words) if first in READS or first in _ANSWERS else None
    # the engine would wait for the rows on our standard input
    if first == "INSERT" and not {"SELECT", "WITH", "FROM"} & set(words):
        raise Refusal(62, "Syntax error: an INSERT needs VALUES, FORMAT or SELECT")
    return Statement(
        text=text[begin:end],
        first=first,
        words=tuple(words),
        format=found[named + 1].group() if named is not None else "",
        splice_at=(found[named].start() if named is not None else end) - begin,
    )


def _insert_with_data(text: str, first: re.Match[str], rest: Iterator[re.Match[str]]) -> Statement | None:
    """Return an INSERT ... VALUES or ... FORMAT, None when its rows come from elsewhere."""
    begin, depth, settings_at, named = first.start(), 0, -1, False
    for token in rest:
        word = spelled(token)
        if word in "([{":
            depth += 1
        elif word in ")]}":
            depth -= 1
        if depth or word in ("INTO", "TABLE", "FUNCTION"):
            continue
        if not named:
            named = True  # of whatever name the table is
            continue
        if text[token.start() - 1] == ".":
            continue
        if word in ("SELECT", "WITH", "FROM") or token.lastgroup == "end":
            return None
        if word == "SETTINGS":
            settings_at = token.start()
        elif word in ("VALUES", "FORMAT"):
            at = settings_at if settings_at >= 0 else token.start()
            name = token if word == "VALUES" else next(rest, None)
            if name is None or name.lastgroup != "word":
                raise Refusal(62, "Syntax error: FORMAT without a name")
            return _with_data(text[begin:], at - begin, name, begin)
    return None


def _with_data(text: str, splice_at: int, name: re.Match[str], begin: int) -> Statement:
    end = name.end() - begin
    values = name.group().upper() == "VALUES"
    if not values and text[end : end + 1] == ";":
        raise Refusal(62, "You have excessive ';' symbol before data for INSERT")
    blank = _BLANK_BEFORE_DATA.match(text, end)
    # FORMAT Values and VALUES are the same; the word itself is put in by `with_infile`
    head = text[: name.start() - begin] + (
        "FORMAT Values" if values and not _is_format(text, name, begin) else name.group()
    )
    return Statement(
        text=head,
        first="INSERT",
        words=("INSERT",),
        format=name.group(),
        splice_at=splice_at,
        data_at=begin + (blank.end() if blank else end),
    )


def _is_format(text: str, name: re.Match[str], begin: int) -> bool:
    return text[: name.start() - begin].rstrip().upper().endswith("FORMAT")


def with_infile(statement: Statement, path: str) -> bytes:
    """Return an INSERT that takes its data from a file."""
    text = statement.text
    spliced = f"{text[: statement.splice_at]}FROM INFILE '{path}' {text[statement.splice_at :]}"
    return spliced.encode("latin-1")


def with_outfile(statement: Statement, path: str, default_format: str) -> bytes:
    """Return a SELECT that writes its result to a file, in its own format or in the default one."""
    head, tail = statement.text[: statement.splice_at], statement.text[statement.splice_at :]
    # a newline first: a comment may stand at the end
    return f"{head}\nINTO OUTFILE '{path}' TRUNCATE {tail or f'FORMAT {default_format}'}".encode("latin-1")


def with_real_ids(statement: Statement, real: Callable[[str], str]) -> bytes:
    """Return a KILL QUERY with our query ids replaced by those that the engine gave."""

    def replaced(token: re.Match[str]) -> str:
        return f"'{real(token.group()[1:-1])}'" if token.group().startswith("'") else token.group()

    parts, at = [], 0
    for token in tokens(statement.text):
        parts += [statement.text[at : token.start()], replaced(token)]
        at = token.end()
    return "".join((*parts, statement.text[at:])).encode("latin-1")
