"""A docker daemon for the tests: what mexcflow asks of one, over a unix socket.

`container` and `volumes` are what it tells, in docker's own shapes. `refuses` makes it answer everything
with 403, `holds` makes it take connections and never answer, `no_sizes` makes it fail to measure volumes.
"""

import http.server
import json
import re
import socketserver
import threading
from pathlib import Path
from typing import Any


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class DockerDaemon:
    """Runs in a `with`; `environment` leads docker's clients to it."""

    def __init__(self, folder: Path, *, port: int) -> None:
        self.socket = folder / "docker.sock"
        self.log = folder / "container-json.log"
        self.refuses = self.holds = self.no_sizes = False
        self.asked: list[str] = []
        self.container: dict[str, Any] = {
            "Id": "c0ffee",
            "Image": "clickhouse/clickhouse-server:26.8",
            "Labels": {"com.docker.compose.service": "clickhouse", "com.docker.compose.project": "mexcflow"},
            "Ports": [
                {"PrivatePort": 9000, "Type": "tcp"},
                {"IP": "127.0.0.1", "PrivatePort": 8123, "PublicPort": port, "Type": "tcp"},
            ],
            "Mounts": [
                {"Type": "volume", "Name": "mexcflow_database", "Destination": "/var/lib/clickhouse"},
                {"Type": "bind", "Source": "/etc/x", "Destination": "/etc/clickhouse-server/x"},
            ],
        }
        self.details: dict[str, Any] = {
            "Id": "c0ffee",
            "Name": "/mexcflow-clickhouse-1",
            "RestartCount": 0,
            "LogPath": str(self.log),
            "State": {"OOMKilled": False, "Health": {"Status": "healthy"}},
            "HostConfig": {"Memory": 1 << 30},
        }
        self.volumes: list[dict[str, Any]] = [
            {"Name": "mexcflow_database", "UsageData": {"Size": 123_456_789, "RefCount": 1}},
            {"Name": "another", "UsageData": {"Size": 5, "RefCount": 1}},
        ]
        self._ended = threading.Event()
        daemon = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def address_string(self) -> str:
                return "unix"

            def do_GET(self) -> None:
                daemon.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(str(self.socket), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def environment(self) -> dict[str, str]:
        return {"DOCKER_HOST": f"unix://{self.socket}"}

    def __enter__(self) -> "DockerDaemon":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        path = re.sub(r"^/v[\d.]+", "", request.path)
        self.asked.append(path)
        if self.holds:
            self._ended.wait()
            return
        status, body = self._reply(path)
        payload = json.dumps(body).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(payload)))
        request.end_headers()
        request.wfile.write(payload)

    def _reply(self, path: str) -> tuple[int, Any]:
        if self.refuses:
            return 403, {"message": "authorization denied by a plugin"}
        if path == "/version":
            return 200, {"ApiVersion": "1.41", "Version": "20.10"}
        if path.startswith("/containers/json"):
            return 200, [self.container]
        if path == "/containers/c0ffee/json":
            return 200, self.details
        if path == "/system/df":
            return (500, {"message": "disk on fire"}) if self.no_sizes else (200, {"Volumes": self.volumes})
        return 404, {"message": f"no such thing: {path}"}
