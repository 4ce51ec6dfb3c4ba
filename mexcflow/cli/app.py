"""The command line: one file a command; this one puts them together and ends every error in one line."""

import sys
from typing import Annotated

import typer

from mexcflow import __version__
from mexcflow.errors import MexcflowError

app = typer.Typer(
    name="mexcflow",
    help="Record crypto market data into ClickHouse, and prove what you hold.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mexcflow {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Record crypto market data into ClickHouse, and prove what you hold."""


def main() -> None:
    """Run the command line; exit codes are those of `mexcflow.errors`."""
    # each of these adds its command to `app`, in the order of the help
    from mexcflow.cli import setup, run, verify, sql, simulate  # noqa: F401, I001

    try:
        app()
    except MexcflowError as error:
        typer.echo(f"mexcflow: {error}", err=True)
        sys.exit(error.exit_code)
