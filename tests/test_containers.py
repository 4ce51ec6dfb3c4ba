"""What docker knows of the database's container: found, measured, and never in the way."""

import os
import shutil
import subprocess
import sys

import orjson
import pytest

from mexcflow.ops.containers import Container, Seen, look_up
from mexcflow.ops.verify import verify
from mexcflow.store import ensure_table, open_store
from tests.conftest import MEXCFLOW, environment
from tests.docker_daemon import DockerDaemon
from tests.http_front import HttpFront

URL = "http://mexcflow@127.0.0.1:8123"


@pytest.fixture
def daemon(tmp_path):
    with DockerDaemon(tmp_path, port=8123) as daemon:
        daemon.log.write_text("one line\n")
        yield daemon


def asked(daemon: DockerDaemon, location: str = URL) -> Seen:
    return look_up(location, daemon.environment)


def test_the_container_is_found_by_its_port_and_measured(daemon):
    (daemon.log.parent / f"{daemon.log.name}.1").write_text("older\n")  # rotated
    assert asked(daemon) == Seen(
        container=Container(
            name="mexcflow-clickhouse-1",
            image="clickhouse/clickhouse-server:26.8",
            volumes={"mexcflow_database": 123_456_789},
            log_bytes=len("one line\nolder\n"),
            memory_limit_bytes=1 << 30,
            health="healthy",
        ),
        notes=[],
    )


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.1.1", "[::1]"])
def test_each_name_of_this_machine_is_one(daemon, host):
    assert asked(daemon, f"http://{host}:8123").container


def test_another_machine_another_port_another_program_are_not_the_database(daemon):
    assert asked(daemon, "http://mexcflow@db.example:8123") == Seen()
    assert daemon.asked == []  # docker is not even asked
    assert asked(daemon, "http://mexcflow@127.0.0.1:8124") == Seen()
    daemon.container["Image"] = "nginx"
    daemon.container["Labels"]["com.docker.compose.service"] = "web"
    assert asked(daemon) == Seen()


def test_only_containers_of_a_compose_file_are_asked_for(daemon):
    asked(daemon)
    (listing,) = [path for path in daemon.asked if path.startswith("/containers/json")]
    assert "com.docker.compose.service" in listing


def test_a_daemon_of_another_machine_is_not_asked():
    for host in ("ssh://user@db.example", "tcp://db.example:2375"):
        assert look_up(URL, {"DOCKER_HOST": host}) == Seen()


def test_without_a_daemon_nothing_is_said(tmp_path):
    assert look_up(URL, {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}) == Seen()
    assert look_up(URL, {"DOCKER_HOST": "tcp://127.0.0.1:1"}) == Seen()


def test_a_daemon_that_refuses_is_a_note(daemon):
    daemon.refuses = True
    seen = asked(daemon)
    assert seen.container is None
    (note,) = seen.notes
    assert note.startswith("docker did not tell of the database's container: ")
    assert "403" in note


def test_a_daemon_that_hangs_is_given_up(daemon):
    daemon.holds = True
    seen = asked(daemon)
    assert seen.container is None
    assert "timed out" in seen.notes[0]


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="nothing takes root's rights")
def test_no_right_to_ask_is_a_note(daemon):
    daemon.socket.chmod(0)
    code = f"from mexcflow.ops.containers import look_up; print(look_up({URL!r}).notes)"
    rights = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*rights, sys.executable, "-c", code],
        capture_output=True, text=True, timeout=60, env=environment(**daemon.environment), check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "Permission denied" in done.stdout


def test_a_log_out_of_reach_is_a_note(daemon):
    daemon.details["LogPath"] = "/nowhere/c0ffee-json.log"
    seen = asked(daemon)
    assert seen.container.log_bytes is None
    assert seen.notes == [
        "the size of mexcflow-clickhouse-1's log cannot be read: No such file or directory "
        "(/nowhere/c0ffee-json.log)"
    ]


def test_a_container_without_a_log_file_is_none(daemon):
    daemon.details["LogPath"] = ""
    assert (asked(daemon).container.log_bytes, asked(daemon).notes) == (None, [])


