"""MEXC's protocol over real sockets, seen by websocket-client."""

import json
import re
import time
from contextlib import suppress
from itertools import pairwise
from typing import Self

import pytest
import websocket

from mexcflow.errors import Misuse
from mexcflow.simulator import Simulator

CUT = (websocket.WebSocketConnectionClosedException, ConnectionError)


class Client:
    """A plain client that keeps what it gets as (opcode, bytes)."""

    def __init__(self, url: str, *subscriptions: str, symbol: str = "BTC_USDT") -> None:
        self.socket = websocket.create_connection(url, timeout=30, skip_utf8_validation=True)
        for channel in subscriptions:
            self.ask(f"sub.{channel}", symbol=symbol)
            assert self.next("rs.")["channel"] == f"rs.sub.{channel}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.socket.shutdown()

    def ask(self, method: str, **param) -> None:
        self.socket.send(json.dumps({"method": method, "param": param} if param else {"method": method}))

    def raw(self, timeout: float = 30) -> tuple[int, bytes]:
        self.socket.settimeout(timeout)
        return self.socket.recv_data()

    def next(self, prefix: str = "", timeout: float = 30) -> dict:
        """Return the next frame whose channel starts so; others are passed over."""
        end = time.monotonic() + timeout
        while True:
            frame = json.loads(self.raw(max(0.001, end - time.monotonic()))[1])
            if frame["channel"].startswith(prefix):
                return frame

    def silent(self, prefix: str = "", timeout: float = 0.15) -> bool:
        with suppress(websocket.WebSocketTimeoutException):
            self.next(prefix, timeout)
            return False
        return True

    def all_for(self, seconds: float) -> list[bytes]:
        end, frames = time.monotonic() + seconds, []
        with suppress(websocket.WebSocketTimeoutException):
            while (rest := end - time.monotonic()) > 0:
                frames.append(self.raw(rest)[1])
        return frames

    def until_cut(self) -> list[tuple[int, bytes]]:
        """Return all frames up to the cut; a close frame would be among them, with opcode 8."""
        frames = []
        with suppress(*CUT):
            while True:
                frames.append(self.raw())
        return frames


@pytest.fixture(scope="module")
def quiet():
    """An exchange without a market: control frames only."""
    with Simulator(generate=False) as exchange:
        yield exchange


@pytest.mark.parametrize("channel", ["ticker", "deal", "depth.full"])
def test_acknowledgement_has_no_symbol(quiet, channel):
    with Client(quiet.url) as client:
        client.ask(f"sub.{channel}", symbol="BTC_USDT")
        ack = client.next()
    assert list(ack) == ["channel", "data", "ts"]
    assert (ack["channel"], ack["data"]) == (f"rs.sub.{channel}", "success")
    assert abs(ack["ts"] - time.time() * 1000) < 5000


def test_unknown_contract_is_named_in_the_text_only(quiet):
    with Client(quiet.url) as client:
        client.ask("sub.deal", symbol="NOPE_USDT")
        error = client.next()
    assert (error["channel"], error["data"]) == ("rs.error", "Contract [NOPE_USDT] not exists")


def test_a_limit_that_is_not_offered_is_an_error(quiet):
    with Client(quiet.url) as client:
        for limit in (7, "20", None):
            client.ask("sub.depth.full", symbol="BTC_USDT", limit=limit)
            assert client.next()["data"] == "Not support limit"


@pytest.mark.parametrize(
    "request_text",
    ['{"method":"sub.weather","param":{"symbol":"BTC_USDT"}}', "no json", "[]", "7", '{"method":7}', "{}"],
)
def test_unknown_methods_and_garbage_get_silence(quiet, request_text):
    with Client(quiet.url) as client:
        client.socket.send(request_text)
        client.ask("ping")
        assert client.next()["channel"] == "pong"
        assert client.silent()


def test_pong_carries_the_time(quiet):
    with Client(quiet.url) as client:
        client.ask("ping")
        pong = client.next()
    assert list(pong) == ["channel", "data", "ts"]
    assert pong["data"] == pong["ts"]
    assert abs(pong["ts"] - time.time() * 1000) < 5000


def test_a_list_subscribes_the_first_and_says_nothing():
    with Simulator(speed=10) as exchange, Client(exchange.url) as client:
        client.ask("sub.deal", symbol=["ETH_USDT", "BTC_USDT"])
        assert client.next()["channel"] == "rs.sub.deal"
        assert {json.loads(frame)["symbol"] for frame in client.all_for(0.6)} == {"ETH_USDT"}


def test_subscribing_twice_is_acknowledged_twice_and_sends_once():
    with Simulator(speed=10) as exchange, Client(exchange.url, "deal", "deal") as client:
        ids = [deal["i"] for frame in client.all_for(0.6) for deal in json.loads(frame)["data"]]
    assert ids
    assert [int(later) - int(earlier) for earlier, later in pairwise(ids)] == [1] * (len(ids) - 1)


@pytest.mark.parametrize("word", ["unsub", "usub"])
def test_unsubscribing_ends_that_channel_only(word):
    with Simulator(speed=10) as exchange, Client(exchange.url, "deal", "depth.full") as client:
        client.next("push.deal")
        client.ask(f"{word}.deal", symbol="BTC_USDT")
        assert client.next("rs.")["channel"] == "rs.unsub.deal"
        assert {json.loads(frame)["channel"] for frame in client.all_for(0.5)} == {"push.depth.full"}


