"""Instance files: what they may say, and how a wrong one is told."""

import math
from pathlib import Path

import pytest

from mexcflow import config
from mexcflow.cli.instance import instance_of
from mexcflow.cli.run import _proxies
from mexcflow.config import (
    Instance,
    default_table,
    journal_folder,
    load_instance,
    load_instances,
    read_duration,
    read_tail,
)
from mexcflow.errors import Misuse
from mexcflow.exchanges import check_channels, find_exchange

GOOD = 'exchange = "mexc"\nsymbol = "BTC_USDT"\ntable = "btc"\nchannels = ["ticker", "deal"]\n'


def write(folder: Path, text: str, name: str = "btc.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_file_says_everything_a_run_needs(tmp_path):
    more = 'proxy = "socks5://127.0.0.1:1080"\nflush_interval = 2\nmax_errors = 7\ndatabase = "/srv/data"\n'
    path = write(tmp_path, GOOD + more)
    assert load_instance(path) == Instance(
        exchange="mexc",
        symbol="BTC_USDT",
        table="btc",
        channels=("ticker", "deal"),
        proxy="socks5://127.0.0.1:1080",
        flush_interval=2.0,
        max_errors=7,
        database="/srv/data",
        source=str(path),
    )


def test_the_shipped_files_are_btc_eth_and_sol():
    found = [(one.exchange, one.symbol, one.table) for one in load_instances(config.shipped("instances"))]
    assert found == [("mexc", "BTC_USDT", "btc"), ("mexc", "ETH_USDT", "eth"), ("mexc", "SOL_USDT", "sol")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("symbol = ", ["not TOML"]),
        ('exchange = "mexc"\n', ["symbol"]),
        (GOOD + 'symbl = "x"\n', ["'symbl'", "Did you mean 'symbol'?"]),
        (GOOD + "colour = 1\n", ["'colour'", "Known keys: symbol, symbols, exchange"]),
        ("symbol = 7\n", ["'symbol'", "Expected `str`, got `int`"]),
        ('symbol = "A_USDT"\nchannels = "deal"\n', ["'channels'", "Expected `array`"]),
        ('symbol = "A_USDT"\nmax_errors = -1\n', ["max_errors"]),
        ('symbol = "A_USDT"\nflush_interval = -1\n', ["interval"]),
        ('symbol = "A_USDT"\nstats_interval = nan\n', ["interval"]),
        ('symbol = ""\n', ["symbol", "empty"]),
        ('symbol = "A_USDT"\ntable = "a;b"\n', ["'a;b'", "--table"]),
        ('symbol = "A_USDT"\ntable = "btc_deals"\n', ["'btc_deals'", "reserved"]),
        ('symbol = "牛来_USDT"\n', ["'牛来_USDT'", "--table"]),
        ('symbol = "A_USDT"\nflush_interval = 1e10\n', ["interval", "a day"]),
        ('symbol = "A_USDT"\nsource = "x"\n', ["'source'"]),
        ('symbol = "A_USDT"\nproxies = "http://a:1"\n', ["'proxies'", "Expected `array`"]),
        ('symbol = "A_USDT"\nproxy = "http://a:1"\nproxies = ["http://b:1"]\n', ["proxy and proxies"]),
    ],
)
def test_a_wrong_file_is_told_with_its_name_the_key_and_what_is_right(tmp_path, text, says):
    path = write(tmp_path, text)
    with pytest.raises(Misuse) as error:
        load_instance(path)
    message = str(error.value)
    assert message.startswith(str(path))
    for word in says:
        assert word in message
    assert "\n" not in message


def test_bytes_that_are_no_text_are_told(tmp_path):
    path = tmp_path / "btc.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(Misuse, match=r"btc\.toml"):
        load_instance(path)


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(Misuse, match="--config"):
        load_instances(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("symbol", "table"),
    [("BTC_USDT", "btc"), ("BTC_USD", "btc_usd"), ("BTC_USDC", "btc_usdc"), ("1INCH_USDT", "1inch")],
)
def test_tables_of_different_contracts_of_one_coin_differ(symbol, table):
    assert default_table(symbol) == table


def test_where_the_database_is(monkeypatch):
    instance = Instance(symbol="X_USDT", database="from-file")
    monkeypatch.delenv("MEXCFLOW_DATABASE", raising=False)
    assert config.database_location(None) == "./data"
    assert config.database_location(None, instance) == "from-file"
    monkeypatch.setenv("MEXCFLOW_DATABASE", "from-environment")
    assert config.database_location(None, instance) == "from-environment"
    assert config.database_location("from-flag", instance) == "from-flag"
    assert config.database_location("", instance) == ""  # which opening it refuses


