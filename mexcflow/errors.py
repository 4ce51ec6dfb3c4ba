"""Every error of the package, sorted once where the foreign error enters.

Two families decide everything a caller may want to know:

- `Transient`: the same thing may succeed if it is repeated (a server that restarts, a lost
  connection). The pipeline tries again.
- `Permanent`: it would fail again (a wrong schema, an unknown contract, a full disk). The command
  stops with the error's exit code.

Each error says what went wrong and where; `hint` says what to do about it. `str(error)` is one line.

Exit codes: 0 fine, 1 found something wrong, 2 misuse, 69 database or exchange unreachable, 73 another writer,
74 disk, 75 too many errors (stopped on purpose).
"""


class MexcflowError(Exception):
    """Something went wrong: `what` (and where), and in `hint` what to do about it."""

    exit_code = 1

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = " ".join(what.split())
        self.hint = " ".join(hint.split())

    def __str__(self) -> str:
        return f"{self.what}. {self.hint}" if self.hint else self.what


class Permanent(MexcflowError):
    """Would fail again: stop and say so."""


class Transient(MexcflowError):
    """May succeed if repeated: wait and try again."""


class Misuse(Permanent):
    """An argument, a file or a name is wrong; nothing was changed."""

    exit_code = 2


class UnknownContract(Misuse):
    """The exchange does not know this symbol."""


class SchemaMismatch(Misuse):
    """A table of that name exists and is not ours: other columns or another engine."""


class ProxyRefused(Misuse):
    """The proxy cannot be reached or does not let us through.

    Only at the first connection of a run is that for good, and only if it is so of every proxy there is.
    """


class BannedByProxy(ProxyRefused):
    """The proxy answers with HTTP 403 or 451: `retry_after_s` is what it asks for, or 0."""

    def __init__(self, what: str, *, hint: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(what, hint=hint)
        self.retry_after_s = retry_after_s


class StatementRefused(Misuse):
    """The database understood us and refused the statement (syntax, unknown table, rights)."""


class FolderInUse(Permanent):
    """Another process owns the data folder."""

    exit_code = 73


class StreamInUse(Permanent):
    """Another process records this stream already."""

    exit_code = 73


class ForeignRows(Permanent):
    """A table that only we should write has other rows than we wrote."""

    exit_code = 73


class DiskFailed(Permanent):
    """The disk cannot be written or is nearly full."""

    exit_code = 74


class TooManyErrors(Permanent):
    """Stopped on purpose: the errors of one statistics interval went beyond the limit."""

    exit_code = 75


class StoreUnavailable(Transient):
    """The database does not answer."""

    exit_code = 69


class OwnerGone(StoreUnavailable):
    """The process that owned the data folder has ended: another one is found, or we own it."""


class ExchangeUnavailable(Transient):
    """The exchange does not answer a command that asks it something; a recording would try again."""

    exit_code = 69


class ConnectionLost(Transient):
    """The connection to the exchange is gone or was never made; `what` is the reason."""


class Banned(ConnectionLost):
    """The exchange answers with HTTP 403, 418, 429 or 451, or the proxy finds that we ask too much.

    `retry_after_s` is what the answer asks for, or 0.
    """

    def __init__(self, what: str, *, hint: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(what, hint=hint)
        self.retry_after_s = retry_after_s
