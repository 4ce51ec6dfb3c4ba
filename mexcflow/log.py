"""Log lines on standard error, as text for people or as one JSON object a line for machines.

WARNING: unexpected, nothing lost. ERROR: data lost, or a human is needed.
"""

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        name = record.name.removeprefix("mexcflow.")
        line = f"{when}Z {record.levelname:<7} {name}: {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, option=orjson.OPT_UTC_Z).decode()


class _StderrHandler(logging.StreamHandler[Any]):
    """Look `sys.stderr` up at each line: a live display on the terminal may have replaced it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def for_machines() -> bool:
    """Say whether log lines are JSON."""
    handlers = logging.getLogger("mexcflow").handlers
    return any(isinstance(handler.formatter, _JsonFormatter) for handler in handlers)


def configure(level: str, fmt: str) -> None:
    """Send the package's log lines to standard error; `fmt` is 'text' or 'json'."""
    handler = _StderrHandler()
    handler.setFormatter(_JsonFormatter() if fmt == "json" else _TextFormatter())
    logger = logging.getLogger("mexcflow")
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
