"""OKX's protocol as the simulator speaks it: frames exactly, and over real sockets."""

import json
import threading
import time
from decimal import Decimal
from itertools import pairwise

import pytest
import websocket

from mexcflow import exchanges
from mexcflow.model import Instrument, Kind, Wanted
from mexcflow.simulator import Simulator
from mexcflow.simulator.book import Level
from mexcflow.simulator.market import Candle, Depth, Ticker, Trade, Trades
from mexcflow.simulator.okx import CANDLES, Okx
from tests.wire import Wire, get, parsed, rest_of, undecodable

SWAP = "BTC-USDT-SWAP"
NOW_MS = 1_790_000_001_983
BITCOIN = Okx().by_symbol[SWAP]
TICKER = Ticker(
    BITCOIN, 750_011, 750_020, 750_105, 750_010, 750_011, 740_931, 757_588, 745_916,
    1_543_207, Decimal(0), 82_912_997, 81, (),
)  # fmt: skip


def subscribe(*channels: str, symbol: str = SWAP, id: str = "7") -> dict:  # noqa: A002 - the wire's word
    args = [
        {"channel": name, "instId": "BTC-USDT" if name == "index-tickers" else symbol} for name in channels
    ]
    return {"op": "subscribe", "args": args, "id": id}


def frames(event, variant: str, exchange: Okx | None = None) -> list[str]:
    return [frame.decode() for frame in (exchange or Okx()).frames(event, variant, NOW_MS)]


@pytest.fixture(scope="module")
def quiet():
    """An exchange without a market: control frames only."""
    with Simulator(exchange="okx", generate=False) as exchange:
        yield exchange


@pytest.fixture(scope="module")
def busy():
    with Simulator(exchange="okx", speed=20, symbols=["NEW-USDT-SWAP"]) as exchange:
        yield exchange


def test_fills_of_one_price_and_side_are_one_trade_so_ids_jump():
    fills = (
        Trade(750_120, 12, True, 71, 2, 1, False),
        Trade(750_120, 388, True, 72, 1, 1, False),
        Trade(750_120, 5, False, 73, 0, 1, False),
        Trade(750_119, 9, False, 74, 3, 1, False),
    )
    start = '{"arg":{"channel":"trades","instId":"BTC-USDT-SWAP"},"data":[{"instId":"BTC-USDT-SWAP",'
    assert frames(Trades(BITCOIN, fills), "trades") == [
        start + '"tradeId":"72","px":"75012","sz":"4","side":"buy","ts":"1790000001982","count":"2",'
        '"source":"0","seqId":1224}]}',
        start + '"tradeId":"73","px":"75012","sz":"0.05","side":"sell","ts":"1790000001983","count":"1",'
        '"source":"0","seqId":1241}]}',
        start + '"tradeId":"74","px":"75011.9","sz":"0.09","side":"sell","ts":"1790000001980","count":"1",'
        '"source":"0","seqId":1258}]}',
    ]


def test_books_begin_whole_and_go_on_with_what_changed():
    exchange = Okx()
    first = Depth(BITCOIN, (Level(99, 5, 2), Level(98, 7, 1)), (Level(101, 300, 4),), 1000, 3)
    second = Depth(BITCOIN, (Level(99, 6, 3), Level(97, 8, 1)), (Level(101, 300, 4),), 1032, 4)
    exchange.take(first, NOW_MS)
    assert frames(first, "snapshot", exchange) == [
        '{"arg":{"channel":"books","instId":"BTC-USDT-SWAP"},"action":"snapshot","data":[{'
        '"asks":[["10.1","3","0","4"]],"bids":[["9.9","0.05","0","2"],["9.8","0.07","0","1"]],'
        '"ts":"1790000001980","checksum":0,"seqId":1000,"prevSeqId":-1}]}'
    ]
    exchange.take(second, NOW_MS)
    assert frames(second, "books", exchange) == [
        '{"arg":{"channel":"books","instId":"BTC-USDT-SWAP"},"action":"update","data":[{"asks":[],'
        '"bids":[["9.8","0","0","0"],["9.9","0.06","0","3"],["9.7","0.08","0","1"]],'
        '"ts":"1790000001979","checksum":0,"seqId":1032,"prevSeqId":1000}]}'
    ]
    assert frames(second, "books5", exchange) == [
        '{"arg":{"channel":"books5","instId":"BTC-USDT-SWAP"},"data":[{"asks":[["10.1","3","0","4"]],'
        '"bids":[["9.9","0.06","0","3"],["9.7","0.08","0","1"]],"instId":"BTC-USDT-SWAP",'
        '"ts":"1790000001979","seqId":1032}]}'
    ]


