"""Coinbase Exchange's protocol as the simulator speaks it: frames exactly, and over real sockets."""

import time
from decimal import Decimal
from itertools import pairwise

import pytest

from mexcflow import exchanges
from mexcflow.exchanges.book import Book
from mexcflow.model import Instrument, Kind, Wanted
from mexcflow.simulator import Simulator
from mexcflow.simulator.book import Level
from mexcflow.simulator.coinbase import Coinbase
from mexcflow.simulator.market import Depth, Ticker, Trade, Trades
from tests.wire import Wire, get, parsed, rest_of, undecodable

BTC = "BTC-USD"
NOW_MS = 1_790_000_001_105
BITCOIN = Coinbase().by_symbol[BTC]
BUY = Trade(7_501_234, 17, True, 900_000_017, 1, 1, False)
SELL = Trade(7_501_300, 4_000_000, False, 900_000_018, 0, 1, False)


def request(*channels: str, products: tuple[str, ...] = (BTC,), type: str = "subscribe") -> dict:  # noqa: A002
    return {"type": type, "product_ids": list(products), "channels": list(channels)}


def of(kind: str):
    return lambda frame: frame["type"] == kind


@pytest.fixture(scope="module")
def quiet():
    """An exchange without a market: control frames only."""
    with Simulator(exchange="coinbase", generate=False) as exchange:
        yield exchange


@pytest.fixture(scope="module")
def busy():
    with Simulator(exchange="coinbase", speed=20, symbols=["NEW-EUR"]) as exchange:
        with Wire(exchange.url, request("level2_batch")) as client:  # a market begins with its first client
            client.all_for(0.5)
        yield exchange


def test_a_match_has_the_makers_side():
    assert [
        frame.decode() for frame in Coinbase().frames(Trades(BITCOIN, (BUY, SELL)), "matches", NOW_MS)
    ] == [
        '{"type":"match","trade_id":900000017,"maker_order_id":"35a4e911-0001-4abc-9def-67c699d52dc1",'
        '"taker_order_id":"35a4e911-0002-4abc-9def-67c699d52dc1","side":"sell","size":"0.00000017",'
        '"price":"75012.34","product_id":"BTC-USD","sequence":111600002108,'
        '"time":"2026-09-21T14:13:21.103377Z"}',
        '{"type":"match","trade_id":900000018,"maker_order_id":"35a4e912-0001-4abc-9def-67c7380ca772",'
        '"taker_order_id":"35a4e912-0002-4abc-9def-67c7380ca772","side":"buy","size":"0.04",'
        '"price":"75013","product_id":"BTC-USD","sequence":111600002232,'
        '"time":"2026-09-21T14:13:21.104458Z"}',
    ]


def test_a_ticker_has_the_takers_side_of_the_last_trade():
    exchange = Coinbase()
    book = Depth(BITCOIN, (Level(7_501_230, 8_123, 1),), (Level(7_501_590, 4_350_000, 2),), 5, 0)
    day = Ticker(
        BITCOIN, 0, 0, 0, 0, 0, 7_400_000, 7_700_010, 7_654_321, 812_345_678_901, Decimal(0), 0, 0, ()
    )
    trades = Trades(BITCOIN, (SELL, BUY))
    for event in (day, book, trades):
        exchange.take(event, NOW_MS)
    (frame,) = exchange.frames(trades, "ticker", NOW_MS)
    assert frame.decode() == (
        '{"type":"ticker","sequence":111600002108,"product_id":"BTC-USD","price":"75012.34",'
        '"open_24h":"76543.21","volume_24h":"8123.45678901","low_24h":"74000","high_24h":"77000.1",'
        '"volume_30d":"235580.24688129","best_bid":"75012.30","best_bid_size":"0.00008123",'
        '"best_ask":"75015.90","best_ask_size":"0.04350000","side":"buy",'
        '"time":"2026-09-21T14:13:21.103377Z","trade_id":900000017,"last_size":"0.00000017"}'
    )


def test_a_book_begins_whole_and_goes_on_with_what_changed():
    exchange = Coinbase()
    first = Depth(BITCOIN, (Level(99, 5, 2), Level(98, 7, 1)), (Level(101, 300, 4),), 1000, 3)
    second = Depth(BITCOIN, (Level(99, 6, 3),), (Level(101, 300, 4), Level(110, 10**8, 1)), 1032, 4)
    exchange.take(first, NOW_MS)
    assert exchange.frames(first, "first level2_batch", NOW_MS) == [
        b'{"type":"snapshot","product_id":"BTC-USD","asks":[["1.01","0.00000300"]],'
        b'"bids":[["0.99","0.00000005"],["0.98","0.00000007"]]}'
    ]
    exchange.take(second, NOW_MS)
    assert exchange.frames(second, "level2_batch", NOW_MS) == [
        b'{"type":"l2update","product_id":"BTC-USD","changes":[["buy","0.98","0.00000000"],'
        b'["buy","0.99","0.00000006"],["sell","1.10","1.00000000"]],"time":"2026-09-21T14:13:21.100000Z"}'
    ]


