"""The entry point: every command on one command line, every error in one line."""

import logging
import sys


def main() -> None:
    """Run the command line; exit codes are those of `mexcflow.errors`."""
    try:
        _run()
    except KeyboardInterrupt:  # also while the libraries are still being loaded
        sys.exit(130)


def _run() -> None:
    from mexcflow import log
    from mexcflow.cli import run, setup, simulate, sql, verify  # noqa: F401 - each adds its command to `app`
    from mexcflow.cli.app import app
    from mexcflow.errors import MexcflowError

    try:
        app()
    except MexcflowError as error:
        if log.for_machines():
            logging.getLogger("mexcflow").error("%s", error)
        else:
            sys.stderr.write(f"mexcflow: {error}\n")
        sys.exit(error.exit_code)
