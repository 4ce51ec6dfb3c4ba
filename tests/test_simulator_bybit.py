"""Bybit's linear contracts in the simulator: exact frames, snapshots and deltas, answers, lists."""

import json
from decimal import Decimal

import pytest

from mexcflow.exchanges import TYPED
from mexcflow.model import BookUpdate
from mexcflow.simulator.book import Level
from mexcflow.simulator.bybit import Bybit
from mexcflow.simulator.bybit_rest import BybitRest
from mexcflow.simulator.market import Candle, Depth, Ticker, Trade, Trades
from tests.simulated import START_MS, Client, Player, is_readable, readings

PATH = "/v5/public/linear"
NOW_MS = 1_790_000_000_500
needs_recorder = pytest.mark.skipif("bybit" not in TYPED, reason="the recorder does not know it yet")


@pytest.fixture
def exchange() -> Bybit:
    """One that has published two states of a book."""
    exchange = Bybit()
    btc = exchange.by_symbol["BTCUSDT"]
    exchange.take(Depth(btc, (Level(839_998, 5, 1),), (Level(840_003, 2, 1),), 1000, 7), NOW_MS)
    bids, asks = (
        (Level(840_000, 3, 1), Level(839_990, 20, 2)),
        (Level(840_001, 1500, 9), Level(840_003, 2, 1)),
    )
    exchange.take(Depth(btc, bids, asks, 1060, 4), NOW_MS)
    return exchange


def ticker(exchange: Bybit, **changed) -> Ticker:
    return Ticker(
        contract=exchange.by_symbol["BTCUSDT"],
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
    )._replace(**changed)


def test_all_trades_of_an_event_are_one_frame_with_the_takers_side(exchange):
    trades = (Trade(840_001, 13, True, 77, 2, 1, False), Trade(840_001, 1, True, 78, 0, 3, False))
    event = Trades(
        exchange.by_symbol["BTCUSDT"], (*trades, trades[1]._replace(aggressor_buys=False, trade_id=79))
    )
    (frame,) = exchange.frames(event, "delta publicTrade.BTCUSDT", NOW_MS)
    content = json.loads(frame)
    ids = [trade.pop("i") for trade in content["data"]]
    assert len(set(ids)) == 3
    assert all(len(one) == 36 for one in ids)
    same = {"T": NOW_MS - 1, "s": "BTCUSDT", "p": "84000.10", "BT": False, "RPI": False, "seq": 77}
    assert content == {
        "topic": "publicTrade.BTCUSDT",
        "type": "snapshot",
        "ts": NOW_MS,
        "data": [
            {**same, "S": "Buy", "v": "0.013", "L": "PlusTick"},
            {**same, "S": "Buy", "v": "0.001", "L": "ZeroPlusTick"},
            {**same, "S": "Sell", "v": "0.001", "L": "ZeroMinusTick"},
        ],
    }


def test_a_book_is_a_snapshot_or_what_changed(exchange):
    depth = exchange.books.latest("BTCUSDT").depth
    assert exchange.frames(depth, "snapshot orderbook.50.BTCUSDT", NOW_MS) == [
        b'{"topic":"orderbook.50.BTCUSDT","type":"snapshot","ts":1790000000500,"data":{"s":"BTCUSDT",'
        b'"b":[["84000.00","0.003"],["83999.00","0.020"]],"a":[["84000.10","1.500"],["84000.30","0.002"]],'
        b'"u":20000002,"seq":1060},"cts":1790000000496}'
    ]
    assert exchange.frames(depth, "delta orderbook.50.BTCUSDT", NOW_MS) == [
        b'{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1790000000500,"data":{"s":"BTCUSDT",'
        b'"b":[["84000.00","0.003"],["83999.80","0"],["83999.00","0.020"]],"a":[["84000.10","1.500"]],'
        b'"u":20000002,"seq":1060},"cts":1790000000496}'
    ]
    assert exchange.frames(depth, "snapshot orderbook.1.BTCUSDT", NOW_MS) == [
        b'{"topic":"orderbook.1.BTCUSDT","ts":1790000000500,"type":"snapshot","data":{"s":"BTCUSDT",'
        b'"b":[["84000.00","0.003"]],"a":[["84000.10","1.500"]],"u":20000002,"seq":1060},"cts":1790000000496}'
    ]


