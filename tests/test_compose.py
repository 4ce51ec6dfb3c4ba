"""docker-compose.yml, the Dockerfile and their make targets: what they name exists, what they run parses.

None of this needs docker. Where a compose is installed, it reads the file as well; what runs in containers is
in test_docker.py.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from mexcflow.cli import repair, run, setup, simulate, sql, verify  # noqa: F401 - each adds to `app`
from mexcflow.cli.app import app
from mexcflow.config import CONFIG_VARIABLE, DATABASE_VARIABLE, load_instances
from tests.conftest import ROOT

FILE = ROOT / "docker-compose.yml"
COMPOSE = yaml.safe_load(FILE.read_text())
SERVICES = COMPOSE["services"]
LIVE = {"clickhouse", "setup", "btc", "eth", "sol"}
DEMO = {"simulator"} | {f"demo-{name}" for name in LIVE}
EXAMPLE = (ROOT / ".env.example").read_text()
VARIABLES = set(re.findall(r"^(?:# )?([A-Z_]+)=", EXAMPLE, re.M))
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMMANDS = typer.main.get_command(app).commands
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
RECORDERS = [name for name in OURS if SERVICES[name]["command"][0] == "run"]
SERVERS = ["clickhouse", "demo-clickhouse"]


def parsed(words: list[str]) -> dict:
    """What a command line of ours means; raises what the user would see."""
    command = COMMANDS[words[0]]
    return command.make_context(words[0], list(words[1:])).params


# the services


def test_the_services_are_those_of_the_two_profiles():
    assert {name for name in SERVICES if SERVICES[name]["profiles"] == ["live"]} == LIVE
    assert {name for name in SERVICES if SERVICES[name]["profiles"] == ["demo"]} == DEMO
    assert set(SERVICES) == LIVE | DEMO


@pytest.mark.parametrize("name", OURS)
def test_a_command_is_taken_as_written(name):
    assert parsed(SERVICES[name]["command"]) is not None


@pytest.mark.parametrize("name", RECORDERS)
def test_a_health_check_asks_for_the_symbol_that_is_recorded(name):
    pytest.importorskip("mexcflow.cli.status")
    how, program, *words = SERVICES[name]["healthcheck"]["test"]
    assert (how, program) == ("CMD", "mexcflow")
    commands = typer.main.get_command(app).commands
    asked = commands[words[0]].make_context(words[0], words[1:]).params["symbol"]
    assert asked in (
        parsed(SERVICES[name]["command"])["symbol"],
        [parsed(SERVICES[name]["command"])["symbol"]],
    )


def test_each_shipped_instance_is_recorded_once_live_and_once_in_the_demo():
    symbols = sorted(instance.symbol for instance in load_instances(ROOT / "instances"))
    for profile in ("live", "demo"):
        recorded = [name for name in RECORDERS if SERVICES[name]["profiles"] == [profile]]
        assert sorted(parsed(SERVICES[name]["command"])["symbol"] for name in recorded) == [
            [symbol] for symbol in symbols
        ]


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_waits_for_is_of_its_own_profile(name):
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert SERVICES[other]["profiles"] == SERVICES[name]["profiles"]
        assert ("healthcheck" in SERVICES[other]) == (how["condition"] == "service_healthy")
        ends = SERVICES[other].get("restart") is None
        assert ends == (how["condition"] == "service_completed_successfully")


def test_the_demo_has_nothing_in_common_with_what_is_recorded():
    def named(profile: str) -> set[str]:
        mounts = [m for s in SERVICES.values() if s["profiles"] == [profile] for m in s.get("volumes", ())]
        return {mount.split(":")[0] for mount in mounts} & set(COMPOSE["volumes"])

    assert named("live") == {"database", "journals"}
    assert named("demo") == {"demo-database", "demo-journals"}
    assert named("live") | named("demo") == set(COMPOSE["volumes"])
    for name in RECORDERS:
        demo = SERVICES[name]["profiles"] == ["demo"]
        assert (parsed(SERVICES[name]["command"])["endpoint"] is not None) == demo
        assert ("@demo-clickhouse:" in SERVICES[name]["environment"][DATABASE_VARIABLE]) == demo


def test_the_simulator_listens_where_the_demo_looks_for_it():
    listens = parsed(SERVICES["simulator"]["command"])
    assert listens["host"] == "0.0.0.0"
    endpoints = {parsed(SERVICES[name]["command"])["endpoint"] for name in RECORDERS} - {None}
    assert endpoints == {f"ws://simulator:{listens['port']}/edge"}


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_can_fill_the_disk_with_its_log_or_take_all_memory(name):
    service = SERVICES[name]
    assert service["logging"]["driver"] == "json-file"
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert service["mem_limit"]


@pytest.mark.parametrize("name", RECORDERS + SERVERS)
def test_what_runs_on_comes_back_and_may_end_in_order(name):
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["stop_grace_period"] == "60s"  # an INSERT is given up after 30


@pytest.mark.parametrize("name", SERVERS)
def test_a_database_is_seen_from_this_machine_only_and_waits_for_its_password(name):
    (port,) = SERVICES[name]["ports"]
    assert re.fullmatch(r"127\.0\.0\.1:\$\{\w+:-\d+\}:8123", port)
    assert "${CLICKHOUSE_PASSWORD:?" in SERVICES[name]["environment"]["CLICKHOUSE_PASSWORD"]
    assert SERVICES[name]["ulimits"]["nofile"] == {"soft": 262144, "hard": 262144}
    assert SERVICES[name]["healthcheck"]["test"][-1].endswith(":8123/ping")


def test_the_two_databases_have_different_ports():
    ports = {SERVICES[name]["ports"][0] for name in SERVERS}
    assert len({re.search(r":-(\d+)", port)[1] for port in ports}) == 2


@pytest.mark.parametrize("name", SERVERS)
def test_each_file_for_the_server_is_mounted_alone_and_read_only(name):
    """Not the folders: the image has files of its own in them, and writes one at each start."""
    mounted = [volume for volume in SERVICES[name]["volumes"] if volume.startswith("./")]
    sources = {ROOT / one.split(":")[0] for one in mounted}
    assert sources == {*ROOT.glob("clickhouse/config.d/*.xml"), *ROOT.glob("clickhouse/users.d/*.xml")}
    for source, target, mode in (one.split(":") for one in mounted):
        assert target == source.replace("./clickhouse", "/etc/clickhouse-server")
        assert mode == "ro"


@pytest.mark.parametrize("name", OURS)
def test_our_containers_have_no_rights_and_know_the_password(name):
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"]
    assert service["pull_policy"] == "never"  # the name may be somebody else's in a registry
    if name == "simulator":
        return
    assert (
        service["environment"]["MEXCFLOW_PASSWORD"]
        == SERVICES["clickhouse"]["environment"]["CLICKHOUSE_PASSWORD"]
    )
    assert set(service["environment"]) <= {DATABASE_VARIABLE, CONFIG_VARIABLE, "MEXCFLOW_PASSWORD"}
    journal = [volume for volume in service["volumes"] if volume.endswith(":/var/lib/mexcflow/journal")]
    assert len(journal) == 1
    assert "\nWORKDIR /var/lib/mexcflow\n" in DOCKERFILE  # a journal is in ./journal when a server is used


def test_every_variable_is_in_the_example_and_no_other():
    used = set(re.findall(r"\$\{(\w+)", FILE.read_text())) | {"COMPOSE_PROFILES"}
    assert used == VARIABLES
    for name, value in re.findall(r"^# ([A-Z_]+)=(.*)", EXAMPLE, re.M):
        assert f"${{{name}:-{value}}}" in FILE.read_text()  # what is commented out is the default
    assert "\nCLICKHOUSE_PASSWORD=\n" in EXAMPLE  # nobody's password is the one that is published


# the image


def test_the_arguments_of_the_build_are_those_of_the_dockerfile():
    arguments = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.M))
    for name in OURS:
        assert set(SERVICES[name]["build"]["args"]) == arguments
    makefile = (ROOT / "Makefile").read_text()
    assert set(re.search(r"foreach name,([\w ]+),", makefile)[1].split()) == arguments


def test_everything_that_the_image_needs_gets_through_dockerignore():
    let_through = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.M)
    assert all((ROOT / name).exists() for name in let_through)
    assert {"mexcflow", "sql", "instances", "pyproject.toml", "README.md", "LICENSE"} <= set(let_through)
    assert not {".env", ".git", "data"} & set(let_through)


def test_no_host_is_named_where_the_image_is_built():
    text = DOCKERFILE + FILE.read_text()
    own = {"127.0.0.1:8123", "simulator:8765"} | {
        f"${{CLICKHOUSE_USER:-mexcflow}}@{name}:8123" for name in SERVERS
    }
    assert set(re.findall(r"\w+://([^/\s\"\]]+)", text)) == own


# compose itself


def composes() -> list[list[str]]:
    """The commands of compose on this machine: the plugin, the old program, both or none."""
    commands = [["docker", "compose"], ["docker-compose"]]
    there = []
    for command in commands:
        if shutil.which(command[0]):
            done = subprocess.run([*command, "version"], capture_output=True, check=False)
            there += [command] if done.returncode == 0 else []
    return there


@pytest.fixture(params=composes() or [None], ids=lambda command: " ".join(command or ["none"]))
def compose(request, tmp_path):
    if request.param is None:
        pytest.skip("there is no docker compose on this machine")

    def call(*arguments: str, settings: str) -> subprocess.CompletedProcess:
        (tmp_path / "env").write_text(settings)
        return subprocess.run(
            [*request.param, "--env-file", tmp_path / "env", "-f", FILE, *arguments],
            capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
            env={key: value for key, value in os.environ.items() if key not in VARIABLES},
        )  # fmt: skip

    return call


def test_compose_takes_the_file(compose):
    chosen = EXAMPLE.replace("CLICKHOUSE_PASSWORD=", "CLICKHOUSE_PASSWORD=abc")
    done = compose("--profile", "live", "config", settings=chosen)
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["services"]["btc"]["environment"]["MEXCFLOW_PASSWORD"] == "abc"
    done = compose("--profile", "demo", "config", settings=chosen)
    assert yaml.safe_load(done.stdout)["services"]["demo-btc"]["mem_limit"]


def test_compose_says_that_the_password_is_missing(compose):
    done = compose("config", settings=EXAMPLE)
    assert done.returncode != 0
    assert "choose one in .env, see .env.example" in done.stderr


# make


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A folder with the Makefile, and `programs` in it, which are all that make finds."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("make", "sh", "test", "python3"):
        (programs / name).symlink_to(shutil.which(name))
    return tmp_path


def make(checkout: Path, target: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["make", target], cwd=checkout, capture_output=True, text=True, timeout=30, check=False,
        env={"PATH": str(checkout / "programs"), **variables},
    )  # fmt: skip


def docker(checkout: Path, *, info: int = 0, compose: int = 0) -> None:
    """A docker that notes what it is asked, and answers with these codes."""
    program = checkout / "programs/docker"
    program.write_text(
        f"""#!/bin/sh
