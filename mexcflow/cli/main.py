"""The entry point: every command on one command line, every error in one line."""

import logging
import os
import signal
import sys

from mexcflow.cli.title import hidden_in_message, set_title

COMMANDS = (
    "engine", "proxy-check", "rebuild", "repair", "run", "setup", "simulate", "sql", "status", "symbols",
    "up", "verify",
)  # fmt: skip
"""Every command; its file is named alike, without the hyphen."""


def main() -> None:
    """Run the command line; exit codes are those of `mexcflow.errors`."""
    set_title(sys.argv)
    try:
        sys.exit(_run())
    except KeyboardInterrupt:
        sys.exit(130)


def _run() -> int:
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        # Ctrl-C while the libraries are loaded ends the process, plainly: an exception in the middle of
        # their own initialisation has crashed it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    import importlib

    import typer

    # a command that is named needs no other one's libraries: a health check runs often
    for name in sys.argv[1:2] if sys.argv[1:2] and sys.argv[1] in COMMANDS else COMMANDS:
        importlib.import_module(f"mexcflow.cli.{name.replace('-', '')}")  # adds itself to `app`
    from mexcflow.cli.app import app
    from mexcflow.errors import DiskFailed, MexcflowError

    signal.signal(signal.SIGINT, handler)
    try:
        code = app(standalone_mode=False)
    except MexcflowError as error:
        return _tell(str(error), error.exit_code)
    except typer.TyperException as error:  # an option or argument that is wrong
        said = hidden_in_message(error.format_message()).rstrip(".")  # it may quote what was typed
        return _tell(f"{said}. See --help", error.exit_code) if said else error.exit_code
    except typer.Abort:
        return 130
    except OSError as error:  # what the database or an exchange says is sorted by now: this is the output
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # its rest must not fail once more at exit
        return _tell(f"standard output: {error.strerror}", DiskFailed.exit_code)
    return code if isinstance(code, int) else 0


def _tell(what: str, exit_code: int) -> int:
    from mexcflow import log

    if log.for_machines():
        logging.getLogger("mexcflow").error("%s", what)
    else:
        sys.stderr.write(f"mexcflow: {what}\n")
    return exit_code
