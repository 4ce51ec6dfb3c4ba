"""Address: what the URL of a proxy or of an endpoint says, and how it is shown."""

import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from mexcflow.errors import Misuse

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_LONGEST_SOCKS_WORD = 255
_URL_HINT = (
    "It looks like http://user:password@host:port; https://, socks5:// and socks5h:// are known, too. "
    "Write special characters in user and password as %40 for @, and so on"
)


class Proxy(NamedTuple):
    """A proxy's URL, taken apart."""

    scheme: str
    host: str
    port: int
    user: str
    password: str
    shown: str
    """The URL without user and password."""


def parse_proxy(url: str, *, where: str = "--proxy") -> Proxy:
    """Take a proxy's URL apart; raises `Misuse` unless we can use it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        user, password = unquote(parts.username or "", errors="strict"), unquote(parts.password or "")
    except ValueError:  # a port that is none, half an IPv6 address, what is no UTF-8
        host = None
    usable = host and port != 0 and parts.scheme in _PORTS
    if not usable or parts.path.strip("/") or parts.query or parts.fragment:
        raise Misuse(f"{where}: {redacted(url)!r} is no proxy's URL", hint=_URL_HINT)
    if ":" in user and "http" in parts.scheme:
        raise Misuse(f"{where}: the user of {redacted(url)!r} has a colon, which HTTP does not allow")
    assert host is not None  # noqa: S101 - for the type checker
    if "socks5" in parts.scheme and max(len(user.encode()), len(password.encode())) > _LONGEST_SOCKS_WORD:
        raise Misuse(
            f"{where}: user and password of {redacted(url)!r} are longer than the 255 bytes of SOCKS 5"
        )
    return Proxy(parts.scheme, host, port or _PORTS[parts.scheme], user, password, redacted(url))


def check_proxies(proxies: tuple[str, ...], *, where: str) -> None:
    """Raise `Misuse` unless each is a proxy's URL that we can use, and given once."""
    for proxy in proxies:
        parse_proxy(proxy, where=where)
    if len(set(proxies)) < len(proxies):
        raise Misuse(f"{where}: a proxy is given twice", hint="Keep one of them")


def redacted(url: str) -> str:
    """Return a URL (or what was meant as one) without user, password and query, for messages."""
    scheme = re.match(r"\w+://", url)
    front = scheme.group() if scheme else ""
    before, _, after = url.removeprefix(front).partition("?")
    address = before.rpartition("@")[2]
    host, _, port = address.partition("/")[0].rpartition(":")
    # a password with a question mark or a query with an @, a port or a password without a host: who knows
    if "@" in after or (host and port and "[" not in host and not port.isdigit()):
        return f"{front}..."
    return f"{front}{address}"


def parse_endpoint(url: str, *, where: str = "--endpoint") -> tuple[str, int, bool]:
    """Return host, port and whether it is TLS of a websocket's URL; raises `Misuse` unless it is one."""
    try:
        parts = urlsplit(url)
        host, port, is_secure = parts.hostname, parts.port, parts.scheme == "wss"
    except ValueError:
        host, port, is_secure = None, 0, False
    if not host or port == 0 or parts.scheme not in ("ws", "wss"):
        raise Misuse(
            f"{where}: {redacted(url)!r} is no websocket URL", hint="It looks like wss://host:port/path"
        )
    return host, port or (443 if is_secure else 80), is_secure


def check_endpoint(url: str, *, where: str) -> None:
    """Raise `Misuse` unless `url` is a websocket's."""
    parse_endpoint(url, where=where)
