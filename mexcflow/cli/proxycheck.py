"""`mexcflow proxy-check`: which proxies work, and how long the way through them is."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
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
from mexcflow.cli.options import AsJson, Config, LogFormat, LogLevel, start_log
from mexcflow.config import DEFAULT_EXCHANGE, Instance, config_folder
from mexcflow.errors import Misuse
from mexcflow.ops.instances import read_instances
from mexcflow.ops.proxycheck import STEPS, Checked, Step, Way, check, ways_of
from mexcflow.pipeline.check import check_instance
from mexcflow.pipeline.dial import TIMEOUT_S

_EPILOG = """Examples:

mexcflow proxy-check

mexcflow proxy-check --proxy socks5h://me:secret@10.0.0.1:1080 --proxy https://10.0.0.2 --direct

mexcflow proxy-check --count 10 --json
"""


_SYMBOL = "BTC_USDT"


@app.command("proxy-check", epilog=_EPILOG)
def proxy_check(
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Check this proxy instead of those of the instance files; may be given more than once.",
            show_default=False,
        ),
    ] = None,
    direct: Annotated[bool, typer.Option("--direct", help="Check the line without a proxy, too.")] = False,
    count: Annotated[int, typer.Option(min=1, max=1000, help="Attempts through each.")] = 3,
    timeout: Annotated[
        float, typer.Option(metavar="S", help="Seconds that each part of an attempt may take.")
    ] = TIMEOUT_S,
    exchange: Annotated[str, typer.Option(help="With --proxy: which exchange to reach.")] = DEFAULT_EXCHANGE,
    symbol: Annotated[
        str | None,
        typer.Option(
            help="Only the instance files of this symbol; with --proxy, what to subscribe to. "
            "Default: all; with --proxy BTC_USDT.",
            show_default=False,
        ),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="Websocket URL in place of the exchange's own, for REST as well.", show_default=False
        ),
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
) -> None:
    """Reach the exchange through each proxy: connect, one REST ping, the websocket until it answers.

    Shows the shortest, median and longest time of each step in ms. Exits with 1 when an attempt failed.
    """
    start_log(log_level, log_format)
    if not (math.isfinite(timeout) and timeout > 0):
        raise Misuse(f"--timeout: {timeout:g} is not possible", hint="Give seconds, above 0")
    given = Instance(
        exchange=exchange, symbol=symbol or _SYMBOL, proxies=tuple(proxy or ()), endpoint=endpoint or ""
    )
    check_instance(given, where="command line")
    instances = [given] if proxy else _instances(config, endpoint)
    chosen = [one for one in instances if symbol in (None, one.symbol)]
    ways = ways_of(chosen or [given], direct=direct)
    if not ways:
        raise Misuse(
            "there is no proxy to check", hint="Give one with --proxy, or --direct for the line without"
        )
    console = make_console()
    found = _check(ways, count, timeout)
    if as_json:
        report = {"ok": all(one.ok for one in found), "count": count, "proxies": list(map(_as_json, found))}
        typer.echo(orjson.dumps(report))
    else:
        console.print(_proxies_table(console, found))
    if not all(one.ok for one in found):
        raise typer.Exit(1)


def _instances(config: Path | None, endpoint: str | None) -> list[Instance]:
    instances = read_instances(config_folder(config))
    if not endpoint:
        return instances
    return [msgspec.structs.replace(instance, endpoint=endpoint) for instance in instances]


def _check(ways: list[Way], count: int, timeout_s: float) -> list[Checked]:
    status = make_console(stderr=True).status("checking proxies")

    def work() -> list[Checked]:
        return check(ways, count=count, timeout_s=timeout_s, progress=status.update)

    with status:
        return interruptible(work, before_exit=status.stop)


def _as_json(one: Checked) -> dict[str, object]:
    return {"ok": one.ok, **dataclasses.asdict(one)}


def _proxies_table(console: Console, found: Sequence[Checked]) -> Table:
    """Return how long each step through each proxy took, and what went wrong."""
    table = empty_table(console, "proxies")
    for name in ("proxy", "of", "success"):
        table.add_column(name)
    for step in STEPS:
        table.add_column(f"{step} ms", justify="right", no_wrap=True)
    table.add_column("reason")
    for one in found:
        style = "green" if one.ok else "red"
        table.add_row(
            printable(one.proxy),
            printable(", ".join(one.used_by) or one.symbol),
            Text(f"{one.succeeded}/{one.attempts}", style=style),
            *(_step(one.steps[step], one.attempts) for step in STEPS),
            printable("; ".join(one.reasons)),
        )
    return table


def _step(step: Step, attempts: int) -> str:
    if step.median_ms is None:
        return "-"
    shown = [ms for ms in (step.min_ms, step.median_ms, step.max_ms) if ms is not None]
    times = "/".join(f"{ms:.{int(ms < 10)}f}" for ms in shown)
    return times if step.succeeded == attempts else f"{times} ({step.succeeded} of {attempts})"
