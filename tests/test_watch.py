"""The folder of instance files while it changes: what is obeyed, when, and what is not."""

import os
from pathlib import Path

import pytest

from mexcflow.config import Instance
from mexcflow.errors import Misuse
from mexcflow.ops.watch import Watch, merge


def write(folder: Path, name: str, symbol: str, more: str = "") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(f'symbol = "{symbol}"\n{more}\n')
    return path


def settled(watch: Watch) -> set[str]:
    """What two looks find: what lies still is taken with the second."""
    assert watch.look() == set()
    return watch.look()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "btc", "BTC_USDT")
    write(tmp_path, "eth", "ETH_USDT")
    return tmp_path


def test_what_is_there_is_wanted_and_nothing_happens_when_nothing_does(folder):
    (folder / "notes.txt").write_text("not ours")
    watch = Watch(folder)
    assert list(watch.wanted) == ["btc", "eth"]
    assert watch.wrong == {}
    assert settled(watch) == set()


def test_files_that_come_go_and_change_are_obeyed_once_they_lie_still(folder):
    watch = Watch(folder)
    write(folder, "sol", "SOL_USDT")
    (folder / "eth.toml").unlink()
    write(folder, "btc", "BTC_USDT", "flush_interval = 2")
    assert watch.look() == set()
    write(folder, "btc", "BTC_USDT", "flush_interval = 3.5")  # it is still being written
    assert settled(watch) == {"btc", "eth", "sol"}
    assert list(watch.wanted) == ["btc", "sol"]
    assert watch.wanted["btc"].flush_interval == 3.5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("symbol = ", "not TOML"),
        ('symbol = "BTC_USDT"\nsymbl = 1', "unknown key 'symbl'. Did you mean 'symbol'?"),
        ('symbol = "BTC_USDT"\nchannels = ["foo"]', "mexc has no channel 'foo'"),
        ('symbol = "BTC_USDT"\ntable = "eth"', "table 'eth' is that of ETH_USDT"),
        ('symbol = "ETH_USDT"', "ETH_USDT is recorded by"),
        ('symbol = ".."\ntable = "dots"', "no journal can be named after the symbol '..'"),
    ],
)
def test_a_file_that_is_wrong_changes_nothing_that_runs(folder, text, says):
    watch = Watch(folder)
    before = watch.wanted
    (folder / "btc.toml").write_text(text)
    (folder / "btc2.toml").write_text(text.replace("BTC_USDT", "ADA_USDT"))
    settled(watch)
    assert watch.wanted == before
    assert sorted(watch.wrong) == ["btc", "btc2"]
    for name, problem in watch.wrong.items():
        assert f"{folder / name}.toml: " in problem
        assert says in problem
    write(folder, "btc", "BTC_USDT")
    (folder / "btc2.toml").unlink()
    settled(watch)
    assert watch.wrong == {}


def test_a_touched_file_is_told_though_nothing_in_it_changed(folder):
    watch = Watch(folder)
    os.utime(folder / "btc.toml", (1, 1))
    before = watch.wanted
    assert settled(watch) == {"btc"}
    assert watch.wanted == before


def test_a_renamed_file_is_the_same_stream_under_another_name(folder):
    watch = Watch(folder)
    (folder / "btc.toml").rename(folder / "bitcoin.toml")
    assert settled(watch) == {"btc", "bitcoin"}
    assert list(watch.wanted) == ["bitcoin", "eth"]
    assert watch.wrong == {}


def test_a_folder_that_goes_away_changes_nothing_and_says_so(folder):
    watch = Watch(folder)
    folder.rename(folder.with_name("elsewhere"))
    assert settled(watch) == set()
    assert list(watch.wanted) == ["btc", "eth"]
    assert "No such file" in watch.wrong[""]
    folder.with_name("elsewhere").rename(folder)
    assert settled(watch) == set()
    assert watch.wrong == {}


def test_one_file_may_be_the_whole_configuration(folder):
    watch = Watch(folder / "btc.toml")
    assert list(watch.wanted) == ["btc"]
    write(folder, "btc", "BTC_USDT", "flush_interval = 2")
    assert settled(watch) == {"btc"}


def test_a_wrong_file_that_was_not_chosen_is_no_trouble(folder):
    (folder / "wrong.toml").write_text("symbl = 1\n")
    assert Watch(folder, ("btc",)).wrong == {}
    assert list(Watch(folder, ("btc", "wrong")).wrong) == ["wrong"]


@pytest.mark.parametrize("word", ["eth", "ETH_USDT"])
def test_only_chooses_by_file_or_symbol(folder, word):
    assert list(Watch(folder, (word,)).wanted) == ["eth"]


def test_a_name_that_is_not_there_is_misuse_and_so_is_a_missing_folder(folder):
    with pytest.raises(Misuse, match=r"--only: 'sol' is no instance in .* There are: btc, eth"):
        Watch(folder, ("btc", "sol"))
    with pytest.raises(Misuse, match="no such folder of instance files"):
        Watch(folder / "nope")


def test_two_files_may_exchange_their_tables():
    btc = Instance(symbol="BTC_USDT", table="one")
    eth = Instance(symbol="ETH_USDT", table="two")
    swapped = {
        "btc": Instance(symbol="BTC_USDT", table="two"),
        "eth": Instance(symbol="ETH_USDT", table="one"),
    }
    assert merge({"btc": btc, "eth": eth}, dict(swapped)) == (swapped, {})


def test_of_two_new_ones_that_want_one_table_the_first_gets_it():
    one, two = Instance(symbol="A_USDT", table="t"), Instance(symbol="B_USDT", table="t", source="two.toml")
    accepted, wrong = merge({}, {"two": two, "one": one})
    assert accepted == {"one": one}
    assert wrong["two"].startswith("two.toml: table 't' is that of A_USDT")
