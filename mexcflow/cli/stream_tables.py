"""Many streams in one table, for `up` and `status`; and the same as lines, for pipes.

A terminal shows as many columns as it has room for, and as many streams: those that need somebody first.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.text import Text

from mexcflow.cli.console import empty_table, printable
from mexcflow.ops.status import StreamStatus

_GOOD = "recording"
_STYLES = {
    _GOOD: "green",
    "elsewhere": "cyan",
    "ended": "dim",
    "never recorded": "dim",
    "refused": "red",
    "wrong file": "red",
    "died": "red",
    "stuck": "red",
}
"""Everything else, which should be over soon, is yellow."""
_PROBLEM_COLUMNS = 24
"""Room that the problems need beside the rest; else they are lines below the table."""
_SEPARATOR = 3
_EDGES = 2
_SAID_ELSEWHERE = 11
"""Columns that give way this soon do so for the problems, too: the instance's name says most of it."""
_LINES_AROUND = 6
"""Heading, totals, and the lines between them."""


class Column(NamedTuple):
    """A column: what a stream has in it, what all together have, and how soon it gives way to others."""

    heading: str
    cell: Callable[[StreamStatus], str]
    gives_way: int
    total: Callable[[Sequence[StreamStatus]], str] = lambda _: ""
    left: bool = False


def _number(key: str) -> Callable[[StreamStatus], str]:
    def cell(status: StreamStatus) -> str:
        return f"{status.statistics[key]:,}" if status.statistics else "-"

    return cell


def _sum(key: str) -> Callable[[Sequence[StreamStatus]], str]:
    return lambda all_: f"{_total(all_, key):,.0f}"


def _total(statuses: Sequence[StreamStatus], key: str) -> float:
    return float(sum(one.statistics[key] for one in statuses if one.statistics))


def _rate(status: StreamStatus) -> str:
    recording = status.statistics and status.pid
    return f"{status.statistics['rows_per_s']:,.1f}" if status.statistics and recording else "-"


def _total_rate(statuses: Sequence[StreamStatus]) -> str:
    return f"{_total([one for one in statuses if one.pid], 'rows_per_s'):,.1f}"


def _channels(status: StreamStatus) -> str:
    return (
        "/".join(f"{count:,}" for count in status.statistics["messages"].values())
        if status.statistics
        else "-"
    )


def _lag(status: StreamStatus) -> str:
    lag = status.statistics["lag_ms"]["median"] if status.statistics else None
    return "-" if lag is None else f"{lag:,} ms"


def _backlog(status: StreamStatus) -> str:
    if not status.statistics:
        return "-"
    age_s = status.statistics["backlog_s"]
    return f"{status.statistics['backlog_frames']:,}" + (f", {age_s:,.0f} s" if age_s >= 5 else "")


def _uptime(status: StreamStatus) -> str:
    return "-" if status.uptime_s is None else str(timedelta(seconds=int(status.uptime_s)))


def _maybe(value: int | None) -> str:
    return "-" if value is None else f"{value}"


def _columns(statuses: Sequence[StreamStatus]) -> list[Column]:
    """Return every column in its order; `gives_way` 0 stays always, and the highest goes first."""
    channels = {"/".join(one.statistics["messages"]) for one in statuses if one.statistics}
    of_channels = channels.pop() if len(channels) == 1 else "messages"
    columns = [
        Column("instance", lambda one: one.title, 0, lambda _: "total", left=True),
        Column("symbol", lambda one: one.symbol, 11, left=True),
        Column("table", lambda one: one.table, 12, left=True),
        Column("state", lambda one: one.state, 0, _recording, left=True),
        Column("PID", lambda one: _maybe(one.pid), 9),
        Column("uptime", _uptime, 3),
        Column("restarts", lambda one: _maybe(one.restarts), 8, _restarts),
        Column("rows", _number("rows"), 0, _sum("rows")),
        Column("rows/s", _rate, 0, _total_rate),
        Column(of_channels, _channels, 10),
        Column("lag", _lag, 2),
        Column("backlog", _backlog, 1, _sum("backlog_frames")),
        Column("errors", _number("errors"), 6, _sum("errors")),
        Column("reconnects", _number("reconnects"), 5, _sum("reconnects")),
        Column("proxy", lambda one: one.proxy or "-", 7, left=True),
    ]
    known = any(one.restarts is not None for one in statuses)
    return [column for column in columns if known or column.heading != "restarts"]


def _recording(statuses: Sequence[StreamStatus]) -> str:
    return f"{sum(one.state == _GOOD for one in statuses):,} of {len(statuses):,}"


def _restarts(statuses: Sequence[StreamStatus]) -> str:
    return f"{sum(one.restarts or 0 for one in statuses):,}"


