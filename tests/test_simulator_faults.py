"""Every fault, as an option of the simulator and as an object a test switches."""

import http.client
import json
import socket
import time
from decimal import Decimal
from itertools import pairwise
from urllib.parse import urlsplit

import pytest
import websocket

from mexcflow.errors import Misuse
from mexcflow.simulator import Faults, Settings, Simulator
from mexcflow.simulator.faults import Disturber
from tests.test_simulator_protocol import Client


def faulty(**faults) -> Simulator:
    return Simulator(speed=10, keep_sent=True, faults=Faults(**faults))


def refused(url: str) -> bool:
    try:
        socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=2).close()
    except ConnectionRefusedError:
        return True
    return False


def fetch(exchange: Simulator, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(urlsplit(exchange.url).netloc, timeout=30)
    connection.request("GET", path)
    return connection.getresponse()


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_impossible_times_are_misuse(value):
    with pytest.raises(Misuse, match=r"drop every: .* is not possible"):
        Faults(drop_every_s=value)


@pytest.mark.parametrize("alone", ["refuse_every_s", "refuse_for_s"])
def test_refusing_needs_both_times(alone):
    with pytest.raises(Misuse, match="go together"):
        Faults(**{alone: 1.0})


def test_drop_every_cuts_each_connection_in_turn():
    with faulty(drop_every_s=0.8) as exchange:
        for _ in range(2):
            start = time.monotonic()
            with Client(exchange.url, "deal") as client:
                frames = client.until_cut()
            assert 0.7 < time.monotonic() - start < 1.8
            assert frames
            assert all(opcode != websocket.ABNF.OPCODE_CLOSE for opcode, _ in frames)
        assert exchange.connections == 2


def test_stall_ends_the_data_and_not_the_pongs():
    with faulty(stall_after_s=0.5) as exchange, Client(exchange.url, "deal", "depth.full") as client:
        assert client.all_for(0.6)
        assert client.silent(timeout=0.5)
        client.ask("ping")
        assert client.next()["channel"] == "pong"


def received_until_end(url: str) -> bytes:
    """Subscribe by hand and return every byte after the handshake."""
    with Client(url, "deal") as client:
        client.raw()
        raw, content = client.socket.sock, b""
        raw.settimeout(5)
        while chunk := raw.recv(65536):
            content += chunk
    return content


def last_message(content: bytes) -> tuple[int, bytes]:
    """Return the announced length of the last websocket message and what came of its payload."""
    while True:
        length, start = content[1], 2
        if length == 126:
            length, start = int.from_bytes(content[2:4]), 4
        if len(content) <= start + length:
            return length, content[start:]
        content = content[start + length :]


def test_half_frame_every_ends_in_the_middle_of_a_message():
    with faulty(half_frame_every_s=0.5) as exchange:
        length, payload = last_message(received_until_end(exchange.url))
    assert 0.3 * length < len(payload) < 0.7 * length
    assert payload.startswith(b'{"symbol":"BTC_USDT","data":[')


def test_half_frame_object():
    with Simulator(generate=False) as exchange, Client(exchange.url, "deal") as client:
        exchange.send(b"0123456789")
        assert client.raw()[1] == b"0123456789"
        exchange.half_frame()
        assert client.socket.sock.recv(100) == b"\x81\x0a0123"
        assert client.socket.sock.recv(100) == b""


def test_garbage_is_of_every_kind_and_never_decodable():
    faults = Faults(garbage_every_s=0.03)
    with Simulator(generate=False, keep_sent=True, faults=faults) as exchange:
        with Client(exchange.url, "deal", symbol="ETH_USDT") as client:
            frames = [client.raw() for _ in range(14)]
        assert [payload for _, payload in frames] == exchange.garbage[:14]
    assert len(set(frames)) == 14
    assert {opcode for opcode, _ in frames} == {websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY}
    for _, payload in frames:
        assert not is_deal_of_eth(payload), payload


def is_deal_of_eth(payload: bytes) -> bool:
    """Whether a strict reader would take it as deals of ETH_USDT."""

    def no_number(_: str) -> None:
        raise ValueError

    try:
        frame = json.loads(payload, parse_constant=no_number)
        if frame["symbol"] != "ETH_USDT" or frame["channel"] != "push.deal":
            return False
        return all(float(deal["p"]) > 0 and int(deal["v"]) > 0 for deal in frame["data"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def test_garbage_leaves_the_market_data_whole():
    with faulty(garbage_every_s=0.1) as exchange, Client(exchange.url, "deal") as client:
        frames = [payload for _, payload in (client.raw() for _ in range(100))]
        good = [frame for frame in frames if frame in set(exchange.sent)]
        assert good == exchange.sent[: len(good)]
        assert len(good) < len(frames)


def test_exponents_on_the_wire():
    with faulty(exponents=True) as exchange, Client(exchange.url, "depth.full") as client:
        frame = client.raw()[1]
    assert b"E+4" in frame
    prices = [Decimal(level[0]) for level in json.loads(frame, parse_float=Decimal)["data"]["asks"]]
    assert prices == sorted(prices)
    assert all(80_000 < price < 90_000 and price % Decimal("0.1") == 0 for price in prices)


def test_duplicates():
    with faulty(duplicate_every_s=0.2) as exchange, Client(exchange.url, "deal") as client:
        frames = client.all_for(1)
    doubled = sum(earlier == later for earlier, later in pairwise(frames))
    assert 2 <= doubled <= 5
    assert len(frames) == len(set(frames)) + doubled


def test_out_of_order_swaps_neighbours_and_loses_nothing():
    with faulty(out_of_order_every_s=0.2) as exchange, Client(exchange.url, "depth.full") as client:
        versions = [json.loads(frame)["data"]["version"] for frame in client.all_for(1)]
    backwards = sum(later < earlier for earlier, later in pairwise(versions))
    assert 2 <= backwards <= 5
    assert len(set(versions)) == len(versions)


def test_a_frame_changes_places_with_the_next_of_its_own_stream():
    disturber = Disturber(Faults(out_of_order_every_s=1), 0)
    assert disturber.pass_on("a", b"1", 0.5) == (b"1",)
    assert disturber.pass_on("a", b"2", 1.0) == ()
    assert disturber.pass_on("b", b"x", 1.1) == (b"x",)
    assert disturber.pass_on("a", b"3", 1.2) == (b"3", b"2")
    assert disturber.pass_on("a", b"4", 1.3) == (b"4",)


def test_refuse_now_and_then_cuts_refuses_and_listens_again():
    with faulty(refuse_every_s=1, refuse_for_s=0.5) as exchange:
        with Client(exchange.url, "deal") as client:
            assert client.until_cut()
        assert refused(exchange.url)
        time.sleep(0.6)
        with Client(exchange.url, "deal") as client:
            assert client.next("push.deal")


def test_refuse_object_keeps_the_port_and_open_connections():
    with Simulator(generate=False) as exchange, Client(exchange.url, "deal") as client:
        url = exchange.url
        with exchange.refuse():
            assert refused(url)
            client.ask("ping")
            assert client.next()["channel"] == "pong"
        assert exchange.url == url
        with Client(url, "deal"):
            assert exchange.connections == 2


def test_drop_object():
    with Simulator(speed=10) as exchange, Client(exchange.url, "deal") as client:
        exchange.drop()
        assert all(opcode != websocket.ABNF.OPCODE_CLOSE for opcode, _ in client.until_cut())
        with Client(exchange.url, "deal") as again:
            assert again.next("push.deal")


def test_silence_object_stops_data_and_not_pongs():
    with Simulator(speed=10) as exchange, Client(exchange.url, "deal") as client:
        client.next("push.")
        with exchange.silence():
            client.all_for(0.1)
            assert client.silent(timeout=0.5)
            client.ask("ping")
            assert client.next()["channel"] == "pong"
        assert client.next()["channel"] == "push.deal"


def test_no_pongs_as_option_and_object():
    with faulty(no_pongs=True) as exchange, Client(exchange.url) as client:
        client.ask("ping")
        assert client.silent()
    with Simulator(generate=False) as exchange, Client(exchange.url) as client:
        with exchange.no_pongs():
            client.ask("ping")
            assert client.silent()
        client.ask("ping")
        assert client.next()["channel"] == "pong"


def test_no_acks_as_option_and_object():
    with faulty(no_acks=True) as exchange, Client(exchange.url) as client:
        client.ask("sub.deal", symbol="BTC_USDT")
        assert client.next()["channel"] == "push.deal"
        client.ask("sub.deal", symbol="NOPE_USDT")
        assert client.next("rs.")["channel"] == "rs.error"
    with Simulator(generate=False) as exchange, Client(exchange.url) as client:
        with exchange.no_acks():
            client.ask("sub.deal", symbol="BTC_USDT")
            assert client.silent()
        client.ask("sub.deal", symbol="BTC_USDT")
        assert client.next()["channel"] == "rs.sub.deal"


def test_who_does_not_read_is_cut_and_others_go_on(caplog):
    symbols = tuple(f"S{number}_USDT" for number in range(20))
    settings = Settings(speed=200, symbols=symbols, outbox_messages=200)
    with (
        Simulator.of(settings) as exchange,
        Client(exchange.url, "ticker") as reader,
        Client(exchange.url) as sleeper,
    ):
        for symbol in symbols:  # 10 MB a second: soon more than the sockets hold
            sleeper.ask("sub.depth.full", symbol=symbol)
        for _ in range(20):
            reader.all_for(2)
            if "reads too slowly" in caplog.text:
                break
        assert reader.next("push.")
        frames = sleeper.until_cut()
    assert frames
    assert b"more than 60 seconds" not in frames[-1][1]


@pytest.mark.parametrize("status", [403, 418, 429, 451, 499, 503])
def test_a_ban_turns_every_new_client_away_and_leaves_the_others(exchange, status):
    with Client(exchange.url, "deal") as client, exchange.banned(status, 30.5):
        with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
            Client(exchange.url, "deal")
        assert refusal.value.status_code == status
        assert refusal.value.resp_headers["retry-after"] == "31"
        answer = fetch(exchange, "/api/v1/contract/ping")
        assert (answer.status, answer.getheader("Retry-After")) == (status, "31")
        client.ask("ping")
        assert client.next("pong")
    assert fetch(exchange, "/api/v1/contract/ping").status == 200
    assert len(exchange.callers) == 4


def test_bans_may_overlap_and_are_lifted_each_by_itself(exchange):
    with exchange.banned(403):
        with exchange.banned(429):
            assert fetch(exchange, "/").status == 429
        answer = fetch(exchange, "/")
        assert (answer.status, answer.getheader("Retry-After")) == (403, None)


def test_a_ping_is_answered_with_the_time_and_what_is_not_there_is_not(exchange):
    before = time.time_ns() // 1_000_000
    answer = fetch(exchange, "/api/v1/contract/ping?x=1")
    said = json.loads(answer.read())
    assert (said["success"], said["code"]) == (True, 0)
    assert before <= said["data"] <= time.time_ns() // 1_000_000
    assert fetch(exchange, "/api/v1/contract/nothing").status == 426


@pytest.mark.parametrize(
    ("faults", "says"),
    [
        ({"http_status": 200}, "no error"),
        ({"http_status": 600}, "no error"),
        ({"retry_after_s": 5.0}, "goes with"),
        ({"http_status": 429, "retry_after_s": -1.0}, "not possible"),
    ],
)
def test_a_ban_that_cannot_be_is_misuse(faults, says):
    with pytest.raises(Misuse, match=says):
        Faults(**faults)
