"""`mexcflow simulate`: an exchange on localhost, for testing any client without the real one."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import orjson
import typer

from mexcflow.cli.app import app
from mexcflow.cli.fault_options import (
    DropEvery,
    DuplicateEvery,
    Exponents,
    GarbageEvery,
    HalfFrameEvery,
    HttpStatus,
    Lifetime,
    LoseEvery,
    NoAcks,
    NoPongs,
    OutOfOrderEvery,
    RefuseEvery,
    RefuseFor,
    RetryAfter,
    StallAfter,
)
from mexcflow.cli.options import AsJson, LogFormat, LogLevel, start_log
from mexcflow.config import DEFAULT_EXCHANGE
from mexcflow.errors import Misuse
from mexcflow.ops.archive import open_archive
from mexcflow.simulator import Faults, Settings, Simulator
from mexcflow.simulator.exchanges import EXCHANGES
from mexcflow.simulator.faults import check_positive
from mexcflow.simulator.frames import read_file

_MARKET, _FRAMES = "Generated market", "Recorded frames"
_WATCH_S = 0.25
"""How often it is checked that the server still lives while waiting for a signal."""
_STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}

ExchangeName = Annotated[
    str, typer.Option("--exchange", metavar="NAME", help=f"Whose protocol: {', '.join(EXCHANGES)}.")
]
Host = Annotated[str, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0: any free one.")]
PingTimeout = Annotated[
    float | None,
    typer.Option(
        "--ping-timeout",
        metavar="S",
        help="Cut clients that gave no heartbeat for S seconds. Default: as the exchange does (MEXC: 60).",
        show_default=False,
    ),
]
Duration = Annotated[
    float | None,
    typer.Option("--duration", metavar="S", help="Stop after S seconds.", show_default=False),
]

Seed = Annotated[
    int, typer.Option("--seed", help="Same seed, same prices and volumes.", rich_help_panel=_MARKET)
]
Speed = Annotated[
    float,
    typer.Option(
        "--speed",
        metavar="X",
        help="X times as many frames. With --archive: X times as fast; 0: as fast as the client reads.",
        rich_help_panel=_MARKET,
    ),
]
ClockAhead = Annotated[
    float,
    typer.Option(
        "--clock-ahead",
        metavar="S",
        help="The exchange's clock is S seconds ahead of this machine's.",
        rich_help_panel=_MARKET,
    ),
]
Symbols = Annotated[
    str,
    typer.Option(
        "--symbols",
        metavar="A,B",
        help="Further contracts besides BTC_USDT, ETH_USDT and SOL_USDT (as the exchange spells them), "
        "with made-up prices.",
        rich_help_panel=_MARKET,
        show_default=False,
    ),
]

FramesFile = Annotated[
    Path | None,
    typer.Option(
        "--frames",
        metavar="FILE",
        help="Instead of a market send the lines of this file, exactly as they are, to each client that "
        "has subscribed. 'base64:...' is sent as a binary message.",
        rich_help_panel=_FRAMES,
        show_default=False,
    ),
]
Archive = Annotated[
    Path | None,
    typer.Option(
        "--archive",
        metavar="DIR",
        help="Instead of a market send what 'mexcflow run' has recorded: DIR is a stream's journal folder, "
        "or the raw archive in it. Its exchange, its own pace; see --speed and --max-pause.",
        rich_help_panel=_FRAMES,
        show_default=False,
    ),
]
MaxPause = Annotated[
    float,
    typer.Option(
        "--max-pause",
        metavar="S",
        help="With --archive: cut pauses of the recording down to S recorded seconds; inf keeps them.",
        rich_help_panel=_FRAMES,
    ),
]
Loop = Annotated[
    bool, typer.Option("--loop", help="Again and again instead of once.", rich_help_panel=_FRAMES)
]
Rate = Annotated[
    float | None,
    typer.Option(
        "--rate",
        metavar="N",
        help="N frames a second, evenly. Default: --frames as fast as the client reads, --archive as "
        "it was recorded.",
        rich_help_panel=_FRAMES,
        show_default=False,
    ),
]


_EPILOG = """
Examples:

[bold]mexcflow simulate[/bold] and, elsewhere: mexcflow run --symbol BTC_USDT --endpoint ws://127.0.0.1:8765/edge

[bold]mexcflow simulate --drop-every 20 --garbage-every 5[/bold] for a bad day

[bold]mexcflow simulate --http-status 429 --retry-after 30[/bold] for an exchange that has banned you