def streams_table(
    console: Console, statuses: Sequence[StreamStatus], *, live: bool = False
) -> RenderableType:
    """Return the table; a `live` one is no higher than the terminal."""
    shown = _fitting(statuses, console.height - _LINES_AROUND) if live else list(statuses)
    columns, room = _that_fit(console, _columns(statuses), statuses)
    beside = not console.is_terminal or room >= _PROBLEM_COLUMNS
    table = empty_table(console, "")
    table.show_footer = console.is_terminal
    for column in columns:
        table.add_column(
            column.heading,
            column.total(statuses),
            justify="left" if column.left else "right",
            no_wrap=True,
        )
    if beside:
        most = room if console.is_terminal else None
        table.add_column("last problem", no_wrap=True, overflow="ellipsis", max_width=most)
    for one in shown:
        table.add_row(*_cells(one, columns), *([printable(one.problem)] if beside else []))
    below = []
    if len(shown) < len(statuses):
        below.append(Text(f" … and {len(statuses) - len(shown):,} more", style="dim"))
    if not beside:
        lines = max(0, console.height - _LINES_AROUND - len(shown)) if live else len(shown)
        with_problem = [one for one in shown if one.problem][:lines]
        below += [printable(f" {one.title}: {one.problem}", console.width) for one in with_problem]
    return Group(table, *below)


def _cells(status: StreamStatus, columns: Sequence[Column]) -> list[Text]:
    style = {"state": _STYLES.get(status.state, "yellow")}
    return [Text(column.cell(status), style=style.get(column.heading, "")) for column in columns]


def _fitting(statuses: Sequence[StreamStatus], lines: int) -> list[StreamStatus]:
    """Return as many as fit, in their order: those that do not record first."""
    if len(statuses) <= lines:
        return list(statuses)
    urgent = sorted(statuses, key=lambda one: one.state == _GOOD)[: max(1, lines - 1)]
    return [one for one in statuses if one in urgent]


def _that_fit(
    console: Console, columns: list[Column], statuses: Sequence[StreamStatus]
) -> tuple[list[Column], int]:
    """Return the columns there is room for, and how much room is left."""

    def width(column: Column) -> int:
        texts = [column.heading, column.total(statuses), *map(column.cell, statuses)]
        return max(map(len, texts)) + _SEPARATOR

    if not console.is_terminal:
        return columns, 0
    widths = {column.heading: width(column) for column in columns}
    for_problems = _PROBLEM_COLUMNS + _SEPARATOR if any(one.problem for one in statuses) else 0
    while least := max(columns, key=lambda column: column.gives_way).gives_way:
        needed = for_problems if least >= _SAID_ELSEWHERE else 0
        if sum(widths[column.heading] for column in columns) + needed + _EDGES <= console.width:
            break
        columns = [column for column in columns if column.gives_way != least]
    used = sum(widths[column.heading] for column in columns) + _SEPARATOR + _EDGES
    return columns, console.width - used


def stream_line(status: StreamStatus) -> str:
    """Return one stream as a line of text."""
    words = [f"{status.title}: {status.state}"]
    if status.pid:
        words.append(f"PID {status.pid}, up {_uptime(status)}")
    if status.restarts:
        words.append(f"restarts {status.restarts}")
    if status.statistics:
        words.append(f"{_number('rows')(status)} rows, {_rate(status)} a second, lag {_lag(status)}")
        words.append(f"backlog {_backlog(status)}")
        words.append(f"errors {_number('errors')(status)}, reconnects {_number('reconnects')(status)}")
    if status.problem:
        words.append(f"last problem: {printable(status.problem)}")
    return ", ".join(words)


def total_line(statuses: Sequence[StreamStatus]) -> str:
    """Return all streams together as a line of text."""
    return (
        f"total: {_recording(statuses)} recording, {_sum('rows')(statuses)} rows, "
        f"{_total_rate(statuses)} a second, backlog {_sum('backlog_frames')(statuses)}, "
        f"errors {_sum('errors')(statuses)}, reconnects {_sum('reconnects')(statuses)}, "
        f"restarts {_restarts(statuses)}"
    )


def totals(statuses: Sequence[StreamStatus]) -> dict[str, Any]:
    """Return all streams together for machines."""
    keys = ("frames", "rows", "errors", "reconnects", "dead_letters", "backlog_frames")
    return {
        "streams": len(statuses),
        "recording": sum(one.state == _GOOD for one in statuses),
        "restarts": sum(one.restarts or 0 for one in statuses),
        "rows_per_s": round(_total([one for one in statuses if one.pid], "rows_per_s"), 3),
        **{key: int(_total(statuses, key)) for key in keys},
    }