def test_sizes_that_docker_does_not_know_are_a_note_and_no_number(daemon):
    daemon.volumes[0]["UsageData"]["Size"] = -1  # the volume is on another machine
    seen = asked(daemon)
    assert seen.container.volumes == {"mexcflow_database": None}
    assert seen.container.volume_bytes is None
    assert "does not know the size of mexcflow_database" in seen.notes[0]
    daemon.no_sizes = True
    seen = asked(daemon)
    assert seen.container.volume_bytes is None
    assert "500" in seen.notes[0]


def test_all_volumes_count_and_one_unknown_spoils_the_sum():
    assert Container(name="c", image="i", volumes={"a": 1, "b": 2}).volume_bytes == 3
    assert Container(name="c", image="i", volumes={"a": 1, "b": None}).volume_bytes is None
    assert Container(name="c", image="i").volume_bytes is None


def test_restarts_and_a_want_of_memory_are_notes(daemon):
    daemon.details["RestartCount"] = 3
    daemon.details["State"] = {"OOMKilled": True, "Health": {"Status": "unhealthy"}}
    seen = asked(daemon)
    assert (seen.container.restarts, seen.container.out_of_memory) == (3, True)
    assert seen.notes == [
        "docker has restarted mexcflow-clickhouse-1 3 times: see its log",
        "mexcflow-clickhouse-1 or a process in it was killed for want of memory (it may have 1,074 MB)",
        "mexcflow-clickhouse-1 is unhealthy: it does not answer docker's health check",
    ]


# verify


@pytest.fixture
def front(tmp_path):
    with open_store(str(tmp_path / "data")) as embedded:
        ensure_table(embedded, "btc")
        embedded.insert_rows("btc", [(1_700_000_000_000, "d", "1|1|1")])
        with HttpFront(embedded) as front:
            yield front


def test_verify_has_the_volumes_size_in_place_of_the_tables(front, tmp_path, monkeypatch):
    url = f"http://127.0.0.1:{front.port}"
    with DockerDaemon(tmp_path, port=front.port) as daemon, open_store(url) as store:
        daemon.log.touch()
        monkeypatch.setenv("DOCKER_HOST", daemon.environment["DOCKER_HOST"])
        report = verify(store, [], now_ms=1_700_000_060_000)
        assert report.volume_bytes == 123_456_789
        assert report.container.volumes == {"mexcflow_database": 123_456_789}
        daemon.refuses = True
        report = verify(store, [], now_ms=1_700_000_060_000)
        assert report.ok  # docker's moods are no problem of the data
        assert 0 < report.volume_bytes < 1_000_000
        assert "docker did not tell" in report.notes[0]


def test_the_embedded_folder_is_no_business_of_docker(tmp_path, monkeypatch):
    with DockerDaemon(tmp_path, port=8123) as daemon:
        monkeypatch.setenv("DOCKER_HOST", daemon.environment["DOCKER_HOST"])
        with open_store(str(tmp_path / "data")) as store:
            ensure_table(store, "btc")
            assert verify(store, [], now_ms=1_700_000_060_000).container is None
        assert daemon.asked == []


def test_the_command_shows_the_container_as_a_table_and_as_json(front, tmp_path):
    with DockerDaemon(tmp_path, port=front.port) as daemon:
        daemon.log.write_text("x" * 2_000_000)

        def run(*options: str) -> str:
            done = subprocess.run(
                [*MEXCFLOW, "verify", "--database", f"http://127.0.0.1:{front.port}", *options],
                cwd=tmp_path, capture_output=True, text=True, timeout=60,
                env=environment(**daemon.environment), check=False,
            )  # fmt: skip
            assert done.returncode in (0, 1), done.stderr
            return done.stdout

        words = run().split()
        for word in (
            "mexcflow-clickhouse-1",
            "clickhouse/clickhouse-server:26.8",
            "mexcflow_database",
            "123.5",
        ):
            assert word in words
        assert "2.0 MB" in run()
        report = orjson.loads(run("--json"))
        assert report["volume_bytes"] == report["container"]["volumes"]["mexcflow_database"] == 123_456_789
        assert report["container"]["log_bytes"] == 2_000_000