def test_depth_limit_is_respected_and_the_last_wins():
    with Simulator(speed=20) as exchange, Client(exchange.url) as client:
        for limit in (20, 10, 5):
            client.ask("sub.depth.full", symbol="BTC_USDT", limit=limit)
            client.next("rs.sub.depth.full")
            data = client.next("push.depth.full")["data"]
            assert (len(data["asks"]), len(data["bids"])) == (limit, limit)


def test_all_channels_flow_at_their_cadence():
    with Simulator(speed=10) as exchange, Client(exchange.url, "ticker", "deal", "depth.full") as client:
        frames = [json.loads(frame) for frame in client.all_for(3)]
    count = dict.fromkeys(("push.ticker", "push.deal", "push.depth.full"), 0)
    for frame in frames:
        count[frame["channel"]] += 1
        assert frame["symbol"] == "BTC_USDT"
    assert 7 <= count["push.ticker"] <= 13
    assert 60 <= count["push.depth.full"] <= 130
    assert 200 <= count["push.deal"] <= 1000


@pytest.mark.parametrize("channel", ["ticker", "deal", "depth.full"])
def test_same_seed_gives_each_first_client_the_same_numbers(channel):
    def numbers(seed: int) -> list:
        with Simulator(seed=seed, speed=200) as exchange, Client(exchange.url, channel) as client:
            frames = [client.raw()[1].decode() for _ in range(15)]
        return [re.sub(r'"(ts|t|cts|timestamp)":"?\d{13}"?', "", frame) for frame in frames]

    assert numbers(5) == numbers(5)
    assert numbers(5) != numbers(6)


def test_clients_have_their_own_subscriptions_of_one_market():
    with (
        Simulator(speed=10) as exchange,
        Client(exchange.url, "deal") as one,
        Client(exchange.url, "deal", "ticker") as two,
        Client(exchange.url, "ticker", symbol="SOL_USDT") as three,
    ):
        deals = [[client.next("push.deal")["data"] for _ in range(60)] for client in (one, two)]
        assert three.next("push.")["symbol"] == "SOL_USDT"
        assert exchange.connections == 3
    assert any(deal in deals[1] for deal in deals[0])


def test_silent_client_is_cut_while_data_flows_and_without_close_frame():
    with Simulator(ping_timeout_s=1, speed=10) as exchange, Client(exchange.url, "deal") as client:
        start = time.monotonic()
        client.socket.ping("a protocol ping is no heartbeat")
        frames = client.until_cut()
        assert 0.8 < time.monotonic() - start < 2
    assert len(frames) > 20
    assert all(opcode != websocket.ABNF.OPCODE_CLOSE for opcode, _ in frames)
    texts = [json.loads(payload) for opcode, payload in frames if opcode == websocket.ABNF.OPCODE_TEXT]
    assert texts[-1]["data"] == "more than 60 seconds no response, close the channel"
    assert texts[-1]["channel"] == "rs.error"
    assert texts[-2]["channel"] == "push.deal"


def test_pinging_client_is_not_cut():
    with Simulator(ping_timeout_s=0.4, generate=False) as exchange, Client(exchange.url) as client:
        for _ in range(8):
            client.ask("ping")
            assert client.next()["channel"] == "pong"
            time.sleep(0.1)


def test_sent_and_received_are_what_the_client_saw():
    with Simulator(speed=10, keep_sent=True) as exchange, Client(exchange.url, "deal") as client:
        frames = [client.raw()[1] for _ in range(20)]
        assert exchange.sent[:20] == frames
        assert exchange.received == [b'{"method": "sub.deal", "param": {"symbol": "BTC_USDT"}}']


def test_send_reaches_subscribed_clients_as_it_is(quiet):
    with Client(quiet.url, "deal") as client, Client(quiet.url) as bystander:
        assert quiet.send(b'{"a":\xff\xfe') == 1
        assert quiet.send_binary(b"\x00\x01") == 1
        frames = [client.raw() for _ in range(2)]
        assert bystander.silent()
    assert frames == [
        (websocket.ABNF.OPCODE_TEXT, b'{"a":\xff\xfe'),
        (websocket.ABNF.OPCODE_BINARY, b"\x00\x01"),
    ]


@pytest.mark.parametrize(
    "wrong", [{"speed": 0}, {"ping_timeout_s": -1}, {"rate": 5}, {"frames": []}, {"port": 70000}]
)
def test_wrong_settings_are_misuse(wrong):
    with pytest.raises(Misuse):
        Simulator(**wrong)


def test_port_in_use_is_misuse(quiet):
    port = int(quiet.url.split(":")[2].split("/")[0])
    with pytest.raises(Misuse, match="address already in use"), Simulator(port=port):
        pass


def test_stopping_waits_for_no_client():
    with Simulator(speed=10) as exchange, Client(exchange.url, "deal", "depth.full"):
        start = time.monotonic()
        exchange.__exit__(None, None, None)
        assert time.monotonic() - start < 1
        assert not exchange.running


def test_an_error_inside_the_server_reaches_its_user():
    exchange = Simulator(generate=False).__enter__()
    exchange._loop.call_soon_threadsafe(exchange._server.end, ZeroDivisionError())
    exchange._thread.join(5)
    assert not exchange.running
    for call in (exchange.drop, lambda: exchange.__exit__(None, None, None)):
        with pytest.raises(ZeroDivisionError):
            call()