@pytest.mark.parametrize(
    ("channel", "row"),
    [
        ("mark-price", {"instType": "SWAP", "instId": SWAP, "markPx": "75002", "ts": str(NOW_MS)}),
        (
            "open-interest",
            {
                "instId": SWAP,
                "instType": "SWAP",
                "oi": "829129.97",
                "oiCcy": "8291.2997",
                "oiUsd": "621864060.0994",
                "ts": str(NOW_MS),
            },
        ),
        (
            "tickers",
            {
                "instType": "SWAP",
                "instId": SWAP,
                "last": "75001.1",
                "lastSz": "8.49",
                "askPx": "75001.1",
                "askSz": "43.79",
                "bidPx": "75001",
                "bidSz": "69.22",
                "open24h": "74591.6",
                "high24h": "75758.8",
                "low24h": "74093.1",
                "sodUtc0": "74591.6",
                "sodUtc8": "74591.6",
                "volCcy24h": "154.3207",
                "vol24h": "15432.07",
                "ts": str(NOW_MS),
            },
        ),
    ],
)
def test_parts_of_a_ticker(channel, row):
    (frame,) = frames(TICKER, channel)
    assert json.loads(frame) == {"arg": {"channel": channel, "instId": SWAP}, "data": [row]}
    assert list(json.loads(frame)["data"][0]) == list(row)


def test_an_index_is_named_without_swap():
    (frame,) = frames(TICKER, "index-tickers")
    content = json.loads(frame)
    assert content["arg"] == {"channel": "index-tickers", "instId": "BTC-USDT"}
    assert (content["data"][0]["instId"], content["data"][0]["idxPx"]) == ("BTC-USDT", "75010.5")


def test_funding_is_due_at_the_next_8_hours():
    (frame,) = frames(TICKER, "funding-rate")
    row = json.loads(frame)["data"][0]
    assert {key: row[key] for key in ("fundingRate", "fundingTime", "nextFundingTime", "ts")} == {
        "fundingRate": "0.000081",
        "fundingTime": "1790006400000",
        "nextFundingTime": "1790035200000",
        "ts": str(NOW_MS),
    }


@pytest.mark.parametrize(("closed", "flag"), [(False, "0"), (True, "1")])
def test_candles_have_nine_values_of_which_the_last_says_closed(closed, flag):
    candle = Candle(
        BITCOIN, "1m", 1_789_999_980_000, 1_790_000_040_000, 750_127, 750_466, 750_026, 750_366,
        157_843, Decimal("1184022.90334"), 7, Decimal(3), 12, 61, 72, closed,
    )  # fmt: skip
    assert frames(candle, "candle1m") == [
        '{"arg":{"channel":"candle1m","instId":"BTC-USDT-SWAP"},"data":[["1789999980000","75012.7","75046.6",'
        f'"75002.6","75036.6","1578.43","15.7843","1184022.90334","{flag}"]]}}'
    ]


def test_long_bars_are_those_of_utc():
    assert {
        "candle1m",
        "candle1H",
        "candle4H",
        "candle6Hutc",
        "candle12Hutc",
        "candle1Dutc",
    } <= CANDLES.keys()
    assert not {"candle6H", "candle12H", "candle1D"} & CANDLES.keys()


def test_every_argument_is_acknowledged(quiet):
    with Wire(quiet.url, subscribe("trades", "index-tickers", "books5")) as client:
        acks = [parsed(client.raw()) for _ in range(3)]
    conn_id = acks[0]["connId"]
    assert int(conn_id, 16) < 2**32
    assert len(conn_id) == 8
    assert acks == [
        {"id": "7", "event": "subscribe", "arg": arg, "connId": conn_id}
        for arg in subscribe("trades", "index-tickers", "books5")["args"]
    ]
    assert list(acks[0]) == ["id", "event", "arg", "connId"]


@pytest.mark.parametrize(
    ("socket", "channel", "symbol"),
    [
        (0, "candle1m", SWAP),
        (1, "trades", SWAP),
        (0, "trades", "NOPE-USDT-SWAP"),
        (0, "weather", SWAP),
        (0, "mark-price", "BTC-USDT"),
    ],
)
def test_the_wrong_socket_channel_or_instrument_are_one_error(quiet, socket, channel, symbol):
    request = {"op": "subscribe", "args": [{"channel": channel, "instId": symbol}]}
    with Wire(quiet.urls[socket], request, b"ping") as client:
        error = parsed(client.raw())
        assert client.raw() == b"pong"  # and the socket stays open
    assert error == {
        "event": "error",
        "msg": f"Subscribe failed, wrong URL or channel:{channel},instId:{symbol} doesn't exist. "
        "Please use the correct URL, channel and parameters referring to API document.",
        "code": "60018",
        "connId": error["connId"],
    }


