"""The command line itself; each command is a file beside this one that adds itself to `app`."""

from typing import Annotated

import typer

from mexcflow import __version__

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
