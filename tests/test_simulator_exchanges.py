"""Exchanges other than the first over real sockets: paths, heartbeats, limits, ends, lost frames."""

import json
import time
import urllib.error
import urllib.request
from itertools import pairwise

import pytest
import websocket

from mexcflow.errors import Misuse
from mexcflow.simulator import Faults, Simulator
from mexcflow.simulator.candles import ms_before_a_minute_ends
from mexcflow.simulator.contracts import contracts, currencies
from mexcflow.simulator.exchanges import EXCHANGES
from mexcflow.simulator.settings import Settings
from tests.simulated import Socket
from tests.test_simulator_archive import journal
from tests.test_simulator_command import simulate

BOOK = {"method": "SUBSCRIBE", "params": ["btcusdt@depth20@100ms"], "id": 1}
BYBIT_BOOK = {"op": "subscribe", "args": ["orderbook.50.BTCUSDT"], "req_id": "1"}


def get(exchange: Simulator, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(exchange.address.replace("ws", "http", 1) + path) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_an_unknown_exchange_is_misuse():
    with pytest.raises(Misuse, match="there is no simulator of 'nope'"):
        Settings(exchange="nope")


def test_paths_rest_and_what_is_neither():
    with Simulator(exchange="binance", generate=False) as exchange:
        assert exchange.urls == [f"{exchange.address}/public/stream", f"{exchange.address}/market/stream"]
        assert exchange.url == exchange.urls[0]
        for url in exchange.urls:
            with Socket(url, BOOK) as client:
                assert client.next() == {"result": None, "id": 1}
        with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
            Socket(f"{exchange.address}/edge")
        assert refusal.value.status_code == 404
        assert get(exchange, "/fapi/v1/ping") == (200, b"{}")
        assert get(exchange, "/fapi/v1/depth?symbol=NOPE") == (400, b'{"code":-1121,"msg":"Invalid symbol."}')
        assert get(exchange, "/api/v1/contract/ping")[0] == 426  # no path of this exchange's


@pytest.mark.parametrize("name", EXCHANGES)
def test_every_exchange_knows_the_usual_three_and_more(name):
    exchange = EXCHANGES[name](("X1USDT",))
    assert [contract.base for contract in exchange.contracts] == ["BTC", "ETH", "SOL", "X1"]
    assert exchange.session(exchange.rules.paths[0], {}) is not None


@pytest.mark.parametrize(
    ("symbol", "base", "quote"),
    [
        ("DOGE_USDT", "DOGE", "USDT"),
        ("DOGE-USDT-SWAP", "DOGE", "USDT"),
        ("DOGE/EUR", "DOGE", "EUR"),
        ("DOGEUSDC", "DOGE", "USDC"),
        ("牛来USDT", "牛来", "USDT"),
        ("USDT", "USDT", ""),
    ],
)
def test_currencies_of_made_up_contracts(symbol, base, quote):
    assert currencies(symbol) == (base, quote)
    assert (contracts((symbol,))[-1].base, contracts((symbol,))[-1].quote) == (base, quote)


def test_a_server_pings_and_who_answers_stays():
    settings = {"server_ping_s": 0.05, "ping_timeout_s": 0.4, "generate": False}
    with Simulator(exchange="binance", **settings) as exchange, Socket(exchange.url) as client:
        pings = []
        end = time.monotonic() + 0.8
        while time.monotonic() < end:
            opcode, frame = client.socket.recv_data_frame(control_frame=True)  # answers it
            pings.append((opcode, int(frame.data)))
        assert {opcode for opcode, _ in pings} == {websocket.ABNF.OPCODE_PING}
        assert len(pings) > 8
        assert all(abs(at_ms - time.time() * 1000) < 5000 for _, at_ms in pings)
        client.ask(BOOK)
        assert client.next() == {"result": None, "id": 1}


def test_who_answers_no_ping_is_cut_without_a_word():
    with Simulator(exchange="binance", server_ping_s=0.05, ping_timeout_s=0.3, generate=False) as exchange:
        client = websocket.create_connection(exchange.url, timeout=30)
        client.pong = lambda _payload: None
        with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
            client.recv()


def test_who_sends_too_many_messages_a_second_is_cut():
    with (
        Simulator(exchange="binance_spot", generate=False) as exchange,
        Socket(exchange.url, *[BOOK] * 5) as client,
    ):
        assert [client.next() for _ in range(5)] == [{"result": None, "id": 1}] * 5
        time.sleep(1.01)
        for _ in range(6):
            client.ask(BOOK)
        assert len(client.until_cut()) <= 5


@pytest.mark.parametrize("by_call", [True, False])
def test_a_connection_that_ends_of_age_is_told_so_and_closed(by_call):
    faults = Faults() if by_call else Faults(lifetime_s=0.3)
    with Simulator(exchange="binance", generate=False, faults=faults) as exchange:
        with Socket(exchange.url) as client:
            if by_call:
                exchange.expire()
            (opcode, farewell), (last_opcode, last) = client.until_cut()[:2]
        assert opcode == websocket.ABNF.OPCODE_TEXT
        content = json.loads(farewell)
        assert content["stream"] == "!serverShutdown"
        assert content["data"]["e"] == "serverShutdown"
        assert (last_opcode, int.from_bytes(last[:2], "big")) == (websocket.ABNF.OPCODE_CLOSE, 1001)
        with Socket(exchange.url, BOOK) as client:  # a new one is welcome
            assert client.next() == {"result": None, "id": 1}


def updates(frames: list[bytes]) -> list[tuple[int, int]]:
    return [(data["pu"], data["u"]) for data in (json.loads(frame)["data"] for frame in frames)]


def test_a_frame_lost_on_request_is_a_gap_of_one():
    with Simulator(exchange="binance", speed=10, keep_sent=True) as exchange:
        with Socket(exchange.url, BOOK) as client:
            client.next()
            got = [client.raw()[1] for _ in range(3)]
            exchange.lose("Depth BTCUSDT")
            while not exchange.lost:
                got.append(client.raw()[1])
            got += [client.raw()[1] for _ in range(3)]
        (lost,) = exchange.lost
    assert lost not in exchange.sent
    chain = sorted(updates([*got, lost]))
    assert [previous for previous, _ in chain[1:]] == [last for _, last in chain[:-1]]
    ours = updates(got)
    breaks = [later[0] for earlier, later in pairwise(ours) if later[0] != earlier[1]]
    assert breaks == [updates([lost])[0][1]]


def test_frames_are_lost_now_and_then():
    with Simulator(exchange="bybit", speed=10, faults=Faults(lose_every_s=0.3), keep_sent=True) as exchange:
        with Socket(exchange.url, BYBIT_BOOK) as client:
            frames = client.all_for(1.0)
        lost = [json.loads(frame)["data"]["u"] for frame in exchange.lost]
    got = [content["data"]["u"] for content in map(json.loads, frames) if "topic" in content]
    assert len(lost) >= 2
    missing = sorted(set(range(got[0], got[-1] + 1)) - set(got))
    assert missing == [number for number in lost if number < got[-1]]


def test_snapshots_stand_behind_the_acknowledgement_and_deltas_follow_them():
    with (
        Simulator(exchange="bybit", speed=10, keep_sent=True) as exchange,
        Socket(exchange.url, BYBIT_BOOK) as early,
    ):
        while early.next().get("type") != "delta":
            pass
        with Socket(exchange.url, BYBIT_BOOK) as late:
            first, second, third = (late.next() for _ in range(3))
        sent = [frame for _, frames in exchange.sent_to[1:] for frame in frames]
    assert (first["op"], first["success"]) == ("subscribe", True)
    assert (second["type"], third["type"]) == ("snapshot", "delta")
    assert third["data"]["u"] == second["data"]["u"] + 1
    assert [json.loads(frame) for frame in sent[:3]] == [first, second, third]


def test_nothing_of_the_market_while_it_is_silent_and_a_gap_afterwards():
    with Simulator(exchange="bybit", speed=10) as exchange, Socket(exchange.url, BYBIT_BOOK) as client:
        while (before := client.next()).get("type") != "delta":
            pass
        with exchange.silence():
            time.sleep(0.2)
            with Socket(exchange.url, BYBIT_BOOK) as other:
                assert other.next()["success"] is True
                assert other.all_for(0.1) == []  # no snapshot either
        numbers = [json.loads(frame)["data"]["u"] for frame in client.all_for(0.3)]
    gaps = [later - earlier for earlier, later in zip([before["data"]["u"], *numbers], numbers, strict=False)]
    assert sorted(set(gaps))[0] == 1
    assert sum(gap > 1 for gap in gaps) == 1


def test_the_exchanges_clock_may_be_ahead_so_that_a_minute_ends_soon():
    ahead_ms = ms_before_a_minute_ends(time.time_ns() // 1_000_000, 700)
    assert 0 <= ahead_ms < 60_000
    candle = {"method": "SUBSCRIBE", "params": ["btcusdt@kline_1m"], "id": 1}
    with (
        Simulator(exchange="binance", speed=5, clock_ahead_ms=ahead_ms) as exchange,
        Socket(exchange.urls[1], candle) as client,
    ):
        client.next()
        while not (data := client.next()["data"])["k"]["x"]:
            pass
    assert data["k"]["T"] < data["E"] <= data["k"]["T"] + 1000
    assert abs(data["E"] - ahead_ms - time.time() * 1000) < 5000


def test_the_recorded_exchange_is_the_one_that_is_played(tmp_path):
    trade = b'{"topic":"publicTrade.X1USDT","type":"snapshot","ts":1790000000123,"data":[]}'
    folder = journal(tmp_path / "linear", [trade], symbol="X1USDT,X2USDT", exchange="bybit")
    with simulate("--archive", str(folder)) as process:
        address = process.stdout.readline().split()[-1]
        topics = {"op": "subscribe", "args": ["publicTrade.X1USDT", "publicTrade.X2USDT"]}
        with Socket(f"{address}/v5/public/linear", topics) as client:
            assert client.next()["success"] is True
            assert client.raw() == (websocket.ABNF.OPCODE_TEXT, trade)
