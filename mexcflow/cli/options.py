"""The options every command shares."""

from pathlib import Path
from typing import Annotated

import typer

from mexcflow import log
from mexcflow.errors import Misuse

Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="FOLDER|URL",
        help="Where the data lives: a folder (embedded engine) or http://user:password@host:8123; without "
        "the password it is that of $MEXCFLOW_PASSWORD. Default: $MEXCFLOW_DATABASE, else ./data.",
        show_default=False,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="PATH",
        help="Folder of instance files, or one such file. Default: $MEXCFLOW_CONFIG, else ./instances, "
        "else those that ship with mexcflow.",
        show_default=False,
    ),
]
HttpPort = Annotated[
    int,
    typer.Option(
        "--http-port",
        min=0,
        max=65_535,
        help="Where the engine of a data folder answers others; 0: any free port.",
    ),
]
HttpHost = Annotated[
    str,
    typer.Option(
        "--http-host", metavar="ADDRESS", help="The address it listens on; others can reach 0.0.0.0."
    ),
]
LogLevel = Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")]
LogFormat = Annotated[str, typer.Option("--log-format", help="text, or json: one object a line.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")]


def start_log(level: str, fmt: str) -> None:
    """Check the two log options and start logging."""
    if level.lower() not in log.LEVELS:
        raise Misuse(f"--log-level: {level!r} is not a level", hint=f"Give one of {', '.join(log.LEVELS)}")
    if fmt not in log.FORMATS:
        raise Misuse(f"--log-format: {fmt!r} is not a format", hint=f"Give one of {', '.join(log.FORMATS)}")
    log.configure(level, fmt)
