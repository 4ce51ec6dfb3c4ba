"""The documents say what the code does: commands parse, SQL and Python run, nothing is left out."""

import importlib
import itertools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from mexcflow import __version__, config, errors
from mexcflow.cli.app import app
from mexcflow.cli.main import COMMANDS as NAMES
from mexcflow.config import VIEW_SUFFIXES, Instance
from mexcflow.exchanges import REGISTRY, TYPED
from mexcflow.exchanges.mexc import Mexc
from mexcflow.exchanges.numbers import plain
from mexcflow.metrics import MEANINGS, Backlog, Metrics
from mexcflow.ops.sql import parse_statement
from mexcflow.simulator import Simulator
from mexcflow.store import DATABASE, open_store
from tests.conftest import ROOT, environment, mexcflow

README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
for _name in NAMES:
    importlib.import_module(f"mexcflow.cli.{_name.replace('-', '')}")  # adds itself to `app`
COMMANDS = typer.main.get_command(app).commands


def blocks(text: str, *languages: str) -> list[str]:
    """What stands in the fenced code blocks of these languages."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S)
    return [body for language, body in found if language in languages]


def shell_lines() -> list[str]:
    """Every command line: each line of an sh block, those with a prompt in a console block."""
    lines = [line for block in blocks(README, "sh") for line in block.splitlines()]
    typed = [line for block in blocks(README, "console") for line in block.splitlines()]
    return lines + [line.removeprefix("$ ") for line in typed if line.startswith("$ ")]


def simple_commands(line: str) -> list[list[str]]:
    """The words of each command of a pipeline, without redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words = list(lexer)
    found: list[list[str]] = [[]]
    skip = False
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if skip:
            skip = False
        elif set(word) <= set("|&;"):
            found.append([])
        elif set(word) <= set("<>"):
            skip = True  # the file
        elif not (word.isdigit() and following and set(following) <= set("<>")):  # the 2 of 2>
            found[-1].append(word)
    return found


def own_commands() -> list[list[str]]:
    return [words for line in shell_lines() for words in simple_commands(line) if words[:1] == ["mexcflow"]]


def options(command: str) -> list[str]:
    shown = [one for one in COMMANDS[command].params if not getattr(one, "hidden", False)]
    return [option for one in shown for option in one.opts if option.startswith("--")]


