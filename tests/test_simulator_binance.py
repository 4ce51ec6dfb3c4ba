"""Binance's futures and spot market in the simulator: exact frames, chains of numbers, answers, silences."""

import json
from decimal import Decimal
from itertools import pairwise

import pytest

from mexcflow.model import Trade as TradeRow
from mexcflow.simulator.binance import Binance, BinanceSpot
from mexcflow.simulator.book import Level
from mexcflow.simulator.market import Candle, Depth, Ticker, Trade, Trades
from tests.simulated import START_MS, Client, Player, is_readable, readings

NOW_MS = 1_790_000_000_500
FUTURES, SPOT = Binance(("牛来USDT",)), BinanceSpot()
BTC = FUTURES.by_symbol["BTCUSDT"]
TRADES = Trades(BTC, (Trade(840_001, 13, True, 77, 2, 1, False), Trade(840_000, 1, False, 78, 0, 3, False)))
EARLIER = Depth(BTC, (Level(839_998, 5, 1),), (Level(840_003, 2, 1),), 1000, 7)
DEPTH = Depth(
    BTC,
    (Level(840_000, 3, 1), Level(839_998, 20, 2)),
    (Level(840_001, 1500, 9), Level(840_003, 2, 1)),
    1060,
    4,
)
TICKER = Ticker(
    contract=BTC,
    last_ticks=840_001,
    mark_ticks=840_010,
    index_ticks=840_020,
    bid_ticks=840_000,
    ask_ticks=840_001,
    low_ticks=830_000,
    high_ticks=850_000,
    open_ticks=837_000,
    volume_contracts=2_000_000,
    amount_quote=Decimal(168_000_000),
    open_interest=8_291_299,
    funding_rate_e6=-45,
    changes_e4=(),
)
CANDLE = Candle(
    BTC, "1m", 1_789_999_980_000, 1_790_000_040_000, 840_001, 840_009, 839_990, 840_000, 14,
    Decimal("1176.0013"), 13, Decimal("1092.0013"), 2, 77, 78, True,
)  # fmt: skip


def spelled(exchange, event, stream: str) -> list[str]:
    return [frame.decode() for frame in exchange.frames(event, stream, NOW_MS)]


@pytest.fixture(autouse=True)
def books():
    for exchange in (FUTURES, SPOT):
        for depth in (EARLIER, DEPTH):
            exchange.take(depth, NOW_MS)


def test_each_trade_is_a_frame_and_m_is_true_where_the_seller_is_the_aggressor():
    head = '{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":1790000000500,'
    assert spelled(FUTURES, TRADES, "btcusdt@aggTrade") == [
        head + '"a":77,"s":"BTCUSDT","p":"84000.10","q":"0.013","nq":"0.013","f":4600000077,"l":4600000077,'
        '"T":1790000000350,"m":false,"st":1}}',
        head + '"a":78,"s":"BTCUSDT","p":"84000.00","q":"0.001","nq":"0.001","f":4600000078,"l":4600000078,'
        '"T":1790000000350,"m":true,"st":1}}',
    ]
    assert spelled(SPOT, TRADES, "btcusdt@aggTrade")[0] == (
        head + '"s":"BTCUSDT","a":77,"p":"84000.10000000","q":"0.01300000","f":4600000077,"l":4600000077,'
        '"T":1790000000495,"m":false,"M":true}}'
    )


