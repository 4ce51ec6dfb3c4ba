"""The entry point: every command on one command line, every error in one line."""

import logging
import sys


def main() -> None:
    """Run the command line; exit codes are those of `mexcflow.errors`."""
    try:
        sys.exit(_run())
    except KeyboardInterrupt:  # also while the libraries are still being loaded
        sys.exit(130)


def _run() -> int:
    import typer

    from mexcflow.cli import run, setup, simulate, sql, verify  # noqa: F401 - each adds its command to `app`
    from mexcflow.cli.app import app
    from mexcflow.errors import MexcflowError

    try:
        code = app(standalone_mode=False)
    except MexcflowError as error:
        return _tell(str(error), error.exit_code)
    except typer.TyperException as error:  # an option or argument that is wrong
        said = error.format_message().rstrip(".")
        return _tell(f"{said}. See --help", error.exit_code) if said else error.exit_code
    except typer.Abort:
        return 130
    return code if isinstance(code, int) else 0


def _tell(what: str, exit_code: int) -> int:
    from mexcflow import log

    if log.for_machines():
        logging.getLogger("mexcflow").error("%s", what)
    else:
        sys.stderr.write(f"mexcflow: {what}\n")
    return exit_code
