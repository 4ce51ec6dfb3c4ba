"""Foreign errors become ours here and nowhere else.

ClickHouse's numeric code decides the family, never the text: a caller of the store sees
`StoreUnavailable` (may succeed if repeated), `DiskFailed` or `StatementRefused` (would fail again).
"""

import contextlib
import re
from collections.abc import Iterator

from mexcflow.errors import DiskFailed, MexcflowError, StatementRefused, StoreUnavailable

_TRANSIENT_CODES = frozenset({
    95, 96, 198, 209, 210, 279,  # sockets, DNS, all connection tries failed
    159, 1017, 1019, 1020,  # timeouts, too slow, no query slot in time
    173, 241, 439, 777, 778,  # memory, no thread to be had
    202, 203, 290, 364, 373, 700, 745, 749, 762, 763, 776,  # too many of something; overloaded
    225, 242, 244, 254, 265, 285, 286, 289, 297, 319, 369, 415, 416, 571, 709, 999,  # keeper, replicas
    236, 394, 473, 667, 677, 696, 735,  # shutting down, cancelled, not up yet, deadlock avoided
    252,  # merges lag behind the inserts
})  # fmt: skip
_DISK_CODES = frozenset({24, 75, 77, 88, 107, 172, 204, 214, 243, 294, 586})
"""No space left, and everything else that happens only while files are written."""
_PASSWORD_CODES = frozenset({192, 193, 194, 516})

_TAIL = re.compile(r"(?:,?\s*Stack trace\b.*|\s*\(version [^()]*(?:\([^()]*\)[^()]*)*\)\s*)$", re.DOTALL)
_REPEATED_HEAD = re.compile(r"(?:Code: \d+\. DB::Exception: )+(?=Code: \d+\. DB::Exception: )")
_MESSAGE_CHARS = 700


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise what goes wrong inside as an error of ours that begins with `doing` ("insert into btc")."""
    try:
        yield
    except MexcflowError:
        raise
    except Exception as error:
        ours = _sorted(error, doing)
        if ours is None:
            raise
        raise ours from error


def _sorted(error: Exception, doing: str) -> MexcflowError | None:
    """Return our error for one of clickhouse-connect, urllib3 or the network, None for any other."""
    from clickhouse_connect.driver.exceptions import Error, OperationalError, ProgrammingError
    from urllib3.exceptions import HTTPError

    code = getattr(error, "code", None) if isinstance(error, Error) else None
    if code is not None:
        return _by_code(int(code), doing, str(error))
    said = f"{doing}: " if doing else ""
    if isinstance(error, (OperationalError, HTTPError, ConnectionError, TimeoutError)):
        return StoreUnavailable(f"{said}{_reason(error)}", hint="Is the server up?")
    if isinstance(error, ProgrammingError):
        return StatementRefused(f"{said}{one_line(str(error))}")
    if isinstance(error, Error):
        # an answer without ClickHouse's code comes from something in between, e.g. a proxy's 502
        return StoreUnavailable(f"{said}{one_line(str(error))}", hint="Is it ClickHouse's HTTP port?")
    return None


def _by_code(code: int, doing: str, message: str) -> MexcflowError:
    text = f"{doing}: {one_line(message)}" if doing else one_line(message)
    if code in _TRANSIENT_CODES:
        return StoreUnavailable(text)
    if code in _DISK_CODES:
        return DiskFailed(text, hint="Is the disk full or read-only, or is a file gone?")
    if code in _PASSWORD_CODES:
        return StatementRefused(text, hint="Check the user and the password in --database")
    return StatementRefused(text)


def one_line(message: str) -> str:
    """Return ClickHouse's own message on one line, from its code to its name, without the stack trace."""
    start = message.find("Code: ")
    text = _TAIL.sub("", message[start:] if start > 0 else message).split(" (version ")[0].rstrip(". ")
    text = " ".join(_TAIL.sub("", _REPEATED_HEAD.sub("", text)).split())
    if len(text) <= _MESSAGE_CHARS:
        return text
    name = re.search(r" \([A-Z][A-Z0-9_]+\)$", text)
    return text[:_MESSAGE_CHARS] + " ..." + (name.group() if name else "")


def _reason(error: Exception) -> str:
    """Return the innermost cause: "Connection refused" says more than what was wrapped around it."""
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    return one_line(str(cause)) or type(cause).__name__
