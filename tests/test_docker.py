"""Against a real docker daemon: the image is built and records; verify measures a real container.

Needs a daemon that may be used (DOCKER_HOST is obeyed) and a static busybox; skipped elsewhere. Nothing is
fetched: the base of the image is made of this machine's Python, and what mexcflow needs of what is installed
here. Everything is removed at the end.
"""

import contextlib
import http.server
import shutil
import threading
import tomllib
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import docker
import pytest
from docker.errors import BuildError, DockerException, ImageNotFound

from mexcflow.ops.containers import look_up
from mexcflow.ops.verify import verify
from mexcflow.simulator import Simulator
from mexcflow.store import open_store
from tests.conftest import ROOT, mexcflow, wait_for
from tests.docker_base import base_image
from tests.http_front import HttpFront
from tests.wheelhouse import needed_by, pack

NAME = f"mexcflow-test-{uuid.uuid4().hex[:8]}"
BUSYBOX = shutil.which("busybox")
MB = 1_000_000
LABELS = {"com.docker.compose.service": "clickhouse", "com.docker.compose.project": NAME}


def daemon() -> docker.DockerClient | None:
    try:
        return docker.from_env(timeout=120)
    except (DockerException, OSError):
        return None


pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(daemon() is None, reason="no docker daemon answers here"),
    pytest.mark.skipif(BUSYBOX is None, reason="busybox is the shell of the image's base"),
]


