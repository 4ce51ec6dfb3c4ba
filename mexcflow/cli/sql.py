"""`mexcflow sql`: any statement, on either kind of database."""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Annotated

import typer

from mexcflow.cli.app import app
from mexcflow.cli.console import make_console
from mexcflow.cli.interrupt import end_now, interruptible
from mexcflow.cli.options import Config, Database, LogFormat, LogLevel, start_log
from mexcflow.cli.result_view import print_result
from mexcflow.config import config_folder
from mexcflow.errors import DiskFailed, Misuse, StatementRefused
from mexcflow.ops.instances import database_to_read
from mexcflow.ops.sql import BINARY_FORMATS, Statement, parse_statement
from mexcflow.store.forms import MARKET
from mexcflow.store.open import open_store
from mexcflow.store.store import DATABASE, Store
from mexcflow.store.translate import code_of

_TERMINAL_ROWS = 1000
_TABLE_FORMAT = "TabSeparatedWithNamesAndTypes"
_NOT_THERE = {46, 60, 81}
"""UNKNOWN_FUNCTION (a view with parameters reads like one), UNKNOWN_TABLE, UNKNOWN_DATABASE."""

_EPILOG = """Examples:

mexcflow sql "SELECT * FROM btc_deals ORDER BY ts DESC LIMIT 5"

mexcflow sql --format JSONEachRow "SELECT * FROM btc_candles_1m" | head

mexcflow sql --format Parquet --output deals.parquet "SELECT * FROM btc_deals"

mexcflow sql < query.sql
"""


@app.command("sql", epilog=_EPILOG)
def sql_command(
    statement: Annotated[
        str | None, typer.Argument(help="The statement; from standard input when it is left out.")
    ] = None,
    fmt: Annotated[
        str,
        typer.Option("--format", "-f", metavar="NAME", help="Any ClickHouse format: CSV, JSONEachRow, ..."),
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the result to a file.")
    ] = None,
    database: Database = None,
    config: Config = None,
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
) -> None:
    """Run one SQL statement: a table on a terminal, tab-separated text in a pipe.

    Names without a database are looked up in mexc_data: btc, btc_ticker, btc_deals, btc_depth,
    btc_candles_1m. Times are in UTC.
    """
    start_log(log_level, log_format)
    asked = parse_statement(_text(statement))
    fmt = _checked_format(asked, fmt, output)
    try:
        location = database_to_read(database, config_folder(config))
        interruptible(lambda: _run(location, asked, fmt, output))
    except BrokenPipeError:
        # the reader has what it wanted (head); its pipe must not be flushed again on the way out
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        end_now(0)


def _text(statement: str | None) -> str:
    if statement is not None:
        return statement
    if sys.stdin.isatty():
        raise Misuse("no statement", hint='mexcflow sql "SELECT count() FROM btc_deals"')
    return sys.stdin.read()


def _checked_format(asked: Statement, fmt: str, output: Path | None) -> str:
    """Return the format to ask for ('' where the statement has its own), or refuse what helps nobody."""
    if fmt and asked.own_format:
        raise Misuse(
            f"--format {fmt}, and the statement says FORMAT {asked.own_format}", hint="Give one of them"
        )
    chosen = asked.own_format or fmt
    if output is None and sys.stdout.isatty() and BINARY_FORMATS.fullmatch(chosen):
        raise Misuse(f"{chosen} is binary and would garble the terminal", hint="Write it with --output FILE")
    return fmt


def _run(location: str, asked: Statement, fmt: str, output: Path | None) -> None:
    with open_store(location, create=False) as store, _setup_named():
        store.prefer_database(DATABASE)
        if not asked.answers:
            store.command(asked.text)
        elif output is not None:
            _write_file(output, _chunks(store, asked, fmt))
        elif fmt or asked.own_format or not sys.stdout.isatty():
            _write_out(_chunks(store, asked, fmt))
        else:
            _show(store, asked)


@contextlib.contextmanager
def _setup_named() -> Iterator[None]:
    """Say how to get what `mexcflow setup` makes, where a statement misses it: the folder may be older."""
    try:
        yield
    except StatementRefused as error:
        if code_of(error) in _NOT_THERE and MARKET in error.what:
            error.hint = "`mexcflow setup` makes the tables and views of market_data that are missing"
        raise


def _chunks(store: Store, asked: Statement, fmt: str) -> Iterator[bytes]:
    return store.export(asked.text, "" if asked.own_format else fmt or "TabSeparated", stream=asked.reads)


def _write(file: IO[bytes], chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        file.write(chunk)
    file.flush()


def _write_out(chunks: Iterable[bytes]) -> None:
    try:
        _write(sys.stdout.buffer, chunks)
    except BrokenPipeError:
        raise
    except OSError as error:
        end_with = DiskFailed(f"standard output: {error.strerror}")
        typer.echo(f"mexcflow: {end_with}", err=True)
        end_now(end_with.exit_code)  # what is left in the buffer must not be tried again on the way out


def _write_file(output: Path, chunks: Iterable[bytes]) -> None:
    """Write a file that is there as a whole or not at all."""
    special = output.exists() and not output.is_file()  # a pipe, /dev/stdout
    part = output if special else output.with_name(output.name + ".part")
    try:
        with part.open("wb") as file:
            _write(file, chunks)
        if not special:
            part.replace(output)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise DiskFailed(f"{output}: {error.strerror}", hint="Give another file with --output") from error
    finally:
        if not special:
            with contextlib.suppress(OSError):
                part.unlink()


def _show(store: Store, asked: Statement) -> None:
    """Print the first rows as a table; one more than is shown is asked for, to know that there are more."""
    limit = {"limit": _TERMINAL_ROWS + 1} if asked.reads else None
    chunks = store.export(asked.text, _TABLE_FORMAT, limit, stream=asked.reads)
    text = b"".join(chunks).decode(errors="replace")
    lines = text.split("\n")[:-1]
    if not lines:
        return
    names_and_types = 2
    rows = len(lines) - names_and_types
    console = make_console()
    print_result(console, lines[: _TERMINAL_ROWS + names_and_types])
    if rows > _TERMINAL_ROWS:
        console.print(
            f"the first {_TERMINAL_ROWS:,} rows; all of them with --format TSV or --output, or use LIMIT"
        )
    else:
        console.print(f"{rows:,} row{'' if rows == 1 else 's'}")
