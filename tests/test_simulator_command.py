"""`mexcflow simulate` as a process: what it prints, how it ends, how it refuses."""

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import websocket

from mexcflow.simulator import Simulator
from tests.simulated import Socket
from tests.test_simulator_protocol import Client

COMMAND = [sys.executable, "-m", "mexcflow", "simulate"]


@contextmanager
def simulate(*options: str):
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_stops_at_once_with_0(sign):
    with simulate() as process:
        line = process.stdout.readline()
        assert line.startswith("listening on ws://127.0.0.1:")
        with Client(line.split()[-1], "deal") as client:
            assert client.next("push.deal")["symbol"] == "BTC_USDT"
            start = time.monotonic()
            process.send_signal(sign)
            out, err = process.communicate(timeout=30)
        assert time.monotonic() - start < 1
    assert process.returncode == 0
    assert out == ""
    assert "connected" in err
    assert "Traceback" not in err


def test_json_duration_symbols_and_speed():
    with simulate("--json", "--duration", "1", "--symbols", "A_USDT,B_USDT", "--speed", "20") as process:
        url = json.loads(process.stdout.readline())["listening"]
        with Client(url, "deal", symbol="B_USDT") as client:
            assert client.next("push.deal")["symbol"] == "B_USDT"
        process.communicate(timeout=10)
    assert process.returncode == 0


def test_another_exchange_listens_at_an_address_without_a_path():
    options = ["--exchange", "bybit", "--symbols", "X1USDT", "--lifetime", "1", "--clock-ahead", "3600"]
    with simulate("--json", *options) as process:
        address = json.loads(process.stdout.readline())["listening"]
        with Socket(f"{address}/v5/public/linear") as client:
            client.ask({"op": "subscribe", "args": ["publicTrade.X1USDT"]})
            assert client.next()["success"] is True
            assert client.next()["ts"] - time.time() * 1000 > 3_500_000
            opcode, reason = client.until_cut()[-1]
    assert (opcode, reason[:2]) == (websocket.ABNF.OPCODE_CLOSE, (1001).to_bytes(2, "big"))


def test_a_ban_is_passed_on():
    with (
        simulate("--http-status", "429", "--retry-after", "30") as process,
        pytest.raises(websocket.WebSocketBadStatusException) as refusal,
    ):
        Client(process.stdout.readline().split()[-1], "deal")
    assert refusal.value.status_code == 429
    assert refusal.value.resp_headers["retry-after"] == "30"


def test_faults_and_frames_are_passed_on(tmp_path):
    file = tmp_path / "frames.jsonl"
    file.write_text('{"channel":"one"}\n{"channel":"two"}\n')
    options = ["--frames", str(file), "--loop", "--rate", "50", "--drop-every", "1", "--no-pongs"]
    with simulate(*options) as process, Client(process.stdout.readline().split()[-1], "deal") as client:
        client.ask("ping")
        frames = [json.loads(payload)["channel"] for _, payload in client.until_cut()]
    assert frames[:4] == ["one", "two", "one", "two"]
    assert "pong" not in frames


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--drop-every", "0"], "drop every: 0 is not possible"),
        (["--speed", "-2"], "speed: -2 is not possible"),
        (["--duration", "nan"], "duration: nan is not possible"),
        (["--refuse-for", "5"], "go together"),
        (["--lifetime", "0"], "lifetime: 0 is not possible"),
        (["--lose-every", "-1"], "lose every: -1 is not possible"),
        (["--exchange", "nope"], "there is no simulator of 'nope'. Known: mexc, "),
        (["--loop"], "Give the frames, too"),
        (["--frames", "/nowhere/frames.jsonl"], "/nowhere/frames.jsonl: cannot be read"),
        (["--symbols", "A USDT"], "'A USDT' is not a symbol"),
        (["--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid"),
        (["--log-level", "loud"], "--log-level: 'loud' is not a level"),
    ],
)
def test_misuse_is_one_line_and_exit_2(options, words):
    done = subprocess.run([*COMMAND, "--port", "0", *options], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert done.stdout == ""
    assert words in done.stderr
    assert done.stderr.startswith("mexcflow: ")
    assert len(done.stderr.splitlines()) == 1


def test_port_in_use_says_what_to_do():
    with Simulator(generate=False) as exchange:
        port = exchange.url.split(":")[2].split("/")[0]
        done = subprocess.run([*COMMAND, "--port", port], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert f"port {port}: address already in use. Give another --port" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_help_shows_the_groups_and_examples():
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0
    for words in ("Recorded frames", "Faults", "--half-frame-every", "Examples:"):
        assert words in done.stdout