[bold]mexcflow simulate --frames day.jsonl --loop --rate 500[/bold] for a file of frames, again and again

[bold]mexcflow simulate --archive data/journal/mexc/BTC_USDT --speed 10[/bold] for a recorded day in 2.4 hours

It prints one line, 'listening on ws://...', and runs until Ctrl-C. Seconds of faults count from each \
client's connection; --speed does not change them.
"""


@app.command("simulate", epilog=_EPILOG)
def simulate(
    exchange: ExchangeName = DEFAULT_EXCHANGE,
    host: Host = "127.0.0.1",
    port: Port = 8765,
    ping_timeout: PingTimeout = None,
    duration: Duration = None,
    seed: Seed = 1,
    speed: Speed = 1.0,
    symbols: Symbols = "",
    clock_ahead: ClockAhead = 0.0,
    frames: FramesFile = None,
    archive: Archive = None,
    max_pause: MaxPause = 10.0,
    loop: Loop = False,
    rate: Rate = None,
    drop_every: DropEvery = None,
    lifetime: Lifetime = None,
    stall_after: StallAfter = None,
    half_frame_every: HalfFrameEvery = None,
    garbage_every: GarbageEvery = None,
    duplicate_every: DuplicateEvery = None,
    out_of_order_every: OutOfOrderEvery = None,
    lose_every: LoseEvery = None,
    refuse_every: RefuseEvery = None,
    refuse_for: RefuseFor = None,
    http_status: HttpStatus = None,
    retry_after: RetryAfter = None,
    exponents: Exponents = False,
    no_pongs: NoPongs = False,
    no_acks: NoAcks = False,
    as_json: AsJson = False,
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
) -> None:
    """Run an exchange on localhost that speaks the real one's protocol, with faults on request.

    Ticker, trades and depth of three contracts come from a seeded random walk, from a file of frames, or
    from a recorded stream.
    """
    start_log(log_level, log_format)
    check_positive("duration", duration)
    faults = Faults(
        drop_every_s=drop_every,
        lifetime_s=lifetime,
        stall_after_s=stall_after,
        half_frame_every_s=half_frame_every,
        garbage_every_s=garbage_every,
        exponents=exponents,
        http_status=http_status,
        retry_after_s=retry_after,
        duplicate_every_s=duplicate_every,
        out_of_order_every_s=out_of_order_every,
        lose_every_s=lose_every,
        refuse_every_s=refuse_every,
        refuse_for_s=refuse_for,
        no_pongs=no_pongs,
        no_acks=no_acks,
    )
    if exponents and (frames is not None or archive is not None):
        raise Misuse("exponents are for the generated market", hint="Recorded frames are sent as they are")
    stream = None if archive is None else open_archive(archive)
    known = symbols.split(",") if symbols else []
    settings = Settings(
        exchange=stream.exchange if stream else exchange,
        host=host,
        port=port,
        seed=seed,
        speed=speed,
        symbols=(*known, *stream.symbol.split(",")) if stream else tuple(known),
        ping_timeout_s=ping_timeout,
        clock_ahead_ms=round(clock_ahead * 1000),
        frames=None if frames is None else read_file(frames),
        recording=stream.market_data if stream else None,
        max_pause_s=max_pause,
        loop=loop,
        rate=rate,
        faults=faults,
    )
    _run(settings, duration_s=duration, as_json=as_json)


def _run(settings: Settings, *, duration_s: float | None, as_json: bool) -> None:
    with _signals_held(), Simulator.of(settings) as exchange:
        # What --endpoint takes. Where a client needs several sockets, their paths are for it to know.
        where = exchange.url if settings.exchange == DEFAULT_EXCHANGE else exchange.address
        text = orjson.dumps({"listening": where}).decode() if as_json else f"listening on {where}"
        typer.echo(text)  # flushes
        _wait(exchange, duration_s)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Keep SIGINT and SIGTERM for `_wait`: they then interrupt nothing and leave no stack trace."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        while signal.sigtimedwait(_STOP_SIGNALS, 0) is not None:  # an impatient second Ctrl-C
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(exchange: Simulator, duration_s: float | None) -> None:
    """Return at a signal, after the duration, or when the server has failed."""
    rest_s = float("inf") if duration_s is None else duration_s
    while exchange.running and rest_s > 0:
        if signal.sigtimedwait(_STOP_SIGNALS, min(rest_s, _WATCH_S)) is not None:
            return
        rest_s -= _WATCH_S