def test_an_acknowledgement_lists_everything(quiet):
    with Wire(
        quiet.url, request("matches", "heartbeat"), request("level2_batch", "matches", products=("ETH-USD",))
    ) as client:
        acks = [client.raw().decode() for _ in range(2)]
        client.ask(request("heartbeat", type="unsubscribe"))
        last = parsed(client.raw())
    start = '{"type":"subscriptions","channels":[{"name":"matches","product_ids":["BTC-USD"'
    heartbeat = '{"name":"heartbeat","product_ids":["BTC-USD"],"account_ids":null}'
    assert acks == [
        start + '],"account_ids":null},' + heartbeat + "]}",
        start + ',"ETH-USD"],"account_ids":null},' + heartbeat + ","
        '{"name":"level2_50","product_ids":["ETH-USD"],"account_ids":null}]}',
    ]
    assert [channel["name"] for channel in last["channels"]] == ["matches", "level2_50"]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (request("matches", products=(BTC, "NOPE-USD")), "NOPE-USD is not a valid product"),
        (request("weather"), "weather is not a valid channel"),
        (
            request("level2"),
            "level2, level3, and full channels now require authentication. "
            "https://docs.cloud.coinbase.com/exchange/docs/websocket-auth",
        ),
        (request(), "No channels provided"),
        (request("matches", products=()), " is not a valid product"),
        ({"type": "ping"}, "Type has to be either subscribe or unsubscribe"),
        (b"no json", "Malformed JSON"),
        (b"7", "Malformed JSON"),
    ],
)
def test_a_request_with_anything_wrong_is_ignored_as_a_whole(quiet, asked, reason):
    with Wire(quiet.url, asked, request("heartbeat")) as client:
        error, ack = parsed(client.raw()), parsed(client.raw())
    assert error == {"type": "error", "message": "Failed to subscribe", "reason": reason}
    assert ack["channels"] == [{"name": "heartbeat", "product_ids": [BTC], "account_ids": None}]


def test_products_may_stand_with_the_channel(quiet):
    asked = {"type": "subscribe", "channels": [{"name": "matches", "product_ids": ["SOL-USD"]}]}
    with Wire(quiet.url, asked) as client:
        assert parsed(client.raw())["channels"][0]["product_ids"] == ["SOL-USD"]


def test_who_does_not_subscribe_is_cut_after_5_s(quiet):
    with Wire(quiet.url) as client:
        start = time.monotonic()
        assert client.until_cut() == []
        assert time.monotonic() - start > 4.5


def test_matches_have_consecutive_ids_and_heartbeats_the_last(busy):
    with Wire(busy.url, request("matches", "heartbeat")) as client:
        frames = client.all_for(1.3)
    matches = [frame for frame in frames if frame["type"].endswith("match")]
    assert [frame["type"] for frame in matches] == ["last_match"] + ["match"] * (len(matches) - 1)
    assert all(later["trade_id"] == earlier["trade_id"] + 1 for earlier, later in pairwise(matches))
    assert all(later["sequence"] > earlier["sequence"] + 100 for earlier, later in pairwise(matches))
    at = next(number for number, frame in enumerate(frames) if frame["type"] == "heartbeat")
    before = [frame for frame in frames[:at] if frame["type"].endswith("match")][-1]
    beat = frames[at]
    assert beat == {
        "type": "heartbeat",
        "last_trade_id": before["trade_id"],
        "product_id": BTC,
        "sequence": before["sequence"],
        "time": beat["time"],
    }
    assert beat["time"].endswith(".000000Z")


def test_match_and_ticker_of_one_trade_name_opposite_sides(busy):
    with Wire(busy.url, request("matches", "ticker")) as client:
        frames = client.all_for(0.6)
    sides = {frame["trade_id"]: frame["side"] for frame in frames if frame["type"] == "match"}
    tickers = [frame for frame in frames if frame["type"] == "ticker" and frame["trade_id"] in sides]
    assert len(tickers) > 20
    assert all({frame["side"], sides[frame["trade_id"]]} == {"buy", "sell"} for frame in tickers)


