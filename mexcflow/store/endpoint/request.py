"""A request's head: parameters, headers, who sends it, and whether we listen to them at all."""

import base64
import hmac
import ipaddress
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from mexcflow.store.endpoint.refusal import Refusal

OWNER_HEADER = "x-mexcflow-owner"

_PROTOCOL = frozenset(
    (
        *(
            "query",
            "database",
            "default_format",
            "query_id",
            "replace_running_query",
            "client_protocol_version",
        ),
        *("session_id", "session_timeout", "session_check", "close_session", "user", "password", "role"),
        *("compress", "decompress", "buffer_size", "wait_end_of_query", "quota_key", "stacktrace"),
    )
)
"""Parameters of the protocol; every other one that is no `param_x` is a setting."""


class Request:
    """The head of a request; header names are in small letters, of what comes twice the last counts."""

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[str, str] = {}
        self.hosts: list[str] = []
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1"), value.decode("latin-1").strip()
            self.headers[key] = text
            if key == "host":
                self.hosts.append(text)
        query = scope["query_string"].decode("latin-1")
        self.parameters = dict(parse_qsl(query, keep_blank_values=True, errors="surrogateescape"))

    def flag(self, name: str) -> bool:
        """Return whether a parameter is set to something else than 0 or false."""
        return self.parameters.get(name, "").lower() not in ("", "0", "false")

    @property
    def reads_only(self) -> bool:
        """Whether nothing may be changed: GET and HEAD never do."""
        return self.method in ("GET", "HEAD")

    @property
    def has_body(self) -> bool:
        """Whether a body is worth looking at."""
        announced = self.headers.get("content-length", "0") != "0" or "transfer-encoding" in self.headers
        return announced and not self.reads_only

    @property
    def asks_nothing(self) -> bool:
        """Whether it only wants to know that somebody is there."""
        return self.path == "/" and self.reads_only and "query" not in self.parameters

    @property
    def settings(self) -> dict[str, str]:
        """The engine's settings for this statement."""
        given = self.parameters.items()
        found = {name: value for name, value in given if name not in _PROTOCOL and name[:6] != "param_"}
        found.setdefault("session_timezone", "UTC")
        return found

    @property
    def bound(self) -> dict[str, str]:
        """What fills `{name:Type}` in the statement."""
        return {name[6:]: value for name, value in self.parameters.items() if name[:6] == "param_"}

    @property
    def default_format(self) -> str:
        """The format of a result for which the statement names none."""
        name = (
            self.parameters.get("default_format") or self.headers.get("x-clickhouse-format") or "TabSeparated"
        )
        if not name.isidentifier():
            raise Refusal(73, f"Code: 73. DB::Exception: Unknown format {name[:40]}. (UNKNOWN_FORMAT)")
        return name

    @property
    def database(self) -> str:
        """The database of table names without one; '' for the engine's own."""
        return self.parameters.get("database") or self.headers.get("x-clickhouse-database", "")

    @property
    def passwords(self) -> list[str]:
        """What the client says to prove that it may, in each of the ways there are."""
        kind, _, credentials = self.headers.get("authorization", "").partition(" ")
        found = [self.headers.get("x-clickhouse-key"), self.parameters.get("password")]
        if kind.lower() == "bearer":
            found.append(credentials.strip())
        elif kind.lower() == "basic":
            try:
                found.append(base64.b64decode(credentials).decode("utf-8", "replace").partition(":")[2])
            except ValueError:
                raise Refusal(516, "The Authorization header is not Base64") from None
        return [password for password in found if password]


class Gate:
    """Who is let in: programs of this machine that know the token, and no web page."""

    def __init__(self, *, token: str, owner: str, host: str) -> None:
        self._token = token.encode()
        self._owner = owner
        self._names = {"localhost", "127.0.0.1", "::1", host.lower().strip("[]")}
        # a page can make a name of its own point to us, but it cannot make its name an address
        self._any_address = host in ("", "0.0.0.0", "::")  # noqa: S104
        if self._any_address:
            self._names.add(socket.gethostname().lower())

    def check_site(self, request: Request) -> None:
        """Raise `Refusal` for a request that a web page made its browser send."""
        if len(request.hosts) != 1 or not self._is_ours(request.hosts[0]):
            raise Refusal(0, "This Host is not served here\n", status=403)
        origin = request.headers.get("origin")
        if origin is not None and _netloc(origin)[1] != request.hosts[0].lower():
            raise Refusal(0, "Requests from web pages are not served\n", status=403)
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Refusal(0, "Requests from web pages are not served\n", status=403)

    def check_sender(self, request: Request) -> None:
        """Raise `Refusal` for a request that was meant for another owner, or comes without the token."""
        if request.headers.get(OWNER_HEADER, self._owner) != self._owner:
            raise Refusal(0, "Another process owns the folder by now\n", status=421)
        # each one is compared
        right = [
            hmac.compare_digest(password.encode("utf-8", "replace"), self._token)
            for password in request.passwords
        ]
        if not right or not all(right):
            name = request.headers.get("x-clickhouse-user") or request.parameters.get("user") or "default"
            raise Refusal(
                516,
                f"{name[:80]}: Authentication failed: password is incorrect, or there is no such user.",
            )

    def _is_ours(self, host: str) -> bool:
        name = _netloc(f"//{host}")[0]
        if name in self._names:
            return True
        if not self._any_address:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _netloc(url: str) -> tuple[str, str]:
    """Return the host, and the host with the port as they are written; both '' for what is no URL."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "").lower(), parts.netloc.lower()
    except ValueError:
        return "", ""