@pytest.mark.parametrize(
    "request_text", [b"no json", b"7", b'{"op":"login"}', b'{"op":"subscribe","args":7}']
)
def test_other_requests_are_invalid(quiet, request_text):
    with Wire(quiet.url, request_text) as client:
        error = parsed(client.raw())
    assert (error["code"], error["msg"]) == ("60012", f"Invalid request: {request_text.decode()}")


def test_there_is_no_third_socket(quiet):
    with pytest.raises(websocket.WebSocketBadStatusException, match="404"):
        Wire(f"{quiet.address}/ws/v5/private")


def test_who_says_nothing_and_hears_nothing_is_cut():
    with (
        Simulator(exchange="okx", ping_timeout_s=0.4, generate=False) as exchange,
        Wire(exchange.url) as client,
    ):
        for _ in range(4):
            client.ask(b"ping")
            assert client.raw() == b"pong"
            time.sleep(0.15)
        assert client.until_cut() == []


def test_data_keeps_a_connection_open():
    with (
        Simulator(exchange="okx", ping_timeout_s=0.4, speed=20) as exchange,
        Wire(exchange.url, subscribe("trades")) as client,
    ):
        assert len(client.all_for(0.8)) > 20


def test_books_can_be_followed_level_by_level(busy):
    with Wire(busy.url, subscribe("books", "books5")) as client:
        contents = [content for content in client.all_for(0.8) if "data" in content]
    books = [content for content in contents if content["arg"]["channel"] == "books"]
    fives = {
        content["data"][0]["seqId"]: content["data"][0]
        for content in contents
        if content["arg"]["channel"] == "books5"
    }
    rows = [content["data"][0] for content in books]
    assert [content["action"] for content in books] == ["snapshot"] + ["update"] * (len(books) - 1)
    assert rows[0]["prevSeqId"] == -1
    assert all(later["prevSeqId"] == earlier["seqId"] < later["seqId"] for earlier, later in pairwise(rows))
    assert {row["checksum"] for row in rows} == {0}
    sides: dict[str, dict[Decimal, str]] = {"asks": {}, "bids": {}}
    compared = 0
    for row in rows:
        for name, side in sides.items():
            side.update((Decimal(level[0]), level[1]) for level in row[name])
            for price in [price for price, size in side.items() if size == "0"]:
                del side[price]
        five = fives.get(row["seqId"])
        if five is not None:
            compared += 1
            best = sorted(sides["asks"].items())[:5], sorted(sides["bids"].items(), reverse=True)[:5]
            assert best == tuple(
                [(Decimal(level[0]), level[1]) for level in five[name]] for name in ("asks", "bids")
            )
    assert compared > 20


def test_who_comes_later_begins_with_the_book_of_now(busy):
    with Wire(busy.url, subscribe("books")) as first:
        first.next(lambda frame: frame.get("action") == "update")
        with Wire(busy.url, subscribe("books", "tickers")) as later:
            ack, snapshot = parsed(later.raw()), parsed(later.raw())
            assert (ack["event"], snapshot["action"]) == ("subscribe", "snapshot")
            update = later.next(lambda frame: frame.get("action") == "update")
    assert update["data"][0]["prevSeqId"] == snapshot["data"][0]["seqId"]


def test_unsubscribing_ends_that_channel_and_a_book_begins_anew(busy):
    request = subscribe("books", "trades")
    with Wire(busy.url, request) as client:
        client.next(lambda frame: frame.get("action") == "update")
        client.ask({**request, "op": "unsubscribe", "args": request["args"][:1]})
        ack = client.next(lambda frame: "event" in frame and frame["event"] == "unsubscribe")
        assert ack["arg"] == {"channel": "books", "instId": SWAP}
        assert {frame["arg"]["channel"] for frame in client.all_for(0.3)} == {"trades"}
        client.ask(subscribe("books"))
        begins = client.next(lambda frame: frame.get("arg", {}).get("channel") == "books" and "data" in frame)
        assert (begins["action"], begins["data"][0]["prevSeqId"]) == ("snapshot", -1)


def test_a_server_that_is_upgraded_says_so():
    with Simulator(exchange="okx", generate=False) as exchange:
        with Wire(exchange.url, b"ping") as client:
            assert client.raw() == b"pong"
            expiring = threading.Thread(target=exchange.expire)  # it waits until the client has gone
            expiring.start()
            notice = parsed(client.raw())
            assert client.until_cut() == []
        expiring.join()
    assert notice == {
        "event": "notice",
        "code": "64008",
        "msg": "The connection will soon be closed for a service upgrade. Please reconnect.",
        "connId": notice["connId"],
    }