def test_a_book_can_be_followed_level_by_level(busy):
    with Wire(busy.url, request("level2_batch")) as client:
        ack, snapshot = parsed(client.raw()), parsed(client.raw())
        frames = client.all_for(0.6)
        with busy.silence():
            frames += client.all_for(0.2)
            with Wire(busy.url, request("heartbeat")):
                _, book = get(busy.address, f"/products/{BTC}/book?level=2")
            frames += client.all_for(0.05)
    assert (ack["type"], snapshot["type"]) == ("subscriptions", "snapshot")
    assert {frame["type"] for frame in frames} == {"l2update"}
    sides = {"buy": dict(snapshot["bids"]), "sell": dict(snapshot["asks"])}
    for frame in frames:
        for side, price, size in frame["changes"]:
            sides[side][price] = size
            if size == "0.00000000":
                del sides[side][price]
    bids = sorted(sides["buy"], key=Decimal, reverse=True)
    asks = sorted(sides["sell"], key=Decimal)
    assert (len(bids), len(asks)) == (100, 100)
    assert Decimal(bids[0]) < Decimal(asks[0])
    assert book["sequence"] > 0


def test_unsubscribed_books_begin_anew(busy):
    with Wire(busy.url, request("level2_batch")) as client:
        client.next(of("l2update"))
        client.ask(request("level2_batch", type="unsubscribe"))
        client.next(of("subscriptions"))
        assert client.all_for(0.2) == []
        client.ask(request("level2_batch"))
        assert [parsed(client.raw())["type"] for _ in range(3)] == ["subscriptions", "snapshot", "l2update"]


def test_rest_lists_products_and_books(busy):
    status, products = get(busy.address, "/products")
    assert status == 200
    assert [
        [
            product[key]
            for key in (
                "id",
                "base_currency",
                "quote_currency",
                "quote_increment",
                "base_increment",
                "status",
            )
        ]
        for product in products
    ][::3] == [
        ["BTC-USD", "BTC", "USD", "0.01", "0.00000001", "online"],
        ["NEW-EUR", "NEW", "EUR", products[3]["quote_increment"], "0.00000001", "online"],
    ]
    assert get(busy.address, f"/products/{BTC}")[1] == products[0]
    assert get(busy.address, "/products/NOPE-USD/book?level=2") == (404, {"message": "NotFound"})
    _, book = get(busy.address, f"/products/{BTC}/book?level=2")
    assert list(book) == ["bids", "asks", "sequence", "auction_mode", "auction", "time"]
    assert (len(book["bids"]), len(book["asks"])) == (100, 100)
    assert len(get(busy.address, f"/products/{BTC}/book")[1]["bids"]) == 1


def test_the_recorder_reads_all_of_it(busy):
    reader = exchanges.coinbase.Coinbase(Wanted(symbols=(BTC,), channels=("trade", "book", "ticker")))
    payloads = [one.payload for one in reader.requests(reader.topics(), 1)]
    with Wire(busy.url, *payloads) as client:
        client.all_for(1.2)
        frames = client.frames
    book, seen = Book(), dict.fromkeys(Kind, 0)
    for frame in frames:
        reading, content = reader.read(frame), parsed(frame)
        seen[reading.kind] += 1
        for row in reading.rows:
            if reading.channel == "trade":
                taker = {"buy": "sell", "sell": "buy"}[content["side"]]
                expected = (str(content["trade_id"]), content["price"], content["size"], taker)
                assert (row.id, row.price, row.quantity, row.side) == expected
            elif reading.channel == "book":
                book.apply(row)
                assert reader.check_book(book, None, row) == ""
    assert seen[Kind.ACK] == len(payloads)
    assert seen[Kind.PONG] >= 1
    assert seen[Kind.DATA] == len(frames) - seen[Kind.ACK] - seen[Kind.PONG]
    assert (len(book.bids), len(book.asks)) == (100, 100)


def test_the_recorder_reads_the_list_and_no_garbage(busy):
    coinbase = exchanges.coinbase.Coinbase
    listing = coinbase.read_instruments(rest_of(busy.address, coinbase.instruments_url))
    assert listing.instruments[0] == Instrument(
        symbol=BTC, base="BTC", quote="USD", kind="spot", tick_size="0.01", quantity_step="0.00000001"
    )
    assert list(parsed(rest_of(busy.address, coinbase.ping_url))) == ["iso", "epoch"]
    session = Coinbase().session("/", {})
    read = coinbase(Wanted(symbols=(BTC,), channels=("trade", "book", "ticker"))).read
    assert [message for message in session.garbage() if not undecodable(read, message.payload)] == []


def test_lost_matches_are_a_hole_in_the_ids_and_the_book_keeps_quiet():
    with (
        Simulator(exchange="coinbase", speed=20) as exchange,
        Wire(exchange.url, request("matches", "level2_batch")) as client,
    ):
        client.next(of("match"))
        exchange.lose(f"Trades {BTC}")
        exchange.lose(f"Depth {BTC}")
        frames = client.all_for(0.5)
    ids = [frame["trade_id"] for frame in frames if frame["type"] == "match"]
    lost = [parsed(frame) for frame in exchange.lost]
    missing = sorted({*range(ids[0], ids[-1])} - {*ids})
    assert missing == [frame["trade_id"] for frame in lost if frame["type"] == "match"] != []
    assert [frame["type"] for frame in lost].count("l2update") == 1
