"""The entry point: every command on one command line, every error in one line."""

import sys

import typer

from mexcflow.cli import run, setup, simulate, sql, verify  # noqa: F401 - each adds its command to `app`
from mexcflow.cli.app import app
from mexcflow.errors import MexcflowError


def main() -> None:
    """Run the command line; exit codes are those of `mexcflow.errors`."""
    try:
        app()
    except MexcflowError as error:
        typer.echo(f"mexcflow: {error}", err=True)
        sys.exit(error.exit_code)
