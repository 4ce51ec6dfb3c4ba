"""The console, and what is common to all Rich tables."""

import re

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_COLUMNS = 10_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def make_console(*, stderr: bool = False) -> Console:
    """Return a console for standard output; in a pipe it is so wide that nothing is wrapped or cut."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=stderr, highlight=False, width=PIPE_COLUMNS)
    return console


def printable(text: str, columns: int = 0) -> Text:
    """Return text from the database as one line that cannot steer the terminal."""
    line = _CONTROL.sub(lambda match: repr(match.group())[1:-1], text)
    return Text(line if not columns or len(line) <= columns else line[: columns - 1] + "…")


def empty_table(console: Console, title: str) -> Table:
    """Return a table without columns: with lines on a terminal, plain in a pipe."""
    if console.is_terminal:
        return Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left")
    # no lines and no padding to the console's width: for grep, awk and files
    return Table(box=None, pad_edge=False, title=None, show_header=True, header_style="")


def megabytes(size_bytes: float) -> str:
    """Return a size in the unit that suits it, decimal as disks are sold."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.1f} {unit}"
    return f"{size_bytes:,.0f} B"