def test_the_top_of_a_book_is_best_first_and_its_changes_rise():
    head = '{"stream":"%s","data":{"e":"depthUpdate","E":1790000000500,"T":1790000000496,'
    numbers = '"s":"BTCUSDT","ps":"BTCUSDT","U":1016,"u":1060,"pu":1000,'
    assert spelled(FUTURES, DEPTH, "btcusdt@depth20@100ms") == [
        head % "btcusdt@depth20@100ms" + numbers + '"b":[["84000.00","0.003"],["83999.80","0.020"]],'
        '"a":[["84000.10","1.500"],["84000.30","0.002"]],"st":1}}'
    ]
    assert spelled(FUTURES, DEPTH, "btcusdt@depth5") == [
        frame.replace("depth20@100ms", "depth5") for frame in spelled(FUTURES, DEPTH, "btcusdt@depth20@100ms")
    ]
    assert spelled(FUTURES, DEPTH, "btcusdt@depth@100ms") == [
        head % "btcusdt@depth@100ms" + numbers + '"b":[["83999.80","0.020"],["84000.00","0.003"]],'
        '"a":[["84000.10","1.500"]],"st":1}}'
    ]
    assert spelled(SPOT, DEPTH, "btcusdt@depth20@100ms") == [
        '{"stream":"btcusdt@depth20@100ms","data":{"lastUpdateId":1060,'
        '"bids":[["84000.00000000","0.00300000"],["83999.80000000","0.02000000"]],'
        '"asks":[["84000.10000000","1.50000000"],["84000.30000000","0.00200000"]]}}'
    ]
    assert spelled(SPOT, DEPTH, "btcusdt@depth") == [
        '{"stream":"btcusdt@depth","data":{"e":"depthUpdate","E":1790000000500,"s":"BTCUSDT","U":1001,"u":1060,'
        '"b":[["83999.80000000","0.02000000"],["84000.00000000","0.00300000"]],'
        '"a":[["84000.10000000","1.50000000"]]}}'
    ]


def test_a_level_that_is_gone_has_quantity_0():
    FUTURES.take(DEPTH._replace(bids=DEPTH.bids[:1], version=1070), NOW_MS)
    (frame,) = FUTURES.frames(DEPTH, "btcusdt@depth", NOW_MS)
    data = json.loads(frame)["data"]
    assert (data["pu"], data["b"], data["a"]) == (1060, [["83999.80", "0.000"]], [])


def test_best_prices():
    best = '"b":"84000.00","B":"0.003","a":"84000.10","A":"1.500"'
    assert spelled(FUTURES, DEPTH, "raw btcusdt@bookTicker") == [
        f'{{"e":"bookTicker","u":1060,"s":"BTCUSDT","ps":"BTCUSDT",{best},'
        '"T":1790000000496,"E":1790000000500,"st":1}'
    ]
    assert spelled(SPOT, DEPTH, "raw btcusdt@bookTicker") == [
        '{"u":1060,"s":"BTCUSDT","b":"84000.00000000","B":"0.00300000","a":"84000.10000000","A":"1.50000000"}'
    ]


def test_a_ticker_event_is_mark_price_and_the_last_day():
    assert spelled(FUTURES, TICKER, "btcusdt@markPrice@1s") == [
        '{"stream":"btcusdt@markPrice@1s","data":{"e":"markPriceUpdate","E":1790000000500,"s":"BTCUSDT",'
        '"p":"84001.00000000","ap":"84001.00000000","P":"84002.00000000","i":"84002.00000000",'
        '"r":"-0.00004500","T":1790006400000,"st":1}}'
    ]
    assert spelled(FUTURES, TICKER, "btcusdt@ticker") == [
        '{"stream":"btcusdt@ticker","data":{"e":"24hrTicker","E":1790000000500,"s":"BTCUSDT","p":"300.10",'
        '"P":"0.359","w":"84000.00","c":"84000.10","Q":"0.001","o":"83700.00","h":"85000.00","l":"83000.00",'
        '"v":"2000.000","q":"168000000.00000","O":1789913600500,"C":1790000000500,"F":4600000000,'
        '"L":4600050000,"n":50001}}'
    ]


def test_a_candle_has_spaces_inside_k_on_futures_alone():
    k = [
        '"t":1789999980000', '"T":1790000039999', '"s":"BTCUSDT"', '"i":"1m"', '"f":4600000077',
        '"L":4600000078', '"o":"84000.10"', '"c":"84000.00"', '"h":"84000.90"', '"l":"83999.00"',
        '"v":"0.014"', '"n":2', '"x":true', '"q":"1176.00130"', '"V":"0.013"', '"Q":"1092.00130"', '"B":"0"',
    ]  # fmt: skip
    head = '{"stream":"btcusdt@kline_1m","data":{"e":"kline","E":1790000000500,"s":"BTCUSDT","k":{'
    assert spelled(FUTURES, CANDLE, "btcusdt@kline_1m") == [f"{head}{', '.join(k)}}}}}}}"]
    assert ", " not in spelled(SPOT, CANDLE, "btcusdt@kline_1m")[0]


def subscribed(player: Player, path: str, *streams: str) -> Client:
    return player.client(path, {"method": "SUBSCRIBE", "params": streams, "id": 1})


