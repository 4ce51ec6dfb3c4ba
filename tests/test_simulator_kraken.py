"""Kraken's WebSocket v2 as the simulator speaks it: frames exactly, and over real sockets."""

import json
import re
import zlib
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
import websocket

from mexcflow import exchanges
from mexcflow.exchanges.book import Book
from mexcflow.model import Instrument, Kind, Wanted
from mexcflow.simulator import Simulator
from mexcflow.simulator.book import Level
from mexcflow.simulator.kraken import Kraken
from mexcflow.simulator.kraken_frames import checksum
from mexcflow.simulator.market import Candle, Depth, Ticker, Trade, Trades
from tests.wire import Wire, get, parsed, rest_of, undecodable

BTC = "BTC/USD"
NOW_MS = 1_790_000_001_105
BITCOIN = Kraken().by_symbol[BTC]
DAY = Ticker(BITCOIN, 750_123, 0, 0, 0, 0, 740_000, 760_000, 749_876, 234_567_890_123, Decimal(0), 0, 0, ())
FRAMES = Path(__file__).resolve().parents[2] / "shared" / "data" / "frames"


def request(channel: str, *symbols: str, method: str = "subscribe", **options) -> dict:
    return {"method": method, "params": {"channel": channel, "symbol": list(symbols or (BTC,)), **options}}


def data_of(channel: str, kind: str = "update"):
    return lambda frame: (frame.get("channel"), frame.get("type")) == (channel, kind)


@pytest.fixture(scope="module")
def quiet():
    """An exchange without a market: control frames only."""
    with Simulator(exchange="kraken", generate=False) as exchange:
        yield exchange


@pytest.fixture(scope="module")
def busy():
    with Simulator(exchange="kraken", speed=20, symbols=["DOGE/USD", "NEW/EUR"]) as exchange:
        yield exchange


def test_a_checksum_is_of_the_digits_as_they_are_sent():
    asks, bids = [("0.0510", "12.50000000")], [("0.0280", "0.00074000"), ("0.0079", "90.00000000")]
    assert checksum(asks, bids) == zlib.crc32(b"510125000000028074000799000000000")
    many = [(f"1.{number:02}", "1.00000000") for number in range(30)]
    assert checksum(many, []) == checksum(many[:10], [])


@pytest.mark.skipif(not FRAMES.exists(), reason="there are no captured frames")
def test_the_checksum_is_that_of_a_captured_session():
    """Applied by the rules of the wire alone, with the digits of the text."""
    sides: dict[str, dict[Decimal, tuple[str, str]]] = {"bids": {}, "asks": {}}
    checked = 0
    for line in (FRAMES / "kraken_v2.book_session.jsonl").read_text().splitlines():
        frame = json.loads(line, parse_float=str)
        if frame.get("channel") != "book":
            continue
        for name, side in sides.items():
            for level in frame["data"][0][name]:
                side[Decimal(level["price"])] = (level["price"], level["qty"])
            kept = [item for item in sorted(side.items(), reverse=name == "bids") if Decimal(item[1][1])]
            sides[name] = dict(kept[:25])
        asks, bids = (list(sides[name].values()) for name in ("asks", "bids"))
        assert checksum(asks, bids) == frame["data"][0]["checksum"]
        checked += 1
    assert checked == 30