def test_a_ticker_is_all_fields_and_then_those_that_changed(exchange):
    first = ticker(exchange)
    exchange.take(first, NOW_MS)
    (frame,) = exchange.frames(first, "snapshot tickers.BTCUSDT", NOW_MS)
    assert json.loads(frame) == {
        "topic": "tickers.BTCUSDT",
        "type": "snapshot",
        "data": {
            "symbol": "BTCUSDT",
            "tickDirection": "ZeroMinusTick",
            "price24hPcnt": "0.003585",
            "lastPrice": "84000.10",
            "prevPrice24h": "83700.00",
            "highPrice24h": "85000.00",
            "lowPrice24h": "83000.00",
            "prevPrice1h": "83700.00",
            "markPrice": "84001.00",
            "indexPrice": "84002.00",
            "openInterest": "16582.598",
            "openInterestValue": "1392954814.60",
            "turnover24h": "168000000.0000",
            "volume24h": "2000.0000",
            "fundingIntervalHour": "8",
            "fundingCap": "0.005",
            "singleOpenInterest": "8291.299",
            "singleOpenInterestValue": "696477407.30",
            "nextFundingTime": "1790006400000",
            "fundingRate": "-0.00004500",
            "bid1Price": "84000.00",
            "bid1Size": "0.003",
            "ask1Price": "84000.10",
            "ask1Size": "1.500",
            "preOpenPrice": "",
            "preQty": "",
            "curPreListingPhase": "",
        },
        "cs": 1060,
        "ts": NOW_MS,
    }
    second = ticker(exchange, index_ticks=840_021)
    exchange.take(second, NOW_MS)
    assert exchange.frames(second, "delta tickers.BTCUSDT", NOW_MS) == [
        b'{"topic":"tickers.BTCUSDT","type":"delta","data":{"symbol":"BTCUSDT","indexPrice":"84002.10"},'
        b'"cs":1060,"ts":1790000000500}'
    ]
    exchange.take(second, NOW_MS)
    assert exchange.frames(second, "delta tickers.BTCUSDT", NOW_MS) == []


def test_a_candle(exchange):
    candle = Candle(
        exchange.by_symbol["BTCUSDT"], "1h", 1_789_999_200_000, 1_790_002_800_000, 840_001, 840_009, 839_990,
        840_000, 14, Decimal("1176.0013"), 13, Decimal("1092.0013"), 2, 77, 78, False,
    )  # fmt: skip
    assert exchange.frames(candle, "delta kline.60.BTCUSDT", NOW_MS) == [
        b'{"topic":"kline.60.BTCUSDT","data":[{"start":1789999200000,"end":1790002799999,"interval":"60",'
        b'"open":"84000.10","close":"84000.00","high":"84000.90","low":"83999.00","volume":"0.014",'
        b'"turnover":"1176.0013","confirm":false,"timestamp":1790000000500}],"ts":1790000000500,'
        b'"type":"snapshot"}'
    ]


def subscribed(player: Player, *topics: str) -> Client:
    return player.client(PATH, {"op": "subscribe", "args": topics, "req_id": "r"})


def ack(op: str, request: str, *, text: str = "", success: bool = True) -> dict:
    return {"success": success, "ret_msg": text, "conn_id": "simulated-00001", "req_id": request, "op": op}


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ({"op": "ping", "req_id": "p"}, ack("ping", "p", text="pong")),
        ({"op": "ping"}, ack("ping", "", text="pong")),
        ({"op": "subscribe", "args": ["publicTrade.ETHUSDT"]}, ack("subscribe", "")),
        ({"op": "unsubscribe", "args": ["publicTrade.BTCUSDT"], "req_id": "2"}, ack("unsubscribe", "2")),
        (
            {"op": "subscribe", "args": ["publicTrade.ETHUSDT", "publicTrade.BTCUSDT"], "req_id": "3"},
            ack("subscribe", "3", text="error:already subscribed,topic:publicTrade.BTCUSDT", success=False),
        ),
        ({"op": "nope"}, ack("nope", "", text="error:invalid op", success=False)),
    ],
)
def test_answers(request_, answer):
    assert subscribed(Player("bybit"), "publicTrade.BTCUSDT").ask(request_) == [answer]