class _Files(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, without a line for each."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    client = daemon()
    yield client
    for container in client.containers.list(all=True, filters={"name": NAME}):
        container.remove(force=True, v=True)
    for volume in client.volumes.list(filters={"name": NAME}):
        volume.remove(force=True)
    for tag in ("mexcflow", "build", "clickhouse", "base"):
        with contextlib.suppress(ImageNotFound):
            client.images.remove(f"{NAME}-{tag}", force=True)
    client.close()


@pytest.fixture(scope="module")
def base(client) -> str:
    files, variables = base_image(Path(BUSYBOX).resolve())
    changes = [f"ENV {name}={value}" for name, value in variables.items()]
    client.api.import_image_from_data(files, repository=f"{NAME}-base", changes=changes)
    return f"{NAME}-base"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Iterator[str]:
    """What mexcflow needs, at a URL: the build reaches nothing else."""
    folder = tmp_path_factory.mktemp("wheels")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for package in needed_by(
        *project["project"]["dependencies"], *project["build-system"]["requires"]
    ).values():
        pack(package, folder)
    handler = partial(_Files, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def image(client, base, wheels) -> str:
    """The image of the Dockerfile, built as a user would."""
    arguments = {"BASE_IMAGE": base, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": wheels}
    tag = f"{NAME}-mexcflow"
    options = {"buildargs": arguments, "network_mode": "host", "rm": True, "forcerm": True}
    try:
        # the first stage by name, so that it can be removed at the end
        client.images.build(path=str(ROOT), tag=f"{NAME}-build", target="build", **options)
        client.images.build(path=str(ROOT), tag=tag, **options)
    except BuildError as error:
        pytest.fail("".join(line.get("stream", "") for line in error.build_log)[-3000:])
    return tag


def run(client: docker.DockerClient, image: str, *words: str, **more) -> str:
    return client.containers.run(
        image, list(words), name=f"{NAME}-{uuid.uuid4().hex[:6]}", remove=True, **more
    ).decode()


def test_the_image_is_small_and_has_no_rights(client, base, image):
    assert run(client, image, "--version").startswith("mexcflow ")
    assert run(client, image, "-c", "id -u; id -g", entrypoint="sh").split() == ["10001", "10001"]
    inspected = client.images.get(image).attrs["Config"]
    assert (inspected["Entrypoint"], inspected["StopSignal"]) == (["mexcflow"], "SIGTERM")
    added = client.images.get(image).attrs["Size"] - client.images.get(base).attrs["Size"]
    assert added < 100 * MB
    there = run(client, image, "-c", "ls /opt/mexcflow/lib/python3*/site-packages", entrypoint="sh").split()
    assert {"mexcflow", "clickhouse_connect", "websocket"} <= set(there)
    assert not {"chdb", "pip", "hatchling", "pyarrow", "numpy"} & set(there)


def test_a_container_records_and_ends_in_order_when_it_is_stopped(client, image, tmp_path):
    with open_store(str(tmp_path / "data")) as embedded:
        with HttpFront(embedded) as front, Simulator(speed=20) as exchange:
            container = client.containers.run(
                image,
                ["run", "--symbol", "BTC_USDT", "--endpoint", exchange.url, "--flush-interval", "0.2"],
                name=f"{NAME}-btc",
                environment={"MEXCFLOW_DATABASE": f"http://127.0.0.1:{front.port}"},
                volumes={f"{NAME}-journals": {"bind": "/var/lib/mexcflow/journal"}},
                network_mode="host", detach=True, read_only=True, cap_drop=["ALL"], init=True,
                tmpfs={"/tmp": ""}, security_opt=["no-new-privileges:true"],
            )  # fmt: skip
            wait_for(lambda: len(front.inserts) > 5, seconds=30, what=container.logs)
            container.stop(timeout=30)
            assert container.wait()["StatusCode"] == 0, container.logs()
        kinds = dict(embedded.query("SELECT toString(mt), count() FROM mexc_data.btc GROUP BY mt"))
    assert kinds["d"] > 0
    assert kinds["dp"] > 0
    assert mexcflow("verify", "--table", "btc", cwd=tmp_path).returncode == 0
    journal = run(client, image, "-c", "ls /var/lib/mexcflow/journal/mexc/BTC_USDT", entrypoint="sh",
                  volumes={f"{NAME}-journals": {"bind": "/var/lib/mexcflow/journal"}})  # fmt: skip
    assert "00000001.open" in journal.split()


@pytest.fixture
def front(tmp_path) -> Iterator[HttpFront]:
    with open_store(str(tmp_path / "data")) as embedded, HttpFront(embedded) as front:
        yield front


@pytest.fixture
def database(client, base, front) -> docker.models.containers.Container:
    """A container like a compose file's database: a volume of 7 MB, a log, restarted once, a port published.

    Its port is published on another address of this machine, because what answers as the database is `front`.
    """
    client.images.get(base).tag(f"{NAME}-clickhouse")
    work = (
        "echo begin; test -f /data/file && exec sleep 600; "
        "dd if=/dev/zero of=/data/file bs=1000000 count=7 2>/dev/null; exit 1"
    )
    container = client.containers.run(
        f"{NAME}-clickhouse",
        ["sh", "-c", work],
        name=f"{NAME}-database",
        labels=LABELS,
        volumes={f"{NAME}-database": {"bind": "/data"}},
        ports={"8123/tcp": ("127.0.0.2", front.port)},
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 5},
        mem_limit="64m",
        detach=True,
        init=True,
    )
    wait_for(lambda: _restarted(container), seconds=30, what="the container's restart")
    return container


def _restarted(container: docker.models.containers.Container) -> bool:
    container.reload()
    return container.attrs["RestartCount"] == 1 and container.status == "running"


def test_verify_measures_the_volume_and_the_log_of_the_databases_container(database, front):
    seen = look_up(f"http://127.0.0.1:{front.port}").container
    assert seen.name == f"{NAME}-database"
    assert seen.volumes == {f"{NAME}-database": pytest.approx(7 * MB, rel=0.01)}
    assert (seen.restarts, seen.out_of_memory, seen.memory_limit_bytes) == (1, False, 64 << 20)
    log = Path(database.attrs["LogPath"])
    assert seen.log_bytes == (log.stat().st_size if log.exists() else None)
    with open_store(f"http://127.0.0.1:{front.port}") as store:
        report = verify(store, [], now_ms=1_700_000_000_000)
    assert report.volume_bytes == seen.volume_bytes
    assert report.container.volumes == seen.volumes
    assert any("has restarted" in note for note in report.notes)