EVERYTHING = ("aggTrade", "depth20@100ms", "depth@100ms", "markPrice@1s", "ticker", "kline_1m", "bookTicker")


@pytest.mark.parametrize(
    ("name", "path", "kinds"),
    [
        ("binance", "/public/stream", {"depth20@100ms", "depth@100ms", "bookTicker"}),
        ("binance", "/stream", {"depth20@100ms", "depth@100ms", "bookTicker"}),
        ("binance", "/market/stream", {"aggTrade", "markPrice@1s", "ticker", "kline_1m"}),
        ("binance_spot", "/stream", set(EVERYTHING) - {"markPrice@1s"}),
    ],
)
def test_a_socket_acknowledges_everything_and_delivers_its_own(name, path, kinds):
    player = Player(name, "牛来USDT")
    client = subscribed(player, path, *(f"牛来usdt@{kind}" for kind in EVERYTHING))
    assert [reply.payload for reply in client.replies] == [b'{"result":null,"id":1}']
    player.run(3)
    assert {frame["stream"] for frame in client.parsed()} == {f"牛来usdt@{kind}" for kind in kinds}


@pytest.mark.parametrize(
    "stream", ["nopeusdt@aggTrade", "BTCUSDT@aggTrade", "btcusdt@aggtrade", "btcusdt@kline_7m", "btcusdt", ""]
)
def test_what_does_not_exist_is_acknowledged_and_silent(stream):
    player = Player("binance")
    client = subscribed(player, "/market/stream", stream)
    player.run(2)
    assert [reply.payload for reply in client.replies] == [b'{"result":null,"id":1}']
    assert client.frames == []


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ({"method": "LIST_SUBSCRIPTIONS", "id": 3}, {"result": ["a", "b"], "id": 3}),
        ({"method": "UNSUBSCRIBE", "params": ["a"], "id": "x"}, {"result": None, "id": "x"}),
        ({"method": "GET_PROPERTY", "params": ["combined"], "id": 4}, {"result": True, "id": 4}),
        (
            {"method": "GET_PROPERTY", "params": ["x"], "id": 4},
            {"error": {"code": 0, "msg": "Unknown property"}, "id": 4},
        ),
        (b"{", {"error": {"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"}}),
        (
            {"method": "SUBSCRIBE", "params": []},
            {"error": {"code": 2, "msg": "Invalid request: request ID must be an unsigned integer"}},
        ),
        (
            {"id": 1},
            {"error": {"code": 2, "msg": "Invalid request: missing field `method` at line 1 column 9"}},
        ),
    ],
)
def test_answers(request_, answer):
    client = subscribed(Player("binance"), "/public/stream", "a", "b", "a")
    assert client.ask(request_) == [answer]


def test_an_unknown_method_is_an_error():
    client = Player("binance").client("/stream")
    (answer,) = client.ask({"method": "subscribe", "params": ["btcusdt@depth"], "id": 7})
    assert answer["id"] == 7
    assert answer["error"]["code"] == 2
    assert answer["error"]["msg"].startswith("Invalid request: unknown variant `subscribe`, expected one of ")
    assert not client.session.subscribed


def test_streams_in_the_url_and_frames_without_their_names():
    player = Player("binance")
    named = player.client("/market/stream", streams="btcusdt@aggTrade/ethusdt@aggTrade")
    plain = player.client("/market/ws/btcusdt@aggTrade")
    player.run(2)
    assert {frame["stream"] for frame in named.parsed()} == {"btcusdt@aggTrade", "ethusdt@aggTrade"}
    btc = [frame["data"] for frame in named.parsed() if frame["stream"].startswith("btc")]
    assert list(plain.parsed()) == btc
    assert plain.session.farewell(NOW_MS) == [b'{"e":"serverShutdown","E":1790000000500}']
    assert named.session.farewell(NOW_MS) == [
        b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1790000000500}}'
    ]


@pytest.mark.parametrize("path", ["/", "/edge", "/market", "/private/stream", "/market/streams"])
def test_there_is_no_socket_elsewhere(path):
    assert FUTURES.session(path, {}) is None