def row_of(table: str, first_cell: str) -> list[str]:
    """The cells of the table's row that begins with this cell."""
    rows = [
        [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in table.splitlines()
    ]
    return next((cells for cells in rows if cells and cells[0] == first_cell), [])


def section(heading: str) -> str:
    """The text below a heading, down to the next one of the same depth or less."""
    depth = len(heading) - len(heading.lstrip("#"))
    _, found, rest = README.partition(f"\n{heading}\n")
    assert found, heading
    return re.split(rf"^#{{1,{depth}}} ", rest, maxsplit=1, flags=re.M)[0]


_AS_ANOTHER = "SELECT 'binance', 'BTCUSDT', event_time, event_time"
ANOTHER_EXCHANGE = (
    f"INSERT INTO market_data.trades {_AS_ANOTHER}, toString(rowNumberInAllBlocks()), price + 1, "
    "base_quantity, base_quantity, side FROM market_data.trades_all",
    f"INSERT INTO market_data.books {_AS_ANOTHER}, 0, [best_bid + 1], [1], [best_ask + 1], [1] "
    "FROM market_data.books_top",
    f"INSERT INTO market_data.tickers {_AS_ANOTHER}, last_price, mark_price, index_price, open_interest, "
    "funding_rate, NULL FROM market_data.tickers_all",
)
"""What was recorded of MEXC, as if another exchange had sent the like."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `mexcflow run` has recorded some seconds of the simulator into ./data."""
    folder = tmp_path_factory.mktemp("readme")
    with Simulator(speed=20) as exchange:
        done = mexcflow(
            "run", "--symbol", "BTC_USDT", "--endpoint", exchange.url, "--duration", "4",
            "--flush-interval", "0.5", cwd=folder,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with open_store(str(folder / "data"), create=False) as store:
        for statement in ANOTHER_EXCHANGE:
            store.command(statement)
    return folder


# commands and options


@pytest.mark.parametrize("words", own_commands(), ids=" ".join)
def test_a_command_of_the_readme_is_taken_as_written(words):
    name, arguments = words[1], words[2:]
    assert name in COMMANDS, f"there is no command {name}"
    COMMANDS[name].make_context(name, arguments)  # raises what the user would see


def test_the_readme_shows_every_command():
    assert {words[1] for words in own_commands()} == set(COMMANDS)
    for name in COMMANDS:
        assert section(f"### mexcflow {name}").strip()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_explained(name):
    text = section("## Commands").partition("\n### ")[0] + section(f"### mexcflow {name}")
    missing = [option for option in options(name) if not re.search(rf"`{option}(?![\w-])", text)]
    assert not missing


def test_the_readme_names_no_option_that_does_not_exist():
    known = {option for name in COMMANDS for option in options(name)} | {"--help", "--version"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", section("## Commands"))) - known == set()


@pytest.mark.parametrize("key", [key for key in Instance.__struct_fields__ if key != "source"])
def test_every_key_of_an_instance_file_stands_beside_its_option(key):
    table = section("### mexcflow run")
    option = {"proxies": "--proxy", "symbols": "--symbol"}.get(key, f"--{key.replace('_', '-')}")
    cells = row_of(table, f"`{option}`")
    assert f"`{key}`" in (cells[3] if key == "proxies" else cells[2])


def test_the_defaults_in_the_table_of_options_are_those_of_the_code():
    table = section("### mexcflow run")
    instance, shown = Instance(symbol="BTC_USDT").checked(), {}
    for parameter in COMMANDS["run"].params:
        cells = row_of(table, f"`{parameter.opts[0]}`")
        value = getattr(instance, parameter.name, None) or parameter.default
        if cells and isinstance(value, bool):
            assert not value
            assert cells[1] == ""
        elif cells and isinstance(value, int | float):
            assert float(cells[1]) == value, parameter.name
            shown[parameter.name] = value
    assert len(shown) >= 7
    assert row_of(table, "`--table`")[1].startswith(f"`{instance.table}` ")
    for channels in {kind.channels for kind in (*REGISTRY.values(), TYPED["binance"])}:
        assert f"`{','.join(channels)}`" in row_of(table, "`--channels`")[1]


def test_the_environment_variables_are_named():
    names = [value for name, value in vars(config).items() if name.endswith("_VARIABLE")]
    assert len(names) >= 5
    table = section("## Commands").partition("\n### ")[0]
    assert [name for name in names if not row_of(table, f"`{name}`")] == []


def test_make_targets_are_those_of_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.M))
    named = {words[1] for line in shell_lines() for words in simple_commands(line) if words[:1] == ["make"]}
    named |= set(re.findall(r"`make ([a-z-]+)", README))
    assert named == targets


# numbers, codes, rows


@pytest.mark.parametrize("key", MEANINGS)
def test_every_metric_is_explained(key):
    assert len(row_of(section("#### Statistics for machines"), f"`{key}`")) == 2


def test_the_block_for_machines_has_the_keys_that_are_shown():
    block = Metrics("BTC_USDT", "btc", ("ticker", "deal", "depth"), now=0.0).snapshot(
        now=1, backlog=Backlog()
    )
    text = section("#### Statistics for machines")
    shown = json.loads(next(line for line in text.splitlines() if line.startswith("{")))["statistics"]
    assert shown.keys() == block.as_json().keys()
    assert [key for key in block.as_json() if f"`{key}`" not in text] == []
    assert shown["frames"] == sum(shown["messages"].values()) + sum(
        shown[key] for key in ("acks", "pongs", "skipped", "exchange_errors", "dead_letters")
    )


def test_exit_codes_are_those_of_the_errors():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.MexcflowError)}
    shown = set(re.findall(r"^\| (\d+) \|", section("## Exit codes"), re.M))
    assert shown == {str(code) for code in codes | {0, 130}}