@pytest.mark.parametrize(
    "topic",
    [
        "publicTrade.NOPEUSDT", "publicTrade.btcusdt", "orderbook.30.BTCUSDT", "orderbook.BTCUSDT",
        "kline.1m.BTCUSDT", "tickers.1.BTCUSDT", "weather.BTCUSDT", "order", "",
    ],
)  # fmt: skip
def test_one_unknown_topic_fails_its_whole_request(topic):
    player = Player("bybit")
    client = player.client(PATH)
    text = f"error:handler not found,topic:{topic}"
    assert client.ask({"op": "subscribe", "args": ["publicTrade.BTCUSDT", topic], "req_id": "1"}) == [
        ack("subscribe", "1", text=text, success=False)
    ]
    player.run(1)
    assert client.frames == []


def test_what_is_no_json_is_answered_and_the_connection_stays():
    client = Player("bybit").client(PATH)
    (answer,) = client.ask(b"hello")
    assert answer["success"] is False
    assert answer["ret_msg"].startswith("Failed to decode incoming data:")


@pytest.mark.parametrize("path", ["/", "/v5/public/spot", "/v5/public/linear/", "/v5/private"])
def test_there_is_no_socket_elsewhere(path):
    assert Bybit().session(path, {}) is None


def books(client: Client, topic: str) -> list[dict]:
    return [frame for frame in client.parsed() if frame["topic"] == topic]


def rebuilt(frames: list[dict]) -> tuple[list[list[str]], list[list[str]]]:
    """The levels that a snapshot and deltas come to, best first."""
    sides: dict[str, dict[str, str]] = {"b": {}, "a": {}}
    for frame in frames:
        for name, side in sides.items():
            if frame["type"] == "snapshot":
                side.clear()
            side.update(frame["data"][name])
            for price in [price for price, quantity in side.items() if quantity == "0"]:
                del side[price]
    bids, asks = (sorted(side.items(), key=lambda level: Decimal(level[0])) for side in sides.values())
    return [list(level) for level in reversed(bids)], [list(level) for level in asks]


def test_whoever_comes_later_gets_the_state_that_the_next_delta_follows():
    player = Player("bybit")
    topic = "orderbook.50.BTCUSDT"
    early = subscribed(player, topic)
    player.run(4)
    late = subscribed(player, topic)
    assert [frame["type"] for frame in late.parsed()] == ["snapshot"]  # at once, behind the acknowledgement
    player.run(20)
    for client in (early, late):
        frames = books(client, topic)
        assert [frame["type"] for frame in frames] == ["snapshot"] + ["delta"] * (len(frames) - 1)
        numbers = [frame["data"]["u"] for frame in frames]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    missed = (
        late.frames and json.loads(late.frames[0])["data"]["u"] - json.loads(early.frames[0])["data"]["u"]
    )
    for behind in range(len(late.frames)):
        ours, theirs = books(late, topic)[: behind + 1], books(early, topic)[: missed + behind + 1]
        assert rebuilt(ours) == rebuilt(theirs)
    depth = player.exchange.books.latest("BTCUSDT").depth
    size = depth.contract.contract_size
    assert [[Decimal(one) for one in level] for level in rebuilt(books(late, topic))[0]] == [
        [Decimal(level.price_ticks).scaleb(-1), level.contracts * size] for level in depth.bids
    ]
    assert len(depth.bids) == 50


def test_a_new_subscription_brings_a_new_snapshot():
    player = Player("bybit")
    topic = "orderbook.50.BTCUSDT"
    client = subscribed(player, topic)
    player.run(3)
    for op in ("unsubscribe", "subscribe"):
        assert client.ask({"op": op, "args": [topic], "req_id": op}) == [ack(op, op)]
    player.run(3)
    kinds = [frame["type"] for frame in books(client, topic)]
    assert kinds.count("snapshot") == 2
    latest = player.exchange.rest("/v5/market/orderbook", {"category": "linear", "symbol": "BTCUSDT"}, 0)
    result = json.loads(latest.body)["result"]
    assert result["u"] == books(client, topic)[-1]["data"]["u"]
    bids, asks = rebuilt(books(client, topic))
    assert (result["b"], result["a"]) == (bids[:25], asks[:25])


