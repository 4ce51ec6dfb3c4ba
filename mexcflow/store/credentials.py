"""A server's URL and its password: where they come from, and what of them may be shown.

A password stands in the URL, percent-encoded where it holds `@`, `/`, `#`, `%` or a space. Where the URL
names a user and no password, it comes, as it is, from MEXCFLOW_PASSWORD, else from the file that
MEXCFLOW_PASSWORD_FILE names (a Docker secret), without the line's end. `http://user:@host` says that there
is none. The file is read each time a database is opened, so a new start sees a changed one.
"""

import os
import re
import ssl
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from mexcflow.config import CA_FILE_VARIABLE, PASSWORD_FILE_VARIABLE, PASSWORD_VARIABLE
from mexcflow.errors import Misuse

_ADDRESS = re.compile(r"[^/]*@[^/]*|[\w.-]+:\d+")
_PORTS = {"http": 8123, "https": 8443}


class Address(NamedTuple):
    """A server, and who we are there."""

    scheme: str
    host: str
    port: int
    user: str
    password: str
    shown: str
    """The URL without the password."""


def read_address(location: str) -> Address:
    """Return what a server's URL says; raises `Misuse`, which shows no password."""
    url, port = _checked_url(location)
    named = f"{url.username}@" if url.username else ""
    return Address(
        scheme=url.scheme,
        host=url.hostname or "",
        port=port,
        user=unquote(url.username or "default"),
        password=_password(url),
        shown=f"{url.scheme}://{named}{_host(url)}:{port}",
    )


def shown_location(location: str) -> str:
    """Return a folder as it is and a URL without its password, also one that is not right."""
    scheme, found, rest = location.partition("://")
    if not found:
        return location
    user, at, address = rest.rpartition("@")
    return f"{scheme}://{re.split('[:@/]', user)[0]}{at}{address}"


def refuse_address(location: str) -> None:
    """Raise `Misuse` for what was meant as a server and lacks its scheme; it may hold a password."""
    if "://" not in location and _ADDRESS.fullmatch(location.strip()):
        raise Misuse(
            "--database: this looks like a server's address and not like a folder",
            hint="Put http:// before it, or ./ if it is a folder",
        )


def read_certificates() -> ssl.SSLContext:
    """Return who may vouch for a server: what MEXCFLOW_CA_FILE names and nobody else, or the system's own.

    SSL_CERT_FILE would do the same for the connection to the exchange, which has a public certificate.
    """
    file = os.environ.get(CA_FILE_VARIABLE)
    try:
        return ssl.create_default_context(cafile=file or None)
    except ssl.SSLError as error:
        raise Misuse(f"{CA_FILE_VARIABLE}: {file} holds no certificate in PEM form") from error
    except OSError as error:
        raise Misuse(f"{CA_FILE_VARIABLE}: {file} cannot be read: {error.strerror}") from error


def _password(url: SplitResult) -> str:
    if url.password is not None or not url.username:
        return unquote(url.password or "")
    given = os.environ.get(PASSWORD_VARIABLE)
    if given:
        return given
    file = os.environ.get(PASSWORD_FILE_VARIABLE)
    return _read_password(Path(file)) if file else ""


def _read_password(file: Path) -> str:
    try:
        password = file.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise Misuse(f"{PASSWORD_FILE_VARIABLE}: {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Misuse(f"{PASSWORD_FILE_VARIABLE}: {file} is no text in UTF-8") from error
    if not password:
        raise Misuse(
            f"{PASSWORD_FILE_VARIABLE}: {file} is empty", hint="It holds the password and nothing else"
        )
    return password


def _checked_url(location: str) -> tuple[SplitResult, int]:
    """Return the parts of a server's URL and its port."""
    hint = "Give http://user:password@host:8123, https://... or a folder"
    encode = "If the password holds @, /, #, ? or %, write it percent-encoded or give it in MEXCFLOW_PASSWORD"
    try:
        url = urlsplit(location.strip())
        port = url.port
    except ValueError:
        raise Misuse(
            "--database: this is no URL: its host or port cannot be read", hint=f"{hint}. {encode}"
        ) from None
    if url.scheme not in _PORTS:
        raise Misuse(f"--database: {url.scheme}:// is not spoken here", hint=hint)
    if not url.hostname:
        raise Misuse("--database: the URL names no host", hint=hint)
    if url.path.strip("/") or url.query or url.fragment:
        raise Misuse("--database: nothing may follow the port in the URL", hint=f"{hint}. {encode}")
    return url, port or _PORTS[url.scheme]


def _host(url: SplitResult) -> str:
    host = url.hostname or ""
    return f"[{host}]" if ":" in host else host