def test_a_book_begins_whole_and_goes_on_with_what_changed_in_sight():
    def side(*levels: tuple[int, int]) -> tuple[Level, ...]:
        return tuple(Level(ticks, lots, 1) for ticks, lots in levels)

    exchange = Kraken()
    bids = [(750_000 - number, 10 + number) for number in range(11)]
    first = Depth(BITCOIN, side(*bids), side((750_010, 300)), 1000, 3)
    second = Depth(BITCOIN, side((750_001, 7), *bids), side((750_012, 5)), 1032, 4)
    third = Depth(BITCOIN, side(*bids[1:]), side((750_012, 5)), 1040, 5)
    start = '{"channel":"book","type":"'
    head = '","data":[{"symbol":"BTC/USD","bids":['

    def level(ticks: int, lots: int) -> str:
        return f'{{"price":{ticks // 10}.{ticks % 10},"qty":{Decimal(lots).scaleb(-8):.8f}}}'

    def check(*levels: tuple[int, int]) -> int:
        return zlib.crc32("".join(f"{ticks}{lots}" for ticks, lots in levels).encode())

    exchange.take(first, NOW_MS)
    assert [frame.decode() for frame in exchange.frames(first, "first book 10", NOW_MS)] == [
        f"{start}snapshot{head}{','.join(level(*one) for one in bids[:10])}],"
        f'"asks":[{level(750_010, 300)}],"checksum":{check((750_010, 300), *bids[:10])},'
        '"timestamp":"2026-09-21T14:13:21.102000Z"}]}'
    ]
    exchange.take(second, NOW_MS)  # one is pushed out of sight, which is not said
    assert [frame.decode() for frame in exchange.frames(second, "book 10", NOW_MS)] == [
        f'{start}update{head}{level(750_001, 7)}],"asks":[{level(750_010, 0)},{level(750_012, 5)}],'
        f'"checksum":{check((750_012, 5), (750_001, 7), *bids[:9])},'
        '"timestamp":"2026-09-21T14:13:21.100592Z"}]}'
    ]
    exchange.take(third, NOW_MS)  # and two come back
    assert [frame.decode() for frame in exchange.frames(third, "book 10", NOW_MS)] == [
        f"{start}update{head}{level(750_001, 0)},{level(750_000, 0)},{level(*bids[9])},{level(*bids[10])}],"
        f'"asks":[],"checksum":{check((750_012, 5), *bids[1:11])},'
        '"timestamp":"2026-09-21T14:13:21.099240Z"}]}'
    ]


def test_a_trade_has_the_takers_side_and_bare_numbers():
    trades = (
        Trade(750_120, 147_900, True, 64_000_017, 1, 1, False),
        Trade(750_100, 10**8, False, 64_000_018, 0, 2, False),
    )
    assert [frame.decode() for frame in Kraken().frames(Trades(BITCOIN, trades), "trade ", NOW_MS)] == [
        '{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":75012.0,'
        '"qty":0.00147900,"ord_type":"limit","trade_id":64000017,"timestamp":"2026-09-21T14:13:21.103377Z"},'
        '{"symbol":"BTC/USD","side":"sell","price":75010.0,"qty":1.00000000,"ord_type":"market",'
        '"trade_id":64000018,"timestamp":"2026-09-21T14:13:21.104458Z"}]}'
    ]


def test_a_ticker_is_made_of_book_and_day():
    exchange = Kraken()
    exchange.take(Depth(BITCOIN, (Level(750_122, 5, 2),), (Level(750_123, 10**9, 4),), 1000, 3), NOW_MS)
    exchange.take(DAY, NOW_MS)
    assert exchange.snapshot("ticker", BTC, "bbo", NOW_MS).decode() == (
        '{"channel":"ticker","type":"snapshot","data":[{"symbol":"BTC/USD","bid":75012.2,"bid_qty":0.00000005,'
        '"ask":75012.3,"ask_qty":10.00000000,"last":75012.3,"volume":2345.67890123,"vwap":75000.0,'
        '"low":74000.0,"high":76000.0,"change":24.7,"change_pct":0.03,"trades":80123,'
        '"timestamp":"2026-09-21T14:13:21.104963Z"}]}'
    )


def candle(**changed) -> Candle:
    made = Candle(
        BITCOIN, "1m", 1_789_999_980_000, 1_790_000_040_000, 750_127, 750_466, 750_026, 750_366,
        20_000_000, Decimal("15003.9"), 7, Decimal(3), 12, 61, 72, False,
    )  # fmt: skip
    return made._replace(**changed)