def test_level_1_is_snapshots_alone_and_tickers_begin_with_one():
    player = Player("bybit")
    client = subscribed(player, "orderbook.1.BTCUSDT", "tickers.BTCUSDT", "tickers.ETHUSDT")
    player.run(9)
    late = subscribed(player, "tickers.BTCUSDT")
    assert {frame["type"] for frame in books(client, "orderbook.1.BTCUSDT")} == {"snapshot"}
    told: dict[str, str] = {}
    for number, frame in enumerate(books(client, "tickers.BTCUSDT")):
        assert frame["type"] == ("delta" if number else "snapshot")
        told |= frame["data"]
    assert [frame["data"] for frame in late.parsed()] == [told]


def test_a_candle_is_confirmed_when_its_minute_ends():
    player = Player("bybit")
    client = subscribed(player, "kline.1.BTCUSDT", "kline.60.BTCUSDT")
    player.run(3)
    minutes = [(frame["ts"], frame["data"][0]) for frame in books(client, "kline.1.BTCUSDT")]
    ((ts, closed),) = [(ts, candle) for ts, candle in minutes if candle["confirm"]]
    assert closed["start"] == START_MS + 1000 - 60_000
    assert closed["end"] == START_MS + 999
    assert 0 < ts - closed["end"] <= 500
    assert {candle["start"] for _, candle in minutes} == {closed["start"], START_MS + 1000}
    assert {frame["data"][0]["interval"] for frame in books(client, "kline.60.BTCUSDT")} == {"60"}


@needs_recorder
def test_the_recorder_reads_every_frame_and_no_garbage():
    player = Player("bybit", "牛来USDT")
    symbols = tuple(contract.symbol for contract in player.exchange.contracts)
    channels = ("publicTrade", "orderbook.50", "tickers", "kline.1")
    client = subscribed(player, *(f"{channel}.{symbol}" for symbol in symbols for channel in channels))
    player.run(5)
    rows = [row for reading in readings("bybit", client.frames, *symbols) for row in reading.rows]
    expected = [
        (event.contract.symbol, "buy" if trade.aggressor_buys else "sell", trade.contracts)
        for event in player.events
        if isinstance(event, Trades)
        for trade in event.trades
    ]
    sizes = {contract.symbol: contract.contract_size for contract in player.exchange.contracts}
    trades = [row for row in rows if hasattr(row, "side")]
    assert [(row.symbol, row.side, Decimal(row.quantity) / sizes[row.symbol]) for row in trades] == expected
    snapshots = [row.symbol for row in rows if isinstance(row, BookUpdate) and row.is_snapshot]
    assert snapshots == list(symbols)
    for message in client.session.garbage():
        assert not is_readable("bybit", message.payload, "BTCUSDT"), message


def rest(exchange, name: str, **query: str):
    answer = exchange.rest(f"/v5/market/{name}", query, NOW_MS)
    return None if answer is None else json.loads(answer.body)


def test_the_list_of_symbols_comes_in_pages(monkeypatch):
    monkeypatch.setattr(BybitRest, "page", 3)
    exchange, query, pages = Bybit(("XRPUSDT", "ADAUSDT")), {"category": "linear", "limit": "1000"}, []
    while True:
        page = rest(exchange, "instruments-info", **query)
        assert (page["retCode"], page["time"]) == (0, NOW_MS)
        pages.append([one["symbol"] for one in page["result"]["list"]])
        if not page["result"]["nextPageCursor"]:
            break
        query["cursor"] = page["result"]["nextPageCursor"]
    assert pages == [["ADAUSDT", "BTCUSDT", "ETHUSDT"], ["SOLUSDT", "XRPUSDT"]]
    (one,) = rest(exchange, "instruments-info", category="linear", symbol="BTCUSDT")["result"]["list"]
    assert (one["priceFilter"]["tickSize"], one["lotSizeFilter"]["qtyStep"]) == ("0.10", "0.001")
    assert (one["baseCoin"], one["quoteCoin"], one["status"]) == ("BTC", "USDT", "Trading")


def test_rest_errors_are_in_the_body(exchange):
    for name, query in (
        ("instruments-info", {"category": "spot"}),
        ("instruments-info", {"category": "linear", "symbol": "NOPE"}),
        ("instruments-info", {"category": "linear", "limit": "1001"}),
        ("orderbook", {"category": "linear"}),
    ):
        assert rest(exchange, name, **query)["retCode"] == 10001
    assert rest(exchange, "nothing") is None
    assert rest(exchange, "time")["result"] == {
        "timeSecond": str(NOW_MS // 1000),
        "timeNano": str(NOW_MS * 1_000_000),
    }
