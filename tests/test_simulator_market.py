"""The generated market and its wire form, without sockets."""

import json
import re
from decimal import Decimal
from itertools import pairwise

import pytest

from mexcflow.errors import Misuse
from mexcflow.simulator.contracts import contracts
from mexcflow.simulator.market import Depth, Event, Market, Ticker, Trades
from mexcflow.simulator.mexc import Mexc
from mexcflow.simulator.spelling import OddSpelling, fixed, plain

SYMBOLS = ("BTC_USDT", "ETH_USDT", "SOL_USDT")
NOW_MS = 1_788_335_242_156


def events_until(seconds: float, *, seed: int = 1) -> list[Event]:
    market, events = Market(contracts(), seed=seed), []
    while True:
        due_s, event = market.next_event()
        if due_s > seconds:
            return events
        events.append(event)


def parsed(frame: bytes) -> dict:
    return json.loads(frame, parse_float=Decimal)


def test_same_seed_same_events_other_seed_others():
    assert events_until(20, seed=7) == events_until(20, seed=7)
    assert events_until(20, seed=7) != events_until(20, seed=8)


def test_market_time_never_runs_backwards():
    market = Market(contracts())
    times = [market.next_event()[0] for _ in range(3000)]
    assert times == sorted(times)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_cadence_of_each_channel(symbol):
    events = [event for event in events_until(270) if event.contract.symbol == symbol]
    tickers = sum(isinstance(event, Ticker) for event in events)
    depths = sum(isinstance(event, Depth) for event in events)
    trades = sum(len(event.trades) for event in events if isinstance(event, Trades))
    assert 97 <= tickers <= 104
    assert 950 <= depths <= 1080
    assert 10 <= trades / 270 <= 31
    assert any(len(event.trades) > 1 for event in events if isinstance(event, Trades))


def test_depth_has_20_sorted_levels_a_side_and_about_5_of_40_change():
    changed, last = [], {}
    for event in events_until(120):
        if not isinstance(event, Depth):
            continue
        bids = [level.price_ticks for level in event.bids]
        asks = [level.price_ticks for level in event.asks]
        assert (len(bids), len(asks)) == (20, 20)
        assert bids == sorted(set(bids), reverse=True)
        assert asks == sorted(set(asks))
        assert bids[0] < asks[0]
        assert all(level.contracts > 0 and level.orders > 0 for level in event.bids + event.asks)
        if event.contract in last:
            before = last[event.contract]
            assert event.version > before.version
            changed.append(len({*event.bids, *event.asks} - {*before.bids, *before.asks}))
        last[event.contract] = event
    assert 3 < sum(changed) / len(changed) < 7


def test_trade_ids_are_consecutive_and_prices_stay_near_the_book():
    best, ids = {}, {}
    for event in events_until(60):
        symbol = event.contract.symbol
        if isinstance(event, Depth):
            best[symbol] = event.bids[0].price_ticks
        elif isinstance(event, Trades):
            ids.setdefault(symbol, []).extend(trade.trade_id for trade in event.trades)
            assert all(abs(trade.price_ticks - best[symbol]) < 20 for trade in event.trades)
    assert all(later == earlier + 1 for numbers in ids.values() for earlier, later in pairwise(numbers))
    assert ids.keys() == set(SYMBOLS)


def test_prices_wander_but_not_away():
    bids = [
        event.bids[0].price_ticks
        for event in events_until(600)
        if isinstance(event, Depth) and event.contract.symbol == "SOL_USDT"
    ]
    assert len(set(bids)) > 20
    assert all(13_000 < ticks < 17_000 for ticks in bids)


def test_frames_have_the_wire_shape_of_2026():
    exchange, seen = Mexc(SYMBOLS), {}
    for event in events_until(5):
        if event.contract.symbol == "BTC_USDT":
            seen.setdefault(type(event), exchange.frame(event, "20", NOW_MS).decode())
    number = r"-?\d+(\.\d+)?"
    deal = rf'{{"p":{number},"v":\d+,"T":[12],"O":[123],"M":[12],"t":\d{{13}},"i":"\d+","cts":"\d{{13}}"}}'
    assert re.fullmatch(
        rf'{{"symbol":"BTC_USDT","data":\[{deal}(,{deal})*\],"channel":"push.deal","ts":{NOW_MS}}}',
        seen[Trades],
    )
    levels = rf"\[(\[{number},\d+,\d+\],?){{20}}\]"
    assert re.fullmatch(
        rf'{{"symbol":"BTC_USDT","data":{{"cts":\d{{13}},"asks":{levels},"bids":{levels},"version":\d+}},'
        rf'"channel":"push.depth.full","ts":{NOW_MS}}}',
        seen[Depth],
    )
    ticker = parsed(seen[Ticker].encode())
    assert list(ticker) == ["symbol", "data", "channel", "ts"]
    assert " ".join(ticker["data"]) == (
        "symbol lastPrice riseFallRate fairPrice indexPrice volume24 amount24 maxBidPrice minAskPrice "
        "lower24Price high24Price timestamp bid1 ask1 holdVol riseFallValue fundingRate zone "
        "riseFallRates riseFallRatesOfTimezone"
    )
    assert ticker["data"]["fundingRate"] == Decimal("0.000081")
    assert [len(ticker["data"][key]) for key in ("riseFallRates", "riseFallRatesOfTimezone")] == [6, 3]
    assert '"riseFallRate":0.0' in seen[Ticker]


def test_whole_prices_are_integers_and_others_have_no_trailing_zero():
    assert plain(775_940, 1) == "77594"
    assert plain(775_259, 1) == "77525.9"
    assert plain(-45, 6) == "-0.000045"
    assert plain(0, 4) == "0"
    assert plain(1200, 0) == "1200"
    assert fixed(50, 4) == "0.0050"
    assert fixed(-270, 4) == "-0.0270"


def test_exponents_keep_every_value_and_use_every_spelling():
    usual, odd, texts = Mexc(SYMBOLS), Mexc(SYMBOLS, odd_numbers=True), ""
    for event in events_until(10):
        frames = usual.frame(event, "20", NOW_MS), odd.frame(event, "20", NOW_MS)
        assert parsed(frames[0]) == parsed(frames[1])
        texts += frames[1].decode()
    for spelling in (r"\d\.\d+E\+4", r"\de-5", r"\.\d+0,", r"\.0{30}\b", r"[,:\[]84\d{3}\.\d[,\]]"):
        assert re.search(spelling, texts), spelling


def test_odd_spelling_of_tiny_numbers():
    spell = OddSpelling()
    texts = {spell("0.00000012") for _ in range(7)}
    assert {"1.2E-7", "1.2e-7", "0.00000012", "0.000000120"} < texts
    assert {Decimal(text) for text in texts} == {Decimal("0.00000012")}


def test_further_symbols_have_made_up_prices_that_do_not_change():
    first, again = contracts(("DOGE_USDT", "BTC_USDT")), contracts(("DOGE_USDT",))
    assert [contract.symbol for contract in first] == [*SYMBOLS, "DOGE_USDT"]
    assert first == again


@pytest.mark.parametrize("symbol", ["", " ", "A B", 'A"B', "A\n"])
def test_impossible_symbols_are_refused(symbol):
    with pytest.raises(Misuse, match="is not a symbol"):
        contracts((symbol,))