def test_a_candle_opens_at_interval_begin_and_is_not_said_to_be_closed():
    exchange = Kraken()
    row = (
        '{"symbol":"BTC/USD","open":75012.7,"high":75046.6,"low":75002.6,"close":75036.6,"trades":12,'
        '"volume":0.20000000,"vwap":75019.5,"interval_begin":"2026-09-21T14:13:00.000000000Z","interval":1,'
        '"timestamp":"2026-09-21T14:14:00.000000Z"}'
    )
    exchange.take(candle(), NOW_MS)
    assert exchange.frames(candle(), "ohlc 1", NOW_MS) == [
        f'{{"channel":"ohlc","type":"update","timestamp":"2026-09-21T14:13:21.104832475Z","data":[{row}]}}'.encode()
    ]
    snapshot = parsed(exchange.snapshot("ohlc", BTC, "1", NOW_MS))
    assert [one["interval_begin"][14:19] for one in snapshot["data"]] == ["09:00", "10:00", "12:00", "13:00"]
    assert (snapshot["type"], snapshot["data"][-1]) == ("snapshot", parsed(row.encode()))
    exchange.take(candle(closed=True), NOW_MS)
    assert exchange.frames(candle(closed=True), "ohlc 1", NOW_MS) == []  # it has nothing new
    exchange.take(candle(closed=True, trades=13), NOW_MS)
    assert len(exchange.frames(candle(closed=True, trades=13), "ohlc 1", NOW_MS)) == 1


def test_the_status_comes_first(quiet):
    with Wire(quiet.url) as client:
        frame = parsed(client.raw())
    connection_id = frame["data"][0]["connection_id"]
    assert connection_id > 2**53
    assert frame == {
        "channel": "status",
        "type": "update",
        "data": [
            {
                "version": "2.0.10",
                "system": "online",
                "api_version": "v2",
                "connection_id": connection_id,
                "upcoming_maintenance": [],
                "emergency": [],
            }
        ],
    }


def test_every_symbol_is_answered(quiet):
    asked = {**request("book", BTC, "XBT/USD", "ETH/USD", depth=25), "req_id": 9}
    with Wire(quiet.url, asked) as client:
        answers = [parsed(client.raw()) for _ in range(4)][1:]
    times = [[answer.pop("time_in"), answer.pop("time_out")] for answer in answers]
    assert all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text) for pair in times for text in pair
    )
    assert all(early < late for early, late in times)

    def done(symbol: str) -> dict:
        result = {"channel": "book", "depth": 25, "snapshot": True, "symbol": symbol}
        return {"method": "subscribe", "req_id": 9, "result": result, "success": True}

    error = "Currency pair not supported XBT/USD"
    refused = {"error": error, "method": "subscribe", "req_id": 9, "success": False, "symbol": "XBT/USD"}
    assert answers == [done(BTC), refused, done("ETH/USD")]
    assert [list(answer) for answer in answers[:2]] == [list(done(BTC)), list(refused)]


@pytest.mark.parametrize(
    ("asked", "result"),
    [
        (request("book"), {"channel": "book", "depth": 10, "snapshot": True}),
        (request("trade"), {"channel": "trade", "snapshot": False}),
        (request("ticker"), {"channel": "ticker", "event_trigger": "trades", "snapshot": True}),
        (request("ohlc", interval=5, snapshot=False), {"channel": "ohlc", "interval": 5, "snapshot": False}),
    ],
)
def test_an_acknowledgement_repeats_the_options(quiet, asked, result):
    with Wire(quiet.url, asked) as client:
        answer = client.next(lambda frame: "result" in frame)["result"]
    warnings = {"warnings": ["timestamp is deprecated, use interval_begin"]} if "interval" in result else {}
    assert answer == {**result, "symbol": BTC, **warnings}


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (request("book", depth=7), "Subscription depth not supported"),
        (request("book", depth=[10]), "Malformed request"),
        (request("ohlc", interval=2), "Subscription ohlc interval not supported"),
        (request("weather"), "Channel not supported"),
        (
            {"method": "subscribe", "params": {"channel": "trade"}},
            "Symbol(s) field must be an array of strings",
        ),
        ({"method": "add_order"}, "Malformed request"),
        (b"no json", "Malformed request"),
    ],
)
def test_other_errors_name_no_symbol(quiet, asked, error):
    with Wire(quiet.url, asked) as client:
        answer = client.next(lambda frame: "error" in frame)
    assert (answer["error"], answer["success"], "symbol" in answer) == (error, False, False)


