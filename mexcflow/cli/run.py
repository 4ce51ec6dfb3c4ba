"""`mexcflow run`: record symbols of one exchange until told to stop."""

import math
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import orjson
import typer

from mexcflow.cli.app import app
from mexcflow.cli.instance import instance_of
from mexcflow.cli.live import LiveView
from mexcflow.cli.options import Config, Database, HttpHost, HttpPort, LogFormat, LogLevel, start_log
from mexcflow.cli.output import print_or_go_on
from mexcflow.cli.statistics import statistics_lines
from mexcflow.config import DEFAULT_EXCHANGE, database_location
from mexcflow.errors import Misuse
from mexcflow.exchanges import REGISTRY, TYPED
from mexcflow.metrics import Snapshot
from mexcflow.pipeline.record import Recorder, Settings
from mexcflow.store.owner import Listen

_EPILOG = """Examples:

mexcflow run --symbol BTC_USDT

mexcflow run --exchange binance --symbol BTCUSDT --symbol ETHUSDT --book-interval 1s

mexcflow run --symbol PEPE_USDT --channels deal,depth --database /srv/market-data

mexcflow run --symbol BTC_USDT --proxy socks5://127.0.0.1:1080 --log-format json

mexcflow run --symbol BTC_USDT --proxy http://me:secret@10.0.0.1:3128 --proxy https://10.0.0.2

mexcflow run --symbol BTC_USDT --endpoint ws://127.0.0.1:8765/edge --duration 60
"""
_FLOW = "How it records"
_LINE = "Connection"


@app.command("run", epilog=_EPILOG)
def run(
    symbol: Annotated[
        list[str],
        typer.Option(
            help="The symbol as the exchange writes it: BTC_USDT. Several of one exchange may share a run, "
            "but for MEXC's."
        ),
    ],
    exchange: Annotated[
        str, typer.Option(help=f"The exchange's name: {', '.join((*REGISTRY, *TYPED))}.")
    ] = DEFAULT_EXCHANGE,
    table: Annotated[
        str | None,
        typer.Option(help="MEXC: table in mexc_data. Default: btc for BTC_USDT.", show_default=False),
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(
            help="Which channels, with commas. Default: all, that is ticker,deal,depth for MEXC, else "
            "trade,book,ticker,candle.",
            show_default=False,
        ),
    ] = None,
    candle_interval: Annotated[
        str | None,
        typer.Option(metavar="1m|5m|1h|...", help="Length of the candles. Default: 1m.", show_default=False),
    ] = None,
    book_interval: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="One snapshot of each book in so long (1s), in place of every change. Default: 0, all.",
            show_default=False,
        ),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="http://user:password@host:port, https://..., socks5://... or socks5h://... (names resolved "
            "there). Several: the next one is taken when one is refused or banned.",
            rich_help_panel=_LINE,
            show_default=False,
        ),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="Websocket URL in place of the exchange's own; where it has several sockets, what stands "
            "before their paths: ws://127.0.0.1:8765.",
            rich_help_panel=_LINE,
        ),
    ] = None,
    lifetime: Annotated[
        float,
        typer.Option(
            min=0.0,
            metavar="S",
            help="Replace each connection at this age; a new one takes over first. 0: what the exchange "
            "allows. Typed tables only.",
            rich_help_panel=_LINE,
        ),
    ] = 0.0,
    ping_interval: Annotated[
        float | None,
        typer.Option(min=0.1, help="Seconds between heartbeats. Default: 15.", rich_help_panel=_LINE),
    ] = None,
    flush_interval: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Seconds between INSERTs; 0: as soon as the previous one is back. Default: 1.",
            rich_help_panel=_FLOW,
        ),
    ] = None,
    fsync: Annotated[
        str | None,
        typer.Option(
            metavar="SECONDS|never",
            help="Seconds between forcing what was received down to the disk; 0: at once. Default: 1.",
            rich_help_panel=_FLOW,
        ),
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the journal. Default: in the data folder; with a server, ./journal.",
            rich_help_panel=_FLOW,
            show_default=False,
        ),
    ] = None,
    journal_tail: Annotated[
        str | None,
        typer.Option(
            metavar="TIME,SIZE",
            help="How much of what the table has stays in the journal, against power cuts: the longer of the "
            "two. Default: 10m,64MB.",
            rich_help_panel=_FLOW,
        ),
    ] = None,
    keep_raw: Annotated[
        str | None,
        typer.Option(
            metavar="TIME|forever|0",
            help="How long to keep every frame as received, compressed: 7d. Default: 0.",
            rich_help_panel=_FLOW,
        ),
    ] = None,
    adopt: Annotated[
        bool,
        typer.Option(
            "--adopt",
            help="Go on with the table as it is, though somebody else changed it.",
            rich_help_panel=_FLOW,
        ),
    ] = False,
    batch_frames: Annotated[
        int, typer.Option(min=1, help="Frames of one INSERT at most.", rich_help_panel=_FLOW)
    ] = Settings.batch_frames,
    stats_interval: Annotated[
        float | None,
        typer.Option(min=0.1, help="Seconds between statistics. Default: 15.", rich_help_panel=_FLOW),
    ] = None,
    duration: Annotated[
        float, typer.Option(min=0.0, help="Stop after so many seconds; 0: never.", rich_help_panel=_FLOW)
    ] = 0.0,
    max_errors: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="More errors than this in one statistics interval: stop, exit code 75. Default: 100.",
            rich_help_panel=_FLOW,
        ),
    ] = None,
    min_free: Annotated[
        int,
        typer.Option(
            min=0,
            help="MB to leave free on the disks of journal and embedded database; below: stop, exit code 74.",
            rich_help_panel=_FLOW,
        ),
    ] = 500,
    http_port: HttpPort = 0,
    http_host: HttpHost = "127.0.0.1",
    database: Database = None,
    config: Config = None,
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
) -> None:
    """Record until Ctrl-C: MEXC's ticker, deals and 20-level depth of one symbol into mexc_data.<table>.

    Symbols of other exchanges go into the tables of market_data: trades, books, tickers, candles. The
    instance file of the symbol (instances/btc.toml) gives the defaults, flags win. Tables and views are
    created when missing. Statistics go to standard output, the log to standard error.
    """
    start_log(log_level, log_format)
    if not math.isfinite(duration):
        raise Misuse(f"--duration: {duration} is no number of seconds", hint="0 means: without end")
    given = {
        "table": table,
        "channels": None if channels is None else _split(channels),
        **_proxies(proxy),
        "candle_interval": candle_interval,
        "book_interval": book_interval,
        "endpoint": endpoint,
        "ping_interval": ping_interval,
        "flush_interval": flush_interval,
        "fsync": None if fsync is None else _seconds_or_never(fsync),
        "journal": None if journal is None else str(journal),
        "journal_tail": journal_tail,
        "keep_raw": keep_raw,
        "stats_interval": stats_interval,
        "max_errors": max_errors,
    }
    instance = instance_of(exchange, tuple(symbol), config, given)
    if lifetime and not instance.is_typed:
        raise Misuse(f"--lifetime is for typed tables, and {exchange} goes into one of its own")
    settings = Settings(
        instance=instance,
        database=database_location(database, instance),
        duration_s=duration,
        min_free_bytes=min_free * 1_000_000,
        batch_frames=batch_frames,
        adopt=adopt,
        lifetime_s=lifetime,
        listen=Listen(http_host, http_port),
    )
    _record(Recorder(settings), log_format)


