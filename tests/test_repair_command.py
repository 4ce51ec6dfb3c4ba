"""`mexcflow repair`, and who may repair: nobody while somebody has the folder open."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mexcflow.errors import FolderInUse, Misuse
from mexcflow.simulator import Simulator
from mexcflow.store import open_store
from mexcflow.store.folder import repair_folder
from tests.conftest import mexcflow
from tests.test_store_open import HOLD_THE_FOLDER
from tests.torn import BATCHES, fill, flat, rows_of, shorter, state, table_in


@pytest.fixture
def data(tmp_path) -> Path:
    """A closed folder with ten INSERTs in btc."""
    with open_store(str(tmp_path / "data")) as store:
        fill(store, "btc", BATCHES)
    return tmp_path / "data"


def test_the_command_says_what_it_found_and_did(data, tmp_path):
    shorter(table_in(data) / "data.bin", 10)
    before = state(data)
    done = mexcflow("repair", "--dry-run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "nothing was changed" in done.stdout
    assert state(data) == before
    done = mexcflow("repair", "--dry-run", "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert (done.returncode, told["torn"], told["tables"][0]["set_aside"]) == (1, 1, "")
    assert state(data) == before
    done = mexcflow("repair", "--json", cwd=tmp_path)
    (table,) = json.loads(done.stdout)["tables"]
    assert done.returncode == 0
    assert table["table"] == "mexc_data.btc"
    assert (table["inserts"], table["rows"], table["rows_cut"]) == (9, 360, 40)
    assert sum(p.stat().st_size for p in Path(table["set_aside"]).glob("*.from-*")) == table["cut_bytes"]
    done = mexcflow("repair", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "every table is whole"


def test_a_folder_in_use_is_73_and_nothing_is_changed(data, tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_FOLDER, str(data)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout.readline() == "open\n"
        shorter(table_in(data) / "data.bin", 10)
        before = state(data)
        for arguments in ((), ("--dry-run",)):
            done = mexcflow("repair", *arguments, cwd=tmp_path)
            assert done.returncode == 73
            assert f"PID {holder.pid}" in done.stderr
        assert state(data) == before
    finally:
        holder.kill()
        holder.communicate()


def test_of_many_who_open_a_torn_folder_at_once_one_repairs_it(data):
    shorter(table_in(data) / "data.bin", 10)
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD_THE_FOLDER, str(data)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    try:
        said = [opener.stdout.readline() for opener in openers]
    finally:
        errors = [opener.communicate("\n")[1] for opener in openers]
    assert said == ["open\n"] * 4, errors
    assert len(list((data / "torn").iterdir())) == 1
    with open_store(str(data)) as store:
        assert rows_of(store) == flat(BATCHES[:9])


def test_a_folder_that_this_process_has_open_is_not_repaired(data):
    with open_store(str(data)):
        shorter(table_in(data) / "data.bin", 10)
        before = state(table_in(data))
        for dry_run in (True, False):
            with pytest.raises(FolderInUse):
                repair_folder(data, dry_run=dry_run)
        open_store(str(data)).close()  # a second handle looks at nothing
        assert state(table_in(data)) == before


def test_what_is_no_folder_of_ours_is_misuse(tmp_path):
    for database in ("http://127.0.0.1:8123", "nowhere", str(tmp_path)):
        done = mexcflow("repair", "--database", database, cwd=tmp_path)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
    with pytest.raises(Misuse):
        repair_folder(tmp_path / "nowhere", dry_run=True)
    assert list(tmp_path.iterdir()) == []


def test_a_recording_goes_on_in_a_table_that_was_torn(data, tmp_path):
    shorter(table_in(data) / "data.bin", 10)
    with Simulator(speed=20) as exchange:
        done = mexcflow(
            "run", "--symbol", "BTC_USDT", "--endpoint", exchange.url, "--duration", "2",
            "--flush-interval", "0.3", cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "mexc_data.btc was torn" in done.stderr
    done = mexcflow("verify", "--json", "--table", "btc", cwd=tmp_path)
    with open_store(str(data)) as store:
        rows = rows_of(store)
    assert rows[:360] == flat(BATCHES[:9])
    assert len(rows) > 380
    assert "cannot be read" not in done.stdout
