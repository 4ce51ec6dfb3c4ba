"""Proxies that nobody here wrote, as Debian has them: tinyproxy, microsocks, dante; started on loopback."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

USER = "me"
PASSWORDS = {"tinyproxy": "s.e-c_r.3t", "microsocks": "s:e/c@r%t?", "dante": ""}
"""tinyproxy takes letters, digits and three signs; dante would want an account of this machine."""
KINDS = tuple(PASSWORDS)
_PROGRAMS = {"tinyproxy": "tinyproxy", "microsocks": "microsocks", "dante": "danted"}
_SCHEMES = {"tinyproxy": "http", "microsocks": "socks5", "dante": "socks5h"}

_TINYPROXY = """
Port {port}
Listen 127.0.0.1
Timeout 60
MaxClients 20
Allow 127.0.0.1
BasicAuth {user} {password}
LogFile "{folder}/tinyproxy.log"
PidFile "{folder}/tinyproxy.pid"
"""
_DANTE = """
logoutput: {folder}/dante.log
internal: 127.0.0.1 port = {port}
external: 127.0.0.1
socksmethod: none
clientmethod: none
user.privileged: {account}
user.unprivileged: {account}
client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
socks pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
"""


def program(kind: str) -> str | None:
    """Where it is installed; None where it is not."""
    return shutil.which(_PROGRAMS[kind], path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


class RealProxy:
    """A proxy as a process of its own."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._kind, self._folder = kind, folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.password = PASSWORDS[kind]
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, password: str = "") -> str:
        given = f"{USER}:{quote(password or self.password, safe='')}@" if self.password else ""
        return f"{_SCHEMES[self._kind]}://{given}127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self._folder / f"{self._kind}.out").open("ab") as out:
            self._process = subprocess.Popen(self._command(), stdout=out, stderr=out, start_new_session=True)
        until = time.monotonic() + 10
        while time.monotonic() < until:
            assert self._process.poll() is None, (self._folder / f"{self._kind}.out").read_text()
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)
        raise AssertionError(f"{self._kind} does not listen")

    def kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):  # with its children, which dante has
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _command(self) -> list[str]:
        path = program(self._kind)
        assert path is not None
        if self._kind == "microsocks":
            return [path, "-i", "127.0.0.1", "-p", str(self.port), "-u", USER, "-P", self.password]
        text = _TINYPROXY if self._kind == "tinyproxy" else _DANTE
        file = self._folder / f"{self._kind}.conf"
        values = {"port": self.port, "folder": self._folder, "user": USER, "password": self.password}
        file.write_text(text.format(account=getpass.getuser(), **values))
        if self._kind == "tinyproxy":
            return [path, "-d", "-c", str(file)]
        return [path, "-f", str(file), "-p", str(self._folder / "dante.pid"), "-N", "1"]


@contextmanager
def running(kind: str, folder: Path) -> Iterator[RealProxy]:
    """One of them, until the end of the block."""
    proxy = RealProxy(kind, folder)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.kill()