def _split(channels: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in channels.split(",") if word.strip())
    if not words:
        raise Misuse("--channels: no channels", hint="Leave it out for all of them")
    return words


def _proxies(given: list[str] | None) -> dict[str, str | tuple[str, ...]]:
    """Return both keys, so that those of the file do not stay; `--proxy ""` means none."""
    return {} if not given else {"proxy": "", "proxies": () if given == [""] else tuple(given)}


def _seconds_or_never(fsync: str) -> float | str:
    try:
        return float(fsync)
    except ValueError:
        return fsync


def _record(recorder: Recorder, log_format: str) -> None:
    signals = 0

    def on_signal(_number: int, _frame: object) -> None:
        nonlocal signals
        signals += 1
        if signals > 1:  # a second one ends at once
            os._exit(130)
        recorder.stop()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP, and so do we then
            signal.signal(number, on_signal)
    if log_format == "json":
        recorder.run(_print_json, _nothing)
    elif sys.stdout is not None and sys.stdout.isatty():
        with LiveView(recorder.snapshot) as live:
            recorder.run(live.show, live.tick)
    else:
        recorder.run(_print_lines, _nothing)


def _nothing() -> None:
    pass


def _print_lines(snapshot: Snapshot) -> None:
    print_or_go_on("\n".join(statistics_lines(snapshot)))


def _print_json(snapshot: Snapshot) -> None:
    now = datetime.now(UTC)
    print_or_go_on(
        orjson.dumps({"time": now, "statistics": snapshot.as_json()}, option=orjson.OPT_UTC_Z).decode()
    )