def test_rest_lists_the_swaps_with_their_contract_value(busy):
    status, answer = get(busy.address, "/api/v5/public/instruments?instType=SWAP")
    assert (status, answer["code"], answer["msg"]) == (200, "0", "")
    assert [
        [
            row[key]
            for key in ("instId", "ctVal", "ctMult", "ctValCcy", "settleCcy", "tickSz", "lotSz", "state")
        ]
        for row in answer["data"][:3]
    ] == [
        [SWAP, "0.01", "1", "BTC", "USDT", "0.1", "0.01", "live"],
        ["ETH-USDT-SWAP", "0.1", "1", "ETH", "USDT", "0.01", "0.01", "live"],
        ["SOL-USDT-SWAP", "1", "1", "SOL", "USDT", "0.01", "0.01", "live"],
    ]
    assert answer["data"][3]["instId"] == "NEW-USDT-SWAP"
    assert get(busy.address, "/api/v5/public/instruments?instType=SPOT")[1]["data"] == []
    assert get(busy.address, "/api/v5/public/instruments")[1]["code"] == "51000"


def test_rest_shows_the_book_of_now(busy):
    with Wire(busy.url, subscribe("books5")) as client, busy.silence():
        client.all_for(0.2)
        _, answer = get(busy.address, f"/api/v5/market/books?instId={SWAP}&sz=2")
    assert (len(answer["data"][0]["asks"]), len(answer["data"][0]["bids"])) == (2, 2)
    assert get(busy.address, "/api/v5/market/books?instId=NOPE")[1]["code"] == "51001"


def test_the_recorder_reads_all_of_it(busy):

    channels = ("trade", "book", "ticker", "candle")
    reader = exchanges.okx.Okx(Wanted(symbols=(SWAP,), channels=channels, contract_sizes={SWAP: "0.01"}))
    read: dict[str, list] = {}
    for socket, url in zip(reader.sockets, busy.urls, strict=True):
        topics = tuple(topic for topic in reader.topics() if topic.socket == socket)
        with Wire(url, *[request.payload for request in reader.requests(topics, 1)]) as client:
            client.all_for(0.6)
            frames = client.frames
        readings = [(reader.read(frame), frame) for frame in frames]
        assert {name for reading, _ in readings for name in reading.topics} == {
            topic.name for topic in topics
        }
        for reading, frame in readings:
            assert reading.kind in (Kind.ACK, Kind.DATA), frame
            read.setdefault(reading.channel, []).extend((row, parsed(frame)) for row in reading.rows)
    assert set(channels) <= read.keys()
    for row, frame in read["trade"]:
        sent = frame["data"][0]
        assert (row.id, row.price, row.quantity, row.side) == (
            sent["tradeId"],
            sent["px"],
            sent["sz"],
            sent["side"],
        )
        assert Decimal(row.base_quantity) == Decimal(sent["sz"]) / 100
    assert {row.closed for row, _ in read["candle"]} <= {True, False}


def test_the_recorder_reads_the_list_and_no_garbage(busy):
    okx = exchanges.okx.Okx
    listing = okx.read_instruments(rest_of(busy.address, okx.instruments_url))
    assert listing.instruments[:2] == [
        Instrument(
            symbol=SWAP,
            base="BTC",
            quote="USDT",
            kind="perpetual",
            contract_size="0.01",
            tick_size="0.1",
            quantity_step="0.01",
        ),
        Instrument(
            symbol="ETH-USDT-SWAP",
            base="ETH",
            quote="USDT",
            kind="perpetual",
            contract_size="0.1",
            tick_size="0.01",
            quantity_step="0.01",
        ),
    ]
    assert parsed(rest_of(busy.address, okx.ping_url))["code"] == "0"
    session = Okx().session("/ws/v5/public", {})
    session.answer(json.dumps(subscribe("trades")).encode(), NOW_MS)
    read = okx(Wanted(symbols=(SWAP,), channels=("trade", "book"))).read
    assert [message for message in session.garbage() if not undecodable(read, message.payload)] == []


def test_a_lost_frame_breaks_the_chain():
    with Simulator(exchange="okx", speed=20) as exchange, Wire(exchange.url, subscribe("books")) as client:
        first = client.next(lambda frame: frame.get("action") == "update")
        exchange.lose(f"Depth {SWAP}")
        rows = [frame["data"][0] for frame in (first, *client.all_for(0.4))]
    breaks = [row["prevSeqId"] for before, row in pairwise(rows) if row["prevSeqId"] != before["seqId"]]
    assert breaks == [parsed(frame)["data"][0]["seqId"] for frame in exchange.lost]
    assert len(breaks) == 1
