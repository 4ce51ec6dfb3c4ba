"""The table of contracts: a row when something changed, the newest one read back, exactly."""

import msgspec
import pytest

from mexcflow.model import Instrument
from mexcflow.store import open_store
from mexcflow.store.contracts import read_contracts, write_contracts
from mexcflow.store.market import ensure_market
from tests.endpoints import either

T0 = 1_790_000_000_123
BTC = Instrument(
    symbol="BTC_USDT",
    base="BTC",
    quote="USDT",
    kind="perpetual",
    contract_size="0.0001",
    tick_size="0.1",
    quantity_step="1",
)
COIN = Instrument(
    symbol="BTC_USD",
    base="BTC",
    quote="USD",
    kind="perpetual",
    contract_size="100",
    inverse=True,
    tick_size="0.5",
    quantity_step="1",
    state="pause",
)
ODD = Instrument(symbol="牛来\t'USDT", base="牛来", quote="USDT", kind="spot")
ALL_ROWS = """
SELECT exchange, symbol, base, quote, kind, toString(contract_size), inverse, toString(tick_size),
    toString(quantity_step), state, toUnixTimestamp64Milli(seen)
FROM market_data.contracts ORDER BY exchange, seen, symbol
"""


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    with open_store(str(tmp_path_factory.mktemp("contracts") / "data")) as store:
        assert read_contracts(store, "mexc", ["BTC_USDT"]) == []  # without a table there is nothing
        ensure_market(store)
        yield store


@pytest.fixture(params=["embedded", "endpoint"])
def store(request, embedded):
    embedded.command("TRUNCATE TABLE market_data.contracts")
    yield from either(request.param, embedded)


def changed(instrument, **values):
    return msgspec.structs.replace(instrument, **values)


def test_a_row_holds_what_the_list_said_and_when(store):
    assert write_contracts(store, "mexc", [BTC, COIN, ODD], T0) == ["BTC_USDT", "BTC_USD", ODD.symbol]
    assert store.query(ALL_ROWS) == [
        ("mexc", "BTC_USD", "BTC", "USD", "perpetual", "100", True, "0.5", "1", "pause", T0),
        ("mexc", "BTC_USDT", "BTC", "USDT", "perpetual", "0.0001", False, "0.1", "1", "trading", T0),
        ("mexc", ODD.symbol, "牛来", "USDT", "spot", "1", False, None, None, "trading", T0),
    ]
    assert read_contracts(store, "mexc", [ODD.symbol, "NOPE", "BTC_USD"]) == [ODD, COIN]
    assert read_contracts(store, "mexc", []) == []
    assert read_contracts(store, "okx", ["BTC_USDT"]) == []


def test_what_is_said_again_is_not_written_again(store):
    write_contracts(store, "mexc", [BTC, ODD], T0)
    again = changed(BTC, contract_size="0.000100", tick_size="1E-1", quantity_step="1.0")
    assert write_contracts(store, "mexc", [again, ODD], T0 + 1) == []
    assert [row[-1] for row in store.query(ALL_ROWS)] == [T0, T0]


def test_each_change_is_a_row_with_the_time_it_was_first_seen_at(store):
    said = [BTC, changed(BTC, contract_size="0.001"), changed(BTC, contract_size="0.001"), BTC]
    written = [write_contracts(store, "mexc", [one, COIN], T0 + n) for n, one in enumerate(said)]
    assert written == [["BTC_USDT", "BTC_USD"], ["BTC_USDT"], [], ["BTC_USDT"]]
    assert [(row[1], row[5], row[-1]) for row in store.query(ALL_ROWS)] == [
        ("BTC_USD", "100", T0),
        ("BTC_USDT", "0.0001", T0),
        ("BTC_USDT", "0.001", T0 + 1),
        ("BTC_USDT", "0.0001", T0 + 3),
    ]
    assert read_contracts(store, "mexc", ["BTC_USDT"]) == [BTC]


@pytest.mark.parametrize(
    "values",
    [
        {"base": "XBT"},
        {"quote": "USDC"},
        {"kind": "future"},
        {"inverse": True},
        {"tick_size": ""},
        {"quantity_step": "10"},
        {"state": "offline"},
    ],
)
def test_a_change_of_anything_counts(embedded, values):
    embedded.command("TRUNCATE TABLE market_data.contracts")
    write_contracts(embedded, "mexc", [BTC], T0)
    other = changed(BTC, **values)
    assert write_contracts(embedded, "mexc", [other], T0 + 1) == ["BTC_USDT"]
    assert read_contracts(embedded, "mexc", ["BTC_USDT"]) == [other]


def test_what_was_said_before_the_newest_row_is_no_news(store):
    write_contracts(store, "mexc", [BTC], T0)
    for before_ms in (0, 3_000_000):
        assert write_contracts(store, "mexc", [changed(BTC, state="pause")], T0 - before_ms) == []
    assert read_contracts(store, "mexc", ["BTC_USDT"]) == [BTC]


def test_symbols_of_the_same_name_on_two_exchanges_are_two(store):
    write_contracts(store, "mexc", [BTC], T0)
    other = changed(BTC, contract_size="1")
    assert write_contracts(store, "okx", [other], T0) == ["BTC_USDT"]
    assert read_contracts(store, "mexc", ["BTC_USDT"]) == [BTC]
    assert read_contracts(store, "okx", ["BTC_USDT"]) == [other]


def test_a_size_that_is_not_known_or_too_long_for_the_column_is_not_written(store):
    sizes = ("", "none", "NaN", "Infinity", "0", "-1", "1" + 20 * "0", "1E-19")
    odd = [changed(BTC, symbol=f"X{n}", contract_size=size) for n, size in enumerate(sizes)]
    ticks = changed(BTC, tick_size="0.0000000000000000001", quantity_step="0.000000000000000001")
    assert write_contracts(store, "mexc", [*odd, ticks], T0) == ["BTC_USDT"]
    assert read_contracts(store, "mexc", ["X0", "X6", "BTC_USDT"]) == [changed(ticks, tick_size="")]
    assert write_contracts(store, "mexc", [*odd, ticks], T0 + 1) == []