def test_what_is_subscribed_cannot_be_subscribed_again(busy):
    with Wire(busy.url, request("book"), request("book", depth=25)) as client:
        assert client.next(lambda frame: "error" in frame)["error"] == "Already subscribed"
        client.next(data_of("book"))
        client.ask(request("book", method="unsubscribe"))
        assert client.next(lambda frame: frame.get("method") == "unsubscribe")["result"] == {
            "channel": "book",
            "depth": 10,
            "symbol": BTC,
        }
        client.ask(request("book", method="unsubscribe"))
        assert client.next(lambda frame: "error" in frame)["error"] == "Subscription Not Found"
        client.ask(request("book", depth=25))
        snapshot = client.next(data_of("book", "snapshot"))
    assert [len(snapshot["data"][0][side]) for side in ("bids", "asks")] == [25, 25]


def test_a_ping_is_answered(quiet):
    with Wire(quiet.url, {"method": "ping", "req_id": 101}) as client:
        pong = client.next(lambda frame: frame.get("method") == "pong")
    assert list(pong) == ["method", "req_id", "time_in", "time_out"]
    assert pong["req_id"] == 101


def test_heartbeats_come_to_subscribers_that_get_nothing_else(quiet, busy):
    with Wire(quiet.url, request("trade")) as idle, Wire(quiet.url) as bystander:
        with Wire(busy.url, request("trade")) as client:
            frames = client.all_for(1.4)
        assert {"channel": "heartbeat"} not in frames
        assert idle.next(lambda frame: frame.get("channel") == "heartbeat") == {"channel": "heartbeat"}
        assert [frame["channel"] for frame in bystander.all_for(0.1)] == ["status"]


def test_trades_begin_with_the_last_50_and_ids_are_consecutive(busy):
    with Wire(busy.url, request("trade", snapshot=True)) as client:
        frames = [frame for frame in client.all_for(0.6) if frame.get("channel") == "trade"]
    assert [frame["type"] for frame in frames] == ["snapshot"] + ["update"] * (len(frames) - 1)
    assert len(frames[0]["data"]) == 50
    ids = [trade["trade_id"] for frame in frames for trade in frame["data"]]
    assert all(later == earlier + 1 for earlier, later in pairwise(ids))


def test_candles_of_other_intervals_are_made_when_they_are_asked_for(busy):
    with Wire(busy.url, request("ohlc", interval=5, snapshot=False), request("ohlc")) as client:
        whole = client.next(data_of("ohlc", "snapshot"))["data"]
        update = client.next(lambda frame: data_of("ohlc")(frame) and frame["data"][0]["interval"] == 5)
    assert {row["interval"] for row in whole} == {1}
    assert len(whole) >= 4
    assert int(update["data"][0]["interval_begin"][14:16]) % 5 == 0


def test_there_is_no_other_path(quiet):
    with pytest.raises(websocket.WebSocketBadStatusException, match="404"):
        Wire(f"{quiet.address}/v1")


def test_rest_says_xbt_unless_it_is_asked_for_today(busy):
    _, answer = get(busy.address, "/0/public/AssetPairs")
    assert answer["error"] == []
    names = ("altname", "wsname", "base", "quote")
    assert {key: [pair[name] for name in names] for key, pair in answer["result"].items()} == {
        "XXBTZUSD": ["XBTUSD", "XBT/USD", "XXBT", "ZUSD"],
        "XETHZUSD": ["ETHUSD", "ETH/USD", "XETH", "ZUSD"],
        "SOLUSD": ["SOLUSD", "SOL/USD", "SOL", "ZUSD"],
        "XDGUSD": ["XDGUSD", "XDG/USD", "XXDG", "ZUSD"],
        "NEWEUR": ["NEWEUR", "NEW/EUR", "NEW", "ZEUR"],
    }
    bitcoin = answer["result"]["XXBTZUSD"]
    assert [bitcoin[name] for name in ("pair_decimals", "lot_decimals", "tick_size", "status")] == [
        1,
        8,
        "0.1",
        "online",
    ]
    _, today = get(busy.address, "/0/public/AssetPairs?assetVersion=1&pair=XBTUSD")
    assert [(key, pair["wsname"]) for key, pair in today["result"].items()] == [(BTC, BTC)]
    unknown = {"error": ["EQuery:Unknown asset pair"]}
    assert get(busy.address, "/0/public/AssetPairs?pair=NOPE") == (200, unknown)
    assert get(busy.address, "/0/public/Depth") == (200, unknown)


