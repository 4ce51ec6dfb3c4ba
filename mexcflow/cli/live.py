"""The live view of `mexcflow run` on a terminal: the statistics block, repainted twice a second."""

from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mexcflow.cli.statistics import statistics_fields, statistics_title
from mexcflow.metrics import Snapshot

_TICKS_A_REPAINT = 2


class LiveView:
    """A block that stays in place while the log scrolls above it."""

    def __init__(self, peek: Callable[[], Snapshot]) -> None:
        self._peek = peek
        self._ticks = 0
        self._finished: Snapshot | None = None
        self._live = Live(console=Console(), auto_refresh=False, redirect_stdout=True, redirect_stderr=True)

    def __enter__(self) -> "LiveView":
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, snapshot: Snapshot) -> None:
        """Show the block of a finished interval."""
        self._finished = snapshot
        self._live.update(_statistics_panel(snapshot), refresh=True)

    def tick(self) -> None:
        """Repaint now and then with the numbers as they stand."""
        self._ticks += 1
        if self._ticks % _TICKS_A_REPAINT == 0:
            self._live.update(_statistics_panel(self._now()), refresh=True)

    def _now(self) -> Snapshot:
        """Return the numbers as they stand; rates are those of the last interval until there are new ones."""
        return self._peek().with_rates_of(self._finished)


def _statistics_panel(snapshot: Snapshot) -> Panel:
    """Return the statistics block of a recording for the live view."""
    grid = Table.grid(padding=(0, 2))
    for label, value in statistics_fields(snapshot):
        grid.add_row(Text(label, style="dim"), Text(value))
    return Panel(grid, title=Text(statistics_title(snapshot)), title_align="left", expand=False)
