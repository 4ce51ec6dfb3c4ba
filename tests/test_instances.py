"""The instance files as a whole: each right in itself, no two in each other's way."""

import pytest

from mexcflow.config import Instance
from mexcflow.errors import Misuse
from mexcflow.ops.instances import check_sole_writer, database_to_read, read_instances
from mexcflow.store import open_store


def write(folder, text, name="btc.toml"):
    (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('exchange = "mecx"', "there is no exchange 'mecx'. Did you mean 'mexc'?"),
        ('channels = ["foo"]', "mexc has no channel 'foo'. Known: ticker, deal, depth"),
        ('proxy = "me:secret@host:1"', "'host:1' is no proxy's URL"),
        ('endpoint = "http://x"', "'http://x' is no websocket URL"),
    ],
)
def test_a_wrong_value_is_told_with_its_file(tmp_path, line, says):
    write(tmp_path, f'symbol = "BTC_USDT"\n{line}\n')
    with pytest.raises(Misuse) as error:
        read_instances(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'btc.toml'}: ")
    assert says in str(error.value)
    assert "secret" not in str(error.value)


def test_two_files_for_one_stream_are_an_error_that_names_both(tmp_path):
    write(tmp_path, 'symbol = "BTC_USDT"\n')
    write(tmp_path, 'symbol = "BTC_USDT"\ntable = "other"\n', "again.toml")
    with pytest.raises(Misuse, match=r"BTC_USDT of mexc is described twice: .*again\.toml, .*btc\.toml"):
        read_instances(tmp_path)


def test_a_table_of_another_symbol_is_refused():
    btc = Instance(symbol="BTC_USDT", table="btc", source="btc.toml")
    check_sole_writer(btc, [btc])
    with pytest.raises(Misuse, match=r"table 'btc' is that of BTC_USDT \(btc\.toml\)"):
        check_sole_writer(Instance(symbol="ETH_USDT", table="btc"), [btc])


class TestDatabaseToRead:
    """Which database verify and sql mean."""

    @pytest.fixture(autouse=True)
    def bare(self, monkeypatch, tmp_path):
        monkeypatch.delenv("MEXCFLOW_DATABASE", raising=False)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "instances").mkdir()

    def test_without_files_it_is_the_usual_folder(self, tmp_path):
        assert database_to_read(None, tmp_path / "instances") == "./data"

    def test_what_is_given_wins(self, tmp_path):
        write(tmp_path / "instances", 'symbol = "BTC_USDT"\ndatabase = "there"\n')
        assert database_to_read("given", tmp_path / "instances") == "given"

    def test_it_is_where_the_instances_record(self, tmp_path):
        write(tmp_path / "instances", 'symbol = "BTC_USDT"\ndatabase = "there"\n')
        write(tmp_path / "instances", 'symbol = "ETH_USDT"\n', "eth.toml")
        with open_store("there") as store:
            store.command("CREATE DATABASE IF NOT EXISTS mexc_data")
        assert database_to_read(None, tmp_path / "instances") == "there"

    def test_several_are_not_chosen_from(self, tmp_path):
        write(tmp_path / "instances", 'symbol = "BTC_USDT"\ndatabase = "http://one:8123"\n')
        write(tmp_path / "instances", 'symbol = "ETH_USDT"\ndatabase = "http://two:8123"\n', "eth.toml")
        with pytest.raises(Misuse, match="several databases: http://one:8123, http://two:8123"):
            database_to_read(None, tmp_path / "instances")
