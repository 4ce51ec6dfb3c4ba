"""A statement's result as a Rich table: a column's type below its name, no number ever cut."""

import re
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mexcflow.cli.console import PIPE_COLUMNS, empty_table, printable

_FOLDED_COLUMNS = 40
"""A wider text goes on in the next line of its cell."""
_NUMERIC = re.compile(r"(?:Nullable\(|LowCardinality\()*(?:U?Int|B?Float|Decimal)")
_TSV_ESCAPE = re.compile(r"\\([\\'])")


def print_result(console: Console, lines: Sequence[str]) -> None:
    """Print a statement's result: `lines` are TabSeparatedWithNamesAndTypes. No number is ever cut."""
    table = _result_table(console, lines)
    needed = Console(width=PIPE_COLUMNS).measure(table).maximum
    if needed > console.width:  # the terminal wraps its lines then, as it does those of clickhouse-client
        console = Console(width=needed, highlight=False)
    console.print(table)


def _result_table(console: Console, lines: Sequence[str]) -> Table:
    names, types, *rows = (line.split("\t") for line in lines)
    table = empty_table(console, "")
    for name, kind in zip(names, types, strict=True):
        # without its Nullable(...), which is the widest part of many a column
        shown = re.sub(r"^Nullable\((.*)\)$", r"\1", _cell(kind).plain)
        numeric = bool(_NUMERIC.match(kind))
        table.add_column(
            Text.assemble(_cell(name), "\n", (shown, "dim")),
            justify="right" if numeric else "left",
            no_wrap=numeric or shown.startswith("Date"),
            max_width=None if numeric else _FOLDED_COLUMNS,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def _cell(field: str) -> Text:
    if field == "\\N":
        return Text("NULL", style="dim")
    return printable(_TSV_ESCAPE.sub(r"\1", field))