def test_frames_become_the_rows_that_are_shown():
    lines = [line for block in blocks(README, "text") for line in block.splitlines()]
    shown = [pair for pair in itertools.pairwise(lines) if pair[1].startswith("→")]
    exchange = Mexc("BTC_USDT", ("ticker", "deal", "depth"))
    for frame, row in shown:
        ((_, mt, m),) = exchange.read(frame.encode()).rows
        assert row.removeprefix("→").split() == [mt, m]
    assert len(shown) == 3


def test_numbers_become_what_is_shown():
    shown = re.findall(r"^\| `([\d.eE+-]+)` \| `([\d.]+)` \|$", section("## What lands in the table"), re.M)
    assert len(shown) == 5
    assert [plain(received) for received, _ in shown] == [stored for _, stored in shown]


# the tables


@pytest.mark.parametrize("statement", blocks(README, "sql"), ids=lambda text: " ".join(text.split())[:60])
def test_sql_of_the_readme_returns_rows(statement, recorded):
    asked = parse_statement(statement)
    with open_store(str(recorded / "data"), create=False) as store:
        store.prefer_database(DATABASE)
        rows = store.query(asked.text)
    assert rows
    assert not any(value is None for row in rows for value in row)


def test_there_is_a_statement_for_each_view():
    statements = "\n".join(blocks(README, "sql"))
    assert [suffix for suffix in VIEW_SUFFIXES if f"btc{suffix}" not in statements] == []


@pytest.mark.parametrize("suffix", VIEW_SUFFIXES)
def test_a_views_columns_are_those_that_are_shown(suffix, recorded):
    shown = row_of(section("### The views"), f"`btc{suffix}`")[1]
    with open_store(str(recorded / "data"), create=False) as store:
        columns = store.query(f"DESCRIBE {DATABASE}.btc{suffix}")
    assert re.findall(r"`(\w+)`", shown) == [name for name, *_ in columns]


def run_python(program: str, cwd: Path, zone: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=cwd,
        env=environment(TZ=zone),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("program", blocks(README, "python"), ids=lambda text: text.split("\n", 1)[0])
def test_python_of_the_readme_runs(program, recorded):
    assert run_python(program, recorded, "UTC").strip()


def test_times_in_python_are_utc_wherever_the_machine_is(recorded):
    program = next(block for block in blocks(README, "python") if "clickhouse_connect" in block)
    assert run_python(program, recorded, "America/New_York") == run_python(program, recorded, "UTC")


def test_sql_of_a_command_line_runs_as_written(recorded):
    ran = 0
    for words in own_commands():
        if words[1] == "sql" and "nope" not in words[-1] and " " in words[-1]:
            done = mexcflow(*words[1:], cwd=recorded)
            assert done.returncode == 0, done.stderr
            ran += 1
    assert ran >= 4
    assert (recorded / "deals.parquet").read_bytes().startswith(b"PAR1")


# the other documents


def test_every_file_of_the_package_is_in_the_architecture():
    package = ROOT / "mexcflow"
    files = [str(path.relative_to(package)) for path in package.rglob("*.py")]
    assert [file for file in files if f"`{file}`" not in ARCHITECTURE] == []


def test_every_file_in_the_architecture_exists():
    named = set(re.findall(r"`([\w./-]+\.(?:py|sql|toml|jsonl))`", ARCHITECTURE))
    assert len(named) > 60
    missing = [name for name in named if not (ROOT / "mexcflow" / name).exists()]
    assert [name for name in missing if not (ROOT / name).exists()] == []


def test_links_within_the_documents_lead_somewhere():
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", README, flags=re.M | re.S), re.M)
    }
    inside = re.findall(r"\]\(#([\w-]+)\)", README)
    assert inside
    assert set(inside) - anchors == set()


def test_the_changelog_has_the_current_version():
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()
