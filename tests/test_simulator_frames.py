"""Recorded frames: exactly as they stand in the file, in order, at the speed asked for."""

import base64
import gzip
import json
import time

import pytest
import websocket

from mexcflow.errors import Misuse
from mexcflow.simulator import Faults, Simulator
from mexcflow.simulator.frames import read_file
from tests.test_simulator_protocol import Client

TEXT, BINARY = websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY
MANY = [f'{{"number":{number}}}'.encode() for number in range(5000)]


def test_a_file_is_read_line_by_line_without_judging_it(tmp_path):
    file = tmp_path / "frames.jsonl"
    packed = gzip.compress(b"packed")
    odd = '{"ts" : 1,"p":7.548E+4,"s":"牛来"}  '.encode()
    file.write_bytes(
        b"\n".join([odd, b"", b"  ", b"{half\r", b"\xff\xfe", b"base64:" + base64.b64encode(packed)])
    )
    assert read_file(file) == (
        (odd, True),
        (b"{half", True),
        (b"\xff\xfe", True),
        (packed, False),
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"\n \n", "no frame in it"),
        (b"{}\nbase64:?", "line 2: not base64"),
    ],
)
def test_a_file_of_no_use_is_misuse(tmp_path, content, message):
    file = tmp_path / "frames.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Misuse, match=message):
        read_file(file)


def test_every_client_gets_all_frames_once_in_order_and_then_pongs():
    lines = [b'{"a":  1}', b"not json", b"base64:AAEC", b'{"b":7.5E+4}']
    expected = [(TEXT, lines[0]), (TEXT, lines[1]), (BINARY, b"\x00\x01\x02"), (TEXT, lines[3])]
    with Simulator(frames=lines, keep_sent=True) as exchange:
        with Client(exchange.url, "deal") as one, Client(exchange.url, "deal") as other:
            for client in (one, other):
                assert [client.raw() for _ in lines] == expected
                client.ask("ping")
                assert client.next()["channel"] == "pong"
                assert client.silent()
        assert sorted(exchange.sent) == sorted(2 * [payload for _, payload in expected])


def test_a_client_that_comes_back_is_sent_no_frame_twice():
    lines = [b"%d" % number for number in range(40)]
    with Simulator(frames=lines, rate=50, keep_sent=True) as exchange:
        got: list[bytes] = []
        for wanted in (5, 10):
            with Client(exchange.url, "deal") as client:
                got += [client.raw()[1] for _ in range(wanted)]
        with Client(exchange.url, "deal") as client:
            while not got or got[-1] != lines[-1]:
                got.append(client.raw()[1])
        with Client(exchange.url, "deal") as client:
            assert client.silent()
        assert exchange.sent == lines
    assert got == sorted(set(got), key=int)  # some were on their way when the connection was cut


def test_nothing_is_played_before_a_subscription():
    with Simulator(frames=MANY) as exchange, Client(exchange.url) as client:
        client.ask("sub.deal", symbol="NOPE_USDT")
        assert client.next()["channel"] == "rs.error"
        assert client.silent(timeout=0.4)


@pytest.mark.parametrize("subscriptions", [1, 3, 9])
def test_all_acknowledgements_come_before_the_first_frame(subscriptions):
    with Simulator(frames=MANY[:3]) as exchange, Client(exchange.url) as client:
        for _ in range(subscriptions):
            client.ask("sub.deal", symbol="BTC_USDT")
        frames = [client.raw()[1] for _ in range(subscriptions + 3)]
    assert [json.loads(frame).get("channel") for frame in frames] == ["rs.sub.deal"] * subscriptions + [
        None
    ] * 3
    assert frames[subscriptions:] == MANY[:3]


def test_without_a_rate_frames_wait_for_the_client_and_none_is_lost():
    lines = [line + b" " * 2000 for line in MANY]  # 10 MB: more than the sockets hold
    with Simulator(frames=lines, keep_sent=True) as exchange, Client(exchange.url, "deal") as client:
        time.sleep(1)
        assert 0 < len(exchange.sent) < len(lines)
        assert [client.raw()[1] for _ in lines] == lines


def test_loop_begins_again():
    with Simulator(frames=MANY[:3], loop=True) as exchange, Client(exchange.url, "deal") as client:
        assert [client.raw()[1] for _ in range(8)] == MANY[:3] + MANY[:3] + MANY[:2]


def test_rate_is_kept_evenly():
    with Simulator(frames=MANY, rate=100) as exchange, Client(exchange.url, "deal") as client:
        client.raw()
        frames = client.all_for(1)
    assert frames == MANY[1 : len(frames) + 1]
    assert 40 <= len(frames) <= 115


def test_recorded_frames_wait_during_silence():
    with Simulator(frames=MANY, rate=200) as exchange, Client(exchange.url, "deal") as client:
        client.raw()
        with exchange.silence():
            before = client.all_for(0.2)
            assert client.silent()
        after = [client.raw()[1] for _ in range(20)]
    assert before + after == MANY[1 : len(before) + 21]


def test_recorded_frames_can_be_doubled_and_swapped():
    faults = Faults(duplicate_every_s=0.3, out_of_order_every_s=0.45)
    with Simulator(frames=MANY, rate=100, faults=faults) as exchange, Client(exchange.url, "deal") as client:
        numbers = [json.loads(client.raw()[1])["number"] for _ in range(100)]
    assert len(set(numbers)) < len(numbers)
    assert numbers != sorted(numbers)
    assert set(range(max(numbers) - 1)) <= set(numbers)
