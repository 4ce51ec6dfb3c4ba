"""Who owns a data folder, from the outside: its `endpoint.json`, and whether somebody answers there.

Opens no database, and does without the store's libraries: a health check runs often. The token in that file
is for those who may read it, and is never shown.
"""

import socket
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

_CONNECT_S = 0.3
ENDPOINT = "endpoint.json"


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """What the owner of a data folder says of itself, but for its token."""

    url: str
    pid: int
    owner: str = ""

    @property
    def answers(self) -> bool:
        """Whether somebody listens there; a killed owner leaves its file behind."""
        try:
            parts = urlsplit(self.url)
            address = (parts.hostname or "", parts.port or 0)
            with socket.create_connection(address, timeout=_CONNECT_S):
                return True
        except (OSError, ValueError):
            return False


def read_owner(folder: Path) -> Owner | None:
    """Return who owns a data folder, or did last; None when nobody wrote it down so that we may read it."""
    path = folder / ENDPOINT
    try:
        # anything but a file (a pipe) would keep us waiting
        return msgspec.json.decode(path.read_bytes(), type=Owner) if path.is_file() else None
    except (OSError, msgspec.DecodeError):
        return None