def test_rest_shows_the_book_of_now(busy):
    with Wire(busy.url, request("book")) as client:
        client.next(data_of("book", "snapshot"))
        _, answer = get(busy.address, "/0/public/Depth?pair=XBTUSD&count=3")
    book = answer["result"]["XXBTZUSD"]
    assert [len(book[side]) for side in ("asks", "bids")] == [3, 3]
    assert all(
        re.fullmatch(r"\d+\.\d{5}", level[0]) and re.fullmatch(r"\d+\.\d{3}", level[1])
        for level in book["asks"]
    )


def test_the_recorder_reads_all_of_it(busy):
    reader = exchanges.kraken.Kraken(
        Wanted(symbols=(BTC, "DOGE/USD"), channels=("trade", "book", "ticker", "candle"))
    )
    payloads = [one.payload for one in reader.requests(reader.topics(), 1)]
    with Wire(busy.url, *payloads) as client:
        client.all_for(0.9)
        topic = next(topic for topic in reader.topics() if (topic.channel, topic.symbol) == ("book", BTC))
        for payload in reader.renew(topic, 90):
            client.ask(payload)
        client.all_for(0.3)
        frames = client.frames
    books = {symbol: Book(reader.book_levels) for symbol in (BTC, "DOGE/USD")}
    channels, whole = set(), []
    for frame in frames:
        reading = reader.read(frame)
        assert reading.kind is not Kind.ERROR, frame
        channels.add(reading.channel)
        for row in reading.rows:
            if reading.channel == "book":
                book = books[row.symbol]
                book.apply(row)
                assert reader.check_book(book, None, row) == ""
                whole += [row.symbol] if row.is_snapshot else []
    assert {"trade", "book", "ticker", "candle"} <= channels
    assert sorted(whole) == [BTC, BTC, "DOGE/USD"]  # one each, and the renewed one


def test_the_recorder_reads_the_list_and_no_garbage(busy):
    kraken = exchanges.kraken.Kraken
    listing = kraken.read_instruments(rest_of(busy.address, kraken.instruments_url))
    assert listing.instruments[0] == Instrument(
        symbol=BTC, base="BTC", quote="USD", kind="spot", tick_size="0.1", quantity_step="0.00000001"
    )
    assert [one.symbol for one in listing.instruments][3:] == ["DOGE/USD", "NEW/EUR"]
    assert parsed(rest_of(busy.address, kraken.ping_url))["error"] == []
    session = Kraken().session("/v2", {})
    read = kraken(Wanted(symbols=(BTC,), channels=("trade", "book", "ticker", "candle"))).read
    assert [message for message in session.garbage() if not undecodable(read, message.payload)] == []


def test_a_lost_frame_shows_in_the_checksum():
    reader = exchanges.kraken.Kraken(Wanted(symbols=(BTC,), channels=("book",)))
    (asked,) = reader.requests(reader.topics(), 1)
    with Simulator(exchange="kraken", speed=20) as exchange, Wire(exchange.url, asked.payload) as client:
        client.next(data_of("book"))
        exchange.lose(f"Depth {BTC}", 3)
        client.all_for(0.4)
    book, complaints = Book(reader.book_levels), []
    for frame in client.frames:
        for row in reader.read(frame).rows:
            book.apply(row)
            complaints.append(reader.check_book(book, None, row) != "")
    assert complaints[:2] == [False, False]
    assert True in complaints
