"""The server's configuration in clickhouse/, read by a real engine: the embedded one takes the same files."""

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.conftest import ROOT, environment

CONFIG, USERS = ROOT / "clickhouse/config.d", ROOT / "clickhouse/users.d"
NO_LOGS = CONFIG / "no-system-logs.xml"
FILES = sorted([*CONFIG.glob("*.xml"), *USERS.glob("*.xml")])

NOT_IN_THIS_ENGINE = {
    "s3_queue_log": "24.x: s3queue_log has that name since",
    "latency_log": "25.x only",
    "transposed_metric_log": "a form of metric_log that is made when asked for",
    "bucketed_metric_log": "a form of metric_log that is made when asked for",
    "distributed_cache_log": "in ClickHouse Cloud",
    "distributed_cache_server_log": "in ClickHouse Cloud",
}
"""Logs in our file that the engine here makes no table for, and why they are in it."""

USERS_XML = (
    "<clickhouse><profiles><default/></profiles><quotas><default/></quotas><users><default><password/>"
    "<networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota></default></users>"
    "</clickhouse>"
)
ASK = """
import json, sys
import chdb
connection = chdb.connect(sys.argv[1])
def ask(sql):
    return json.loads(connection.query(sql, "JSONCompact").bytes())["data"]
connection.query("SELECT 1")
connection.query("SYSTEM FLUSH LOGS")
print(json.dumps({
    "tables": [name for name, in ask("SELECT name FROM system.tables WHERE database = 'system'")],
    "server": dict(ask("SELECT name, value FROM system.server_settings")),
    "merge_tree": dict(ask("SELECT name, value FROM system.merge_tree_settings")),
    "settings": dict(ask("SELECT name, value FROM system.settings")),
}))
"""


def elements(path: Path) -> list[ET.Element]:
    root = ET.parse(path).getroot()
    assert root.tag == "clickhouse"
    return list(root)


def logs() -> list[str]:
    return [element.tag for element in elements(NO_LOGS)]


def engine(folder: Path, *, with_ours: bool) -> dict:
    """What an engine says whose own configuration has every log on, with or without our files beside it."""
    wished = "".join(f"<{name}><database>system</database><table>{name}</table></{name}>" for name in logs())
    (folder / "config.xml").write_text(
        "<clickhouse><prepare_system_log_tables_on_startup>1</prepare_system_log_tables_on_startup>"
        f"<users_config>{folder}/users.xml</users_config>{wished}</clickhouse>"
    )
    (folder / "users.xml").write_text(USERS_XML)
    if with_ours:
        shutil.copytree(CONFIG, folder / "config.d")
        shutil.copytree(USERS, folder / "users.d")
    done = subprocess.run(
        [sys.executable, "-c", ASK, f"file:{folder}/data?config-file={folder}/config.xml"],
        capture_output=True, text=True, timeout=60, env=environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> dict:
    return engine(tmp_path_factory.mktemp("plain"), with_ours=False)


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> dict:
    return engine(tmp_path_factory.mktemp("ours"), with_ours=True)


def test_no_log_table_is_made_with_our_files_and_each_one_without(plain, ours):
    made = set(plain["tables"]) & set(logs())
    assert set(logs()) - made <= set(NOT_IN_THIS_ENGINE), "misspelt, or gone from the engine: say so there"
    assert made
    assert set(ours["tables"]) & set(logs()) == set()


def test_every_log_of_the_servers_shipped_configuration_is_removed():
    for element in elements(NO_LOGS):
        assert element.attrib == {"remove": "1"}, element.tag
        assert len(element) == 0
    assert len(logs()) == len(set(logs()))
    assert {"query_log", "trace_log", "metric_log", "asynchronous_metric_log", "text_log"} <= set(logs())


def test_the_engine_takes_the_limits_of_memory_and_threads(plain, ours):
    given = {one.tag: one.text for one in elements(CONFIG / "small-memory.xml") if one.tag != "merge_tree"}
    assert set(given) - set(ours["server"]) == set()  # a name that is misspelt is passed over by the engine
    for name in ("mark_cache_size", "max_thread_pool_size", "background_schedule_pool_size"):
        assert ours["server"][name] == given[name] != plain["server"][name]
    (merge_tree,) = (one for one in elements(CONFIG / "small-memory.xml") if one.tag == "merge_tree")
    of_tables = {one.tag: one.text for one in merge_tree}
    assert of_tables.items() <= ours["merge_tree"].items()
    assert plain["merge_tree"]["merge_max_block_size"] != of_tables["merge_max_block_size"]


def test_no_table_waits_for_more_free_threads_than_there_are():
    """A server refuses to start otherwise; the embedded engine does not look."""
    root = ET.parse(CONFIG / "small-memory.xml").getroot()
    threads = int(root.findtext("background_pool_size")) * float(
        root.findtext("background_merges_mutations_concurrency_ratio")
    )
    waits = [one for one in root.find("merge_tree") if one.tag.startswith("number_of_free_entries_in_pool")]
    assert len(waits) == 3
    assert all(int(one.text) <= threads for one in waits)


def test_the_profile_is_in_force(plain, ours):
    (profiles,) = elements(USERS / "profile.xml")
    given = {one.tag: one.text for one in profiles.find("default")}
    assert given.items() <= ours["settings"].items()
    assert plain["settings"]["async_insert"] == "1"
    assert (given["async_insert"], given["log_queries"]) == ("0", "0")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_file_says_why(path):
    assert len(path.read_text().split("-->")[0].removeprefix("<!--").split()) > 20