def test_where_instance_files_are(monkeypatch, tmp_path):
    monkeypatch.delenv("MEXCFLOW_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    assert config.config_folder(None) == config.shipped("instances")
    (tmp_path / "instances").mkdir()
    assert config.config_folder(None) == Path("instances")
    monkeypatch.setenv("MEXCFLOW_CONFIG", "/etc/mexcflow")
    assert config.config_folder(None) == Path("/etc/mexcflow")
    assert config.config_folder(Path("given")) == Path("given")


def test_an_exchange_that_does_not_exist_is_told_with_those_that_do():
    with pytest.raises(Misuse, match=r"--exchange: there is no exchange 'mecx'. Did you mean 'mexc'\?"):
        find_exchange("mecx", where="--exchange")


@pytest.mark.parametrize(
    ("channels", "says"), [((), "no channels"), (("deals",), "'deal'"), (("deal", "deal"), "twice")]
)
def test_a_channel_that_does_not_exist_is_told_with_those_that_do(channels, says):
    with pytest.raises(Misuse, match=says):
        check_channels(find_exchange("mexc", where=""), channels, where="--channels")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("7d", 604_800), ("forever", math.inf), ("0s", 0)],
)
def test_a_time_is_written_with_its_unit(text, seconds):
    assert read_duration(text, where="here") == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "7 days", "1e3s", "never"])
def test_a_time_without_a_unit_is_refused(text):
    with pytest.raises(Misuse, match=r"here: .* is no time"):
        read_duration(text, where="here")


@pytest.mark.parametrize(
    ("text", "tail"),
    [("10m,64MB", (600, 64_000_000)), ("5GB", (0, 5_000_000_000)), ("0", (0, 0)), ("2kB, 1h", (3600, 2000))],
)
def test_a_tail_is_a_time_a_size_or_both(text, tail):
    assert read_tail(text, where="here") == tail


def test_a_tail_that_is_neither_names_the_file():
    with pytest.raises(Misuse, match=r"btc\.toml: journal_tail '64' is neither a time nor a size"):
        Instance(symbol="BTC_USDT", journal_tail="64", source="btc.toml").checked()


@pytest.mark.parametrize("text", ["64mb", "10m,20m", "1MB,2MB", "10m,64MB,5s", "forever", "٣d", ""])
def test_a_tail_that_says_two_things_or_none_is_refused(text):
    with pytest.raises(Misuse, match="Write 10m, 64MB, or both"):
        read_tail(text, where="here")


def test_a_file_may_say_0_without_quotes(tmp_path):
    path = write(tmp_path, 'symbol = "BTC_USDT"\nkeep_raw = 0\njournal_tail = 0\n')
    assert load_instance(path).keep_raw == 0


@pytest.mark.parametrize(
    ("given", "database", "symbol", "folder"),
    [
        ("", "data", "BTC_USDT", "data/journal/mexc/BTC_USDT"),
        ("", "http://host:8123", "BTC_USDT", "journal/mexc/BTC_USDT"),
        ("/srv/j", "data", "BTC_USDT", "/srv/j/mexc/BTC_USDT"),
        ("", "data", "../../etc/passwd", None),
        ("", "data", "A/B", "data/journal/mexc/A%2FB"),
        ("", "data", "..", None),
        ("", "data", "A" * 300, None),
    ],
)
def test_the_journal_of_a_stream_has_its_own_folder(given, database, symbol, folder):
    if folder is None:
        with pytest.raises(Misuse, match="no journal can be named after the symbol"):
            journal_folder(given, database, "mexc", symbol)
    else:
        assert journal_folder(given, database, "mexc", symbol) == Path(folder)


def test_one_proxy_or_several_are_all_of_them():
    assert Instance(symbol="A_USDT").all_proxies == ()
    assert Instance(symbol="A_USDT", proxy="http://a:1").all_proxies == ("http://a:1",)
    assert Instance(symbol="A_USDT", proxies=("http://a:1", "http://b")).all_proxies == (
        "http://a:1",
        "http://b",
    )


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        (None, ("http://of-file:1",)),
        (["socks5://a:1"], ("socks5://a:1",)),
        (["socks5://a:1", "http://b:1"], ("socks5://a:1", "http://b:1")),
        ([""], ()),
    ],
)
@pytest.mark.parametrize("key", ['proxy = "http://of-file:1"', 'proxies = ["http://of-file:1"]'])
def test_proxies_of_the_command_line_replace_those_of_the_file(tmp_path, key, flags, left):
    write(tmp_path, GOOD + key)
    assert instance_of("mexc", ("BTC_USDT",), tmp_path, _proxies(flags)).all_proxies == left
