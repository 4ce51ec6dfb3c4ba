"""`mexcflow symbols`: what an exchange has to be recorded."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mexcflow.cli.app import app
from mexcflow.cli.console import empty_table, make_console, printable
from mexcflow.cli.interrupt import interruptible
from mexcflow.cli.options import LogFormat, LogLevel, start_log
from mexcflow.config import DEFAULT_EXCHANGE
from mexcflow.errors import MexcflowError
from mexcflow.exchanges import find_exchange
from mexcflow.model import Instrument
from mexcflow.pipeline.address import check_endpoint, check_proxies
from mexcflow.pipeline.instruments import TRADING, Listed, list_instruments, spelling

_EPILOG = """Examples:

mexcflow symbols --search BTC

mexcflow symbols --exchange okx --search BTC-USDT --json

mexcflow symbols --exchange kraken --all --proxy socks5h://me:secret@10.0.0.1:1080
"""


@app.command("symbols", epilog=_EPILOG)
def symbols(
    exchange: Annotated[str, typer.Option(help="The exchange's name.")] = DEFAULT_EXCHANGE,
    search: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Only symbols with this in the symbol, in any spelling, or in base or quote.",
            show_default=False,
        ),
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="Also those that are not trading.")] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Ask the exchange, even if a list was kept within the hour.")
    ] = False,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Ask through this proxy; of several, the next one is taken when one fails.",
            show_default=False,
        ),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="Websocket URL of a simulator to ask instead. Nothing is kept.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
) -> None:
    """List what an exchange has to be recorded: contract size, tick size, quantity step, state.

    A list is kept for an hour in the user's cache folder; an older one serves when the exchange is away.
    Exits with 1 when there is no such symbol.
    """
    start_log(log_level, log_format)
    asked = find_exchange(exchange, where="--exchange")
    proxies = () if proxy in (None, [""]) else tuple(proxy or ())
    check_proxies(proxies, where="--proxy")
    if endpoint:
        check_endpoint(endpoint, where="--endpoint")

    def ask() -> Listed:
        return list_instruments(asked, endpoint=endpoint or "", proxies=proxies, refresh=refresh)

    status = make_console(stderr=True).status(f"asking {exchange}")
    with status:
        listed = interruptible(ask, before_exit=status.stop)
    matching = [one for one in listed.instruments if _matches(one, search)]
    shown = sorted(
        (one for one in matching if everything or one.state == TRADING), key=lambda one: one.symbol
    )
    if as_json:
        typer.echo(orjson.dumps(_as_json(exchange, listed, shown)))
    elif shown:
        _print_table(exchange, listed, shown)
    if not shown:
        raise _nothing(exchange, search, hidden=len(matching))


def _matches(one: Instrument, search: str) -> bool:
    """Say whether the text is in one of the names; `btc-usdt` is in BTCUSDT, too."""
    text, form = search.casefold(), spelling(search)
    if any(text in name.casefold() for name in (one.symbol, one.base, one.quote)):
        return True
    return bool(form) and form in spelling(one.symbol)


def _print_table(exchange: str, listed: Listed, shown: list[Instrument]) -> None:
    console = make_console()
    title = f"{exchange}: {len(shown)} of {len(listed.instruments)} symbols, as of {_when(listed):%F %R} UTC"
    console.print(symbols_table(console, title, shown))


def symbols_table(console: Console, title: str, instruments: Sequence[Instrument]) -> Table:
    """Return what an exchange lists, a line a symbol."""
    table = empty_table(console, title)
    for name in ("symbol", "base", "quote", "kind"):
        table.add_column(name, no_wrap=name == "symbol")
    table.add_column("contract size", justify="right", no_wrap=True)
    table.add_column("of")
    for name in ("tick size", "quantity step"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state")
    for one in instruments:
        unit = one.quote if one.inverse else one.base
        names = (one.symbol, one.base, one.quote, one.kind, one.contract_size, unit)
        table.add_row(
            # a cell that is never empty can be counted by awk
            *(printable(text or "-") for text in (*names, one.tick_size, one.quantity_step)),
            Text(printable(one.state).plain, style="green" if one.state == TRADING else "yellow"),
        )
    return table


def _as_json(exchange: str, listed: Listed, shown: list[Instrument]) -> dict[str, object]:
    seen = _when(listed).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"exchange": exchange, "seen": seen, "symbols": [msgspec.structs.asdict(one) for one in shown]}


def _when(listed: Listed) -> datetime:
    return datetime.fromtimestamp(listed.seen_ms / 1000, UTC)


def _nothing(exchange: str, search: str, *, hidden: int) -> MexcflowError:
    what = f"{exchange} lists no symbol" + (f" with {search!r}" if search else "")
    if hidden:
        return MexcflowError(f"{what} that is trading", hint=f"--all shows {hidden} that are not")
    return MexcflowError(what, hint=f"All of them: mexcflow symbols --exchange {exchange} --all")
