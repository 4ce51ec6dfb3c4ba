"""SQL cut into words, so that a comment or a quoted text is not taken for a part of the statement.

The statement is ClickHouse's to understand: here is only what has to be known before it gets it.
"""

import re
from collections.abc import Iterator, Sequence

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


def tokens(text: str) -> Iterator[re.Match[str]]:
    """Yield every token but blanks and comments; its `lastgroup` is quoted, word, end or other."""
    return (match for match in _WORDS.finditer(text) if match.lastgroup != "blank")


def spelled(token: re.Match[str]) -> str:
    """Return a word in capitals, anything else as it is written."""
    return token.group().upper() if token.lastgroup == "word" else token.group()


def ends_engine(words: Sequence[str]) -> bool:
    """Say whether a statement ends the process that runs the engine, and with it all of its group."""
    return tuple(words[:2]) in (("SYSTEM", "SHUTDOWN"), ("SYSTEM", "KILL"))


def own_format(words: list[str]) -> int | None:
    """Return where a statement's own FORMAT clause begins, None when it has none.

    A subquery's FORMAT (as in `format(...)`) does not end the statement; only SETTINGS may follow ours.
    """
    found = next((at for at in range(len(words) - 2, 0, -1) if words[at] == "FORMAT"), None)
    if found is None:
        return None
    rest = words[found + 2 :]
    return found if not rest or rest[0] == "SETTINGS" else None
