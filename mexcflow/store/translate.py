"""Foreign errors become ours here and nowhere else.

ClickHouse's numeric code decides the family, never the text: a caller of the store sees
`StoreUnavailable` (may succeed if repeated), `DiskFailed` or `StatementRefused` (would fail again). Where
there is no code, something between us and ClickHouse answered, and the HTTP status decides.

The question for each code is: would the same statement succeed later, without our doing anything? When a
server is away or unwell, the answer is yes, and what was received waits in the journal; to stop the
recording would lose what comes meanwhile. So on a server its full disk and its unnamed exceptions are
transient too, while the embedded engine's disk is ours, and the journal's: there we stop.
"""

import contextlib
import re
import ssl
from collections.abc import Iterator

from mexcflow.errors import DiskFailed, MexcflowError, OwnerGone, StatementRefused, StoreUnavailable

_TRANSIENT_CODES = frozenset({
    95, 96, 198, 209, 210, 279, 1018,  # sockets, DNS, all connection tries failed, a peer is gone
    159, 160, 1017, 1019, 1020,  # timeouts, too slow, no query slot in time
    173, 241, 411, 439, 777, 778,  # memory, no thread to be had
    201, 202, 203, 290, 364, 373, 574, 700, 745, 749, 762, 763, 776,  # too many of something; overloaded
    216, 218, 384, 733, 738,  # the same INSERT still runs; a table or part is being worked on
    225, 242, 244, 254, 265, 285, 286, 289, 297, 319, 369, 415, 416, 571, 709, 999,  # keeper, replicas
    224, 234, 519, 529, 568, 904,  # the same: no leader, no shard, not yet there
    236, 394, 473, 667, 677, 696, 722, 734, 735,  # shutting down, cancelled, not up yet, deadlock avoided
    252,  # merges lag behind the inserts
    499, 500, 693, 707, 900, 903, 905,  # the object storage below the tables
})  # fmt: skip
_TRANSIENT_ON_A_SERVER = frozenset({
    3, 23, 97,  # the body of a request ended too early: between us and the server
    24, 75, 76, 77, 88, 172, 204, 214, 243, 294, 586,  # its disk is full or unwell: somebody will see to it
    410, 425,  # something it needs does not answer; a system call failed
    1000, 1001, 1002,  # exceptions of its libraries: mostly network, memory, disk
})  # fmt: skip
_TRANSIENT_OF_ANOTHER_PROCESS = frozenset({3, 23, 97, 1000, 1002})
"""The same where the data folder is ours and its engine runs in another process."""
_OWNER_HINT = "The process that owned the data folder is gone or busy; the next attempt finds another"
_DISK_CODES = frozenset({24, 75, 76, 77, 88, 107, 172, 204, 214, 243, 294, 586})
"""No space left, and everything else that happens only while files are written."""
_FILESYSTEM_ERROR = 1001
"""An exception of the C++ library: in the embedded engine a file that cannot be renamed or made."""
_PASSWORD_CODES = frozenset({192, 193, 194, 516})
_CERTIFICATE_HINT = (
    "If you or your own CA signed it, name that file in MEXCFLOW_CA_FILE; the URL's host has to be the "
    "certificate's"
)
_STATUS = re.compile(r"HTTP status (\d{3})")
_REFUSING_STATUSES = frozenset({
    301, 302, 303, 307, 308,  # it wants https, or another address
    400, 401, 403, 405, 407, 411, 413, 414, 431, 501,  # 404 may be a gateway whose server is away
})  # fmt: skip

_TAIL = re.compile(r"(?:,?\s*Stack trace\b.*|\s*\(version [^()]*(?:\([^()]*\)[^()]*)*\)\s*)$", re.DOTALL)
_REPEATED_HEAD = re.compile(r"(?:Code: \d+\. DB::Exception: )+(?=Code: \d+\. DB::Exception: )")
_MESSAGE_CHARS = 700


def code_of(error: MexcflowError) -> int | None:
    """Return ClickHouse's number of an error that came from there, None for any other."""
    code = getattr(error.__cause__, "code", None)
    return None if code is None else int(code)


@contextlib.contextmanager
def translated(doing: str, *, server: bool = False, remote: bool = False) -> Iterator[None]:
    """Raise what goes wrong inside as an error of ours that begins with `doing` ("insert into btc").

    `server`: the database is a server, whose disk is not ours. `remote`: it is in another process.
    """
    try:
        yield
    except MexcflowError:
        raise
    except Exception as error:
        ours = _sorted(error, doing, server=server, remote=remote or server)
        if ours is None:
            raise
        raise ours from error