def test_futures_chain_their_books_by_pu_and_their_trades_by_ids():
    player = Player("binance")
    books = subscribed(player, "/public/stream", "btcusdt@depth20@100ms", "btcusdt@depth@100ms")
    trades = subscribed(player, "/market/stream", "btcusdt@aggTrade")
    player.run(20)
    for stream in ("btcusdt@depth20@100ms", "btcusdt@depth@100ms"):
        updates = [frame["data"] for frame in books.parsed() if frame["stream"] == stream]
        assert len(updates) > 60
        assert [later["pu"] for later in updates[1:]] == [earlier["u"] for earlier in updates[:-1]]
        assert all(update["pu"] + 1 < update["U"] <= update["u"] for update in updates)
    ids = [frame["data"]["a"] for frame in trades.parsed()]
    assert ids == list(range(ids[0], ids[0] + len(ids)))


def test_spot_changes_follow_one_another_and_come_to_the_top_of_the_same_moment():
    player = Player("binance_spot")
    client = subscribed(player, "/stream", "btcusdt@depth@100ms", "btcusdt@depth20@100ms")
    player.run(20)
    changes = [frame["data"] for frame in client.parsed() if frame["stream"] == "btcusdt@depth@100ms"]
    tops = [frame["data"] for frame in client.parsed() if frame["stream"] == "btcusdt@depth20@100ms"]
    assert all(later["U"] == earlier["u"] + 1 for earlier, later in pairwise(changes))
    bids: dict[str, str] = {}
    asks: dict[str, str] = {}
    for change, top in zip(changes, tops, strict=True):
        for side, levels in ((bids, change["b"]), (asks, change["a"])):
            side.update(levels)
            for price in [price for price, quantity in side.items() if not Decimal(quantity)]:
                del side[price]
        assert top["lastUpdateId"] == change["u"]
        assert top["bids"] == [list(one) for one in sorted(bids.items(), key=_price, reverse=True)]
        assert top["asks"] == [list(one) for one in sorted(asks.items(), key=_price)]


def _price(level: tuple[str, str]) -> Decimal:
    return Decimal(level[0])


def test_a_candle_closes_when_its_minute_ends_and_is_made_of_its_trades():
    player = Player("binance")
    client = subscribed(player, "/market/stream", "btcusdt@kline_1m", "btcusdt@aggTrade", "btcusdt@kline_5m")
    player.run(63)
    frames = list(client.parsed())
    candles = [frame["data"] for frame in frames if frame["stream"] == "btcusdt@kline_1m"]
    trades = [frame["data"] for frame in frames if frame["stream"] == "btcusdt@aggTrade"]
    closed = [candle for candle in candles if candle["k"]["x"]]
    minute_ms = START_MS + 1000
    assert [candle["k"]["t"] for candle in closed] == [minute_ms - 60_000, minute_ms]
    assert all(0 < candle["E"] - candle["k"]["T"] <= 500 for candle in closed)
    own = [trade for trade in trades if minute_ms <= trade["T"] < minute_ms + 60_000]
    k = closed[1]["k"]
    prices = [Decimal(trade["p"]) for trade in own]
    assert (k["o"], k["c"]) == (own[0]["p"], own[-1]["p"])
    assert (Decimal(k["h"]), Decimal(k["l"])) == (max(prices), min(prices))
    assert Decimal(k["v"]) == sum(Decimal(trade["q"]) for trade in own)
    assert Decimal(k["V"]) == sum(Decimal(trade["q"]) for trade in own if not trade["m"])
    assert Decimal(k["q"]) == sum(Decimal(trade["q"]) * Decimal(trade["p"]) for trade in own)
    assert k["n"] == len(own)
    fives = [frame["data"]["k"]["t"] for frame in frames if frame["stream"] == "btcusdt@kline_5m"]
    assert sorted(set(fives)) == [minute_ms - 240_000, minute_ms + 60_000]


@pytest.mark.parametrize(("name", "paths"), [("binance", ("public", "market")), ("binance_spot", ("",))])
def test_the_recorder_reads_every_frame_and_no_garbage(name, paths):
    player = Player(name, "牛来USDT")
    symbols = tuple(contract.symbol for contract in player.exchange.contracts)
    streams = [
        f"{symbol.lower()}@{kind}" for symbol in symbols for kind in EVERYTHING if kind != "bookTicker"
    ]
    clients = [subscribed(player, f"/{path}/stream".replace("//", "/"), *streams) for path in paths]
    player.run(5)
    for client in clients:
        assert all(reading.rows for reading in readings(name, client.frames, *symbols))
        for message in client.session.garbage():
            assert not is_readable(name, message.payload, "BTCUSDT"), message
    trades = [row for row in readings(name, clients[-1].frames, *symbols) for row in row.rows]
    expected = [
        (
            event.contract.symbol,
            str(trade.trade_id),
            "buy" if trade.aggressor_buys else "sell",
            trade.contracts,
        )
        for event in player.events
        if isinstance(event, Trades)
        for trade in event.trades
    ]
    sizes = {contract.symbol: contract.contract_size for contract in player.exchange.contracts}
    assert [
        (row.symbol, row.id, row.side, Decimal(row.quantity) / sizes[row.symbol])
        for row in trades
        if isinstance(row, TradeRow)
    ] == expected


