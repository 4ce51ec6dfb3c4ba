"""An installed wheel works: it finds its SQL and its instance files, with no checkout around."""

import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

from mexcflow.simulator import Simulator
from tests.conftest import ROOT, environment


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A fresh virtual environment with the wheel; what it depends on comes from this one."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
    )
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv/bin/python"
    (wheel,) = folder.glob("mexcflow-*.whl")
    site = folder / f"venv/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel],
        check=True,
    )
    # a plain path and no .pth of ours: the checkout itself must not come along
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv"


def without_checkout() -> dict[str, str]:
    """The environment without the developer's path to the checkout, which would go before the wheel."""
    return {key: value for key, value in environment().items() if key != "PYTHONPATH"}


def run(installed: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [installed / "bin/mexcflow", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        env=without_checkout(),
        check=False,
    )


def test_the_package_comes_from_the_wheel(installed, tmp_path):
    code = "import mexcflow; print(mexcflow.__file__)"
    done = subprocess.run(
        [installed / "bin/python", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=without_checkout(),
        check=True,
    )
    assert done.stdout.startswith(str(installed))


def test_setup_record_verify_and_query_from_an_installed_wheel(installed, tmp_path):
    done = run(installed, "setup", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for table in ("btc", "eth", "sol"):
        assert f"mexc_data.{table}_candles_1m" in done.stdout
    with Simulator(speed=10) as exchange:
        done = run(
            installed,
            "run",
            "--symbol",
            "BTC_USDT",
            "--endpoint",
            exchange.url,
            "--duration",
            "1.5",
            cwd=tmp_path,
        )
    assert done.returncode == 0, done.stderr
    assert run(installed, "verify", cwd=tmp_path).returncode == 0
    done = run(installed, "sql", "SELECT count() > 10 FROM btc_deals", cwd=tmp_path)
    assert done.stdout == "1\n"


def test_the_wheel_carries_its_licence_and_its_version(installed, tmp_path):
    done = run(installed, "--version", cwd=tmp_path)
    assert done.stdout.startswith("mexcflow ")
    assert list(installed.rglob("mexcflow-*.dist-info/licenses/LICENSE"))


def test_the_source_distribution_has_what_docker_needs(tmp_path):
    build = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (archive,) = tmp_path.glob("mexcflow-*.tar.gz")
    with tarfile.open(archive) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"Dockerfile", ".dockerignore", "docker-compose.yml", ".env.example", "Makefile"} <= names
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "clickhouse").rglob("*.xml")} <= names
    assert {"tests/test_compose.py", "instances/btc.toml", "sql/020_table.sql"} <= names
    assert ".env" not in names