def _sorted(error: Exception, doing: str, *, server: bool, remote: bool) -> MexcflowError | None:
    """Return our error for one of clickhouse-connect, urllib3 or the network, None for any other."""
    from clickhouse_connect.driver.exceptions import Error, OperationalError, ProgrammingError
    from urllib3.exceptions import HTTPError

    said = f"{doing}: " if doing else ""
    code = getattr(error, "code", None) if isinstance(error, Error) else None
    if code is not None:
        if remote and code in _TRANSIENT_OF_ANOTHER_PROCESS:
            return StoreUnavailable(f"{said}{one_line(str(error))}")
        return _by_code(int(code), f"{said}{one_line(str(error))}", server)
    if isinstance(error, ProgrammingError):
        return StatementRefused(f"{said}{one_line(str(error))}")
    if isinstance(error, Error) and (status := _STATUS.search(str(error))):
        # an answer without ClickHouse's code comes from something in between, e.g. a proxy's 502
        return _by_status(int(status[1]), f"{said}{one_line(str(error))}")
    if isinstance(error, (OperationalError, HTTPError, ConnectionError, TimeoutError)):
        cause = _innermost(error)
        if not server and isinstance(cause, ConnectionError):
            return OwnerGone(f"{said}{one_line(str(cause)) or type(cause).__name__}", hint=_OWNER_HINT)
        return _away(cause, said, "Is the server up?" if server else _OWNER_HINT)
    if isinstance(error, Error):
        return StoreUnavailable(f"{said}{one_line(str(error))}", hint="Is it ClickHouse's HTTP port?")
    return None


def _by_code(code: int, text: str, server: bool) -> MexcflowError:
    if server and code in _DISK_CODES & _TRANSIENT_ON_A_SERVER:
        return StoreUnavailable(text, hint="Is the server's disk full or read-only?")
    if code in _TRANSIENT_CODES or (server and code in _TRANSIENT_ON_A_SERVER):
        return StoreUnavailable(text)
    if code in _DISK_CODES or code == _FILESYSTEM_ERROR:  # on a server that one is transient, see above
        return DiskFailed(text, hint="Is the disk full or read-only, or are a folder's rights wrong?")
    if code in _PASSWORD_CODES:
        return StatementRefused(text, hint="Check the user and the password: --database, MEXCFLOW_PASSWORD")
    return StatementRefused(text)


def _by_status(status: int, text: str) -> MexcflowError:
    if status not in _REFUSING_STATUSES:
        return StoreUnavailable(text, hint="Is it ClickHouse's HTTP port?")
    if status < 400:
        return StatementRefused(text, hint="Another address is meant: is it https://?")
    if status == 413:
        return StatementRefused(text, hint="Let the proxy take larger bodies (nginx: client_max_body_size)")
    return StatementRefused(text, hint="Is it ClickHouse's HTTP port, and does a proxy let us through?")


def one_line(message: str) -> str:
    """Return ClickHouse's own message on one line, from its code to its name, without the stack trace."""
    start = message.find("Code: ")
    text = _TAIL.sub("", message[start:] if start > 0 else message).split(" (version ")[0].rstrip(". ")
    text = " ".join(_TAIL.sub("", _REPEATED_HEAD.sub("", text)).split())
    if len(text) <= _MESSAGE_CHARS:
        return text
    name = re.search(r" \([A-Z][A-Z0-9_]+\)$", text)
    return text[:_MESSAGE_CHARS] + " ..." + (name.group() if name else "")


def _away(cause: BaseException, said: str, hint: str) -> StoreUnavailable:
    if isinstance(cause, ssl.SSLCertVerificationError):
        # transient: an expired certificate is renewed by somebody else, and what comes meanwhile can wait
        return StoreUnavailable(
            f"{said}the server's certificate is not accepted: {cause.verify_message}", hint=_CERTIFICATE_HINT
        )
    if isinstance(cause, ssl.SSLError):
        tls_hint = (
            "Does this port speak TLS (https://, mostly 8443), and not plain HTTP (http://, mostly 8123)?"
        )
        return StoreUnavailable(f"{said}TLS: {cause.reason or cause}", hint=tls_hint)
    return StoreUnavailable(f"{said}{one_line(str(cause)) or type(cause).__name__}", hint=hint)


def _innermost(error: Exception) -> BaseException:
    """Return the innermost cause: "Connection refused" says more than what was wrapped around it."""
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    return cause