def rest(exchange, path: str, **query: str):
    answer = exchange.rest(path, query, NOW_MS)
    return None if answer is None else (answer.status, json.loads(answer.body))


def test_rest_of_futures():
    assert rest(FUTURES, "/fapi/v1/ping") == (200, {})
    assert rest(FUTURES, "/fapi/v1/time") == (200, {"serverTime": NOW_MS})
    assert rest(FUTURES, "/fapi/v1/depth", symbol="BTCUSDT", limit="5") == (
        200,
        {
            "lastUpdateId": 1060,
            "E": NOW_MS,
            "T": NOW_MS - 4,
            "bids": [["84000.00", "0.003"], ["83999.80", "0.020"]],
            "asks": [["84000.10", "1.500"], ["84000.30", "0.002"]],
        },
    )
    FUTURES.take(TICKER, NOW_MS)
    assert rest(FUTURES, "/fapi/v1/openInterest", symbol="BTCUSDT") == (
        200,
        {"symbol": "BTCUSDT", "openInterest": "8291.299", "time": NOW_MS},
    )
    assert rest(FUTURES, "/fapi/v1/depth", symbol="NOPE") == (400, {"code": -1121, "msg": "Invalid symbol."})
    assert rest(FUTURES, "/fapi/v1/depth", symbol="BTCUSDT", limit="7")[0] == 400
    assert rest(FUTURES, "/fapi/v1/nothing") is None
    assert rest(FUTURES, "/api/v3/ping") is None


def test_rest_of_spot():
    assert rest(SPOT, "/api/v3/ping") == (200, {})
    assert rest(SPOT, "/api/v3/depth", symbol="BTCUSDT", limit="1") == (
        200,
        {
            "lastUpdateId": 1060,
            "bids": [["84000.00000000", "0.00300000"]],
            "asks": [["84000.10000000", "1.50000000"]],
        },
    )
    assert rest(SPOT, "/api/v3/openInterest", symbol="BTCUSDT") is None


def test_the_list_of_symbols():
    status, info = rest(FUTURES, "/fapi/v1/exchangeInfo")
    symbols = [
        (one["symbol"], one["baseAsset"], one["quoteAsset"], one["contractType"], one["status"])
        for one in info["symbols"]
    ]
    assert (status, symbols) == (
        200,
        [(f"{base}USDT", base, "USDT", "PERPETUAL", "TRADING") for base in ("BTC", "ETH", "SOL", "牛来")],
    )
    steps = {each["filterType"]: each for each in info["symbols"][0]["filters"]}
    assert (steps["PRICE_FILTER"]["tickSize"], steps["LOT_SIZE"]["stepSize"]) == ("0.10", "0.001")
    (one,) = rest(SPOT, "/api/v3/exchangeInfo", symbol="ETHUSDT")[1]["symbols"]
    assert one["filters"][0]["tickSize"] == "0.01000000"
    assert rest(SPOT, "/api/v3/exchangeInfo", symbol="NOPE")[0] == 400


def test_odd_spelling_keeps_every_value():
    frames = []
    for odd_numbers in (False, True):
        player = Player("binance", odd_numbers=odd_numbers)
        client = subscribed(player, "/market/stream", "btcusdt@aggTrade", "btcusdt@markPrice")
        player.run(3)
        frames.append(list(client.parsed()))
    values = [[_decimals(frame["data"], "p", "q", "i", "r") for frame in side] for side in frames]
    assert values[0] == values[1]
    assert frames[0] != frames[1]


def _decimals(data: dict, *keys: str) -> dict[str, Decimal]:
    return {key: Decimal(data[key]) for key in keys if key in data}