echo "$@" >> asked
case "$1 $2" in "info ") exit {info};; "compose version") exit {compose};; esac
"""
    )
    program.chmod(0o755)


@pytest.mark.parametrize("target", ["docker-build", "docker-run"])
def test_make_says_that_docker_is_missing_or_does_not_answer(checkout, target):
    done = make(checkout, target)
    assert (done.returncode, done.stdout) == (2, "docker is not installed on this machine, or not in PATH\n")
    docker(checkout, info=1)
    done = make(checkout, target)
    assert (done.returncode, done.stdout.split(":")[0]) == (2, "docker's daemon does not answer")


def test_make_says_that_compose_or_the_settings_are_missing(checkout):
    docker(checkout, compose=1)
    assert "docker has no compose" in make(checkout, "docker-run").stdout
    docker(checkout)
    done = make(checkout, "docker-run")
    assert done.returncode == 2
    assert done.stdout.startswith("there is no .env: cp .env.example .env")


def test_make_builds_the_image_and_starts_the_profile(checkout):
    docker(checkout)
    (checkout / ".env").touch()
    done = make(checkout, "docker-run", PROFILE="demo")
    assert done.returncode == 0, done.stderr
    assert (checkout / "asked").read_text().splitlines()[-2:] == [
        "compose --profile live build setup",
        "compose --profile demo up --detach",
    ]
    assert "it runs" in done.stdout


def test_make_gives_the_build_what_is_in_the_environment(checkout):
    docker(checkout)
    done = make(checkout, "docker-build", BASE_IMAGE="python:3.12-slim", PIP_INDEX_URL="http://registry")
    assert done.returncode == 0, done.stderr
    asked = (checkout / "asked").read_text().splitlines()[-1]
    assert asked == "build --build-arg BASE_IMAGE --build-arg PIP_INDEX_URL --tag mexcflow ."
