"""The rules of the structure, held by reading the imports."""

import ast
import itertools
from pathlib import Path

import pytest

from mexcflow.exchanges import REGISTRY, TYPED

PACKAGE = Path(__file__).resolve().parents[1] / "mexcflow"
FILES = sorted(PACKAGE.rglob("*.py"))
CORE = {"errors", "model", "clock", "config", "metrics", "log"}
MAY_IMPORT = {
    "core": {"core"},
    "exchanges": {"core", "exchanges"},
    "store": {"core", "store"},
    "journal": {"core", "journal"},
    "pipeline": {"core", "exchanges", "store", "journal", "pipeline"},
    "simulator": {"core", "simulator"},
    "ops": {"core", "exchanges", "store", "journal", "pipeline", "simulator", "ops"},
    "cli": {"core", "exchanges", "store", "journal", "pipeline", "simulator", "ops", "cli"},
}
ONLY_IN = {
    "websocket": "pipeline",
    "python_socks": "pipeline",
    "clickhouse_connect": "store",
    "chdb": "store",
    "uvicorn": "store",
    "docker": "ops",
    "typer": "cli",
    "rich": "cli",
    "setproctitle": "cli",
    "websockets": "simulator",
}
IO = {"socket", "ssl", "threading", "asyncio", "time", "os", "pathlib", "subprocess", "logging", "random"}


def part(path: Path) -> str:
    """The part a file belongs to: a folder, or the core."""
    inside = path.relative_to(PACKAGE).parts
    if len(inside) > 1:
        return inside[0]
    return "cli" if path.stem == "__main__" else "core"


def imports(path: Path) -> set[str]:
    """Every module a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def parts_of(module: str) -> str | None:
    if not module.startswith("mexcflow."):
        return None
    name = module.split(".")[1]
    return "core" if name in CORE or name == "__version__" else name


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def test_every_part_is_known():
    assert {part(path) for path in FILES} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_part_imports_only_what_lies_below_it(path):
    for module in imports(path):
        target = parts_of(module)
        assert target is None or target in MAY_IMPORT[part(path)], f"{name(path)} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_foreign_library_is_imported_in_its_one_place(path):
    for module in imports(path):
        place = ONLY_IN.get(module.split(".")[0])
        assert place in (None, part(path)), f"{name(path)} imports {module}, which belongs into {place}"


@pytest.mark.parametrize("path", [path for path in FILES if part(path) == "exchanges"], ids=name)
def test_exchanges_do_no_io(path):
    assert not {module.split(".")[0] for module in imports(path)} & IO


def test_an_exchange_is_named_in_its_own_file_and_the_registry_only():
    for exchange, path in itertools.product((*REGISTRY, *TYPED), FILES):
        own = part(path) == "exchanges" and path.stem in (exchange, "__init__")
        if own or part(path) == "simulator":  # which has a file an exchange as well
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                named = {alias.name for alias in node.names} | {getattr(node, "module", "") or ""}
                assert not any(one.split(".")[-1].lower() == exchange for one in named), name(path)
            if isinstance(node, ast.Constant) and node.value == exchange:
                # the default of --exchange is the one other place
                assert name(path) == "config.py", f"{name(path)} line {node.lineno} names {exchange}"


def test_the_folder_of_exchanges_equals_the_registry():
    helpers = {"__init__", "exchange", "typed", "numbers", "times", "book", "gunzip"}
    helpers |= {"mexc_contracts", "binance_streams", "binance_frames", "okx_frames"}
    assert {path.stem for path in (PACKAGE / "exchanges").glob("*.py")} - helpers == {*REGISTRY, *TYPED}


def test_there_is_one_broad_except_for_frames_and_one_a_threads_outermost_frame():
    broad = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            caught = node.type if isinstance(node, ast.ExceptHandler) else None
            if isinstance(node, ast.ExceptHandler) and (
                caught is None or getattr(caught, "id", "") in ("Exception", "BaseException")
            ):
                broad[name(path)] = broad.get(name(path), 0) + 1
    assert broad == {
        "cli/interrupt.py": 1,  # a thread's outermost frame: raised again in the main one
        "journal/writer.py": 1,  # a thread's outermost frame: the next append raises it
        "pipeline/decode.py": 1,  # whatever arrives, the feed goes on
        "pipeline/typed_decode.py": 2,  # the same for typed tables: with and without assembling
        "pipeline/record.py": 1,  # a thread's outermost frame: stops the run
        "simulator/thread.py": 1,  # a thread's outermost frame: handed to its user
        "store/endpoint/app.py": 1,  # a statement's outermost frame: an answer with code 1002
        "store/translate.py": 1,  # foreign errors become ours, the others go on
    }


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_and_functions_stay_small(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[-1].end_lineno - node.body[0].lineno + 1
            assert body <= 60, f"{name(path)}: {node.name} has {body} lines"
