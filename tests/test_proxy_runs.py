"""The real command through proxies: every kind, a pool at work, and never past it."""

import gc
import signal
import sys

import pytest

from mexcflow.config import Instance
from mexcflow.pipeline.record import Recorder, Settings
from tests.conftest import mexcflow, wait_for
from tests.proxy import Authority, Proxy
from tests.real_proxies import program, running
from tests.recording import deals, good
from tests.test_record import record, stored
from tests.test_record_journal import coverage, outages

DEAD = "http://me:secret@127.0.0.1:1"


def subscribed(exchange, times: int = 1) -> None:
    wait_for(lambda: len(exchange.received) >= 3 * times, what="subscriptions")


@pytest.mark.parametrize("kind", ["https", "socks5h", "tinyproxy", "microsocks"])
def test_a_run_through_each_kind_of_proxy_stores_what_was_sent(exchange, start, tmp_path, kind, monkeypatch):
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    if "proxy" in kind or "micro" in kind:
        if program(kind) is None:
            pytest.skip(f"{kind} is not installed")
        context = running(kind, tmp_path)
    else:
        tls = authority.context if kind == "https" else None
        context = Proxy(kind, user="m@e", password="p%ss:/wörd", tls=tls)
    with context as proxy:
        url = proxy.url if isinstance(proxy, Proxy) else proxy.url()
        run = record(start, exchange, "--proxy", url)
        subscribed(exchange)
        for frame in deals(100):
            exchange.send(frame)
        wait_for(lambda: '"rows":100' in run.out)
        assert run.stop() == 0
        if isinstance(proxy, Proxy):
            assert sorted(exchange.callers) == sorted(proxy.callers)
    assert stored(tmp_path / "data") == good(100)
    assert len(exchange.callers) == 2  # the websocket, and the list of contracts
    assert "p%ss" not in run.err + run.out
    assert "p%25ss" not in run.err + run.out


def test_a_pool_goes_on_past_a_dead_proxy_and_one_that_is_banned_in_the_middle(exchange, start, tmp_path):
    with (
        Proxy("http", user="me", password="secret") as banned,
        Proxy("socks5h", user="me", password="secret") as last,
    ):
        (tmp_path / "instances").mkdir()
        (tmp_path / "instances/btc.toml").write_text(
            f'symbol = "BTC_USDT"\nproxies = ["{DEAD}", "{banned.url}", "{last.url}"]\n'
        )
        run = record(start, exchange)
        subscribed(exchange)
        for frame in deals(50):
            exchange.send(frame)
        wait_for(lambda: '"rows":50' in run.out)
        wait_for(lambda: len(banned.callers) == 2)  # the websocket, and the list of contracts
        with banned.answering(429, Retry_After="3000"):
            banned.drop()
            subscribed(exchange, 2)
            for frame in deals(50, 100):
                exchange.send(frame)
            wait_for(lambda: '"rows":100' in run.out)
        last.drop()  # the banned one would let us through again, and is not asked
        subscribed(exchange, 3)
        for frame in deals(100, 120):
            exchange.send(frame)
        wait_for(lambda: '"rows":120' in run.out)
        assert run.stop() == 0
        assert (len(banned.callers), len(last.callers), banned.refused) == (2, 2, 1)
        assert sorted(exchange.callers) == sorted(banned.callers + last.callers)
    assert stored(tmp_path / "data") == good(120)
    lost = outages(coverage(tmp_path))
    reason = "connection lost: closed without a close frame"
    assert {one.reason for one in lost} == {reason, "stopped"}
    assert [one.reason for one in lost if one.channel == lost[0].channel] == [reason, reason, "stopped"]
    said = [line.partition('"message":')[2] for line in run.err.splitlines()]
    shown = [f"http://127.0.0.1:{banned.port} (2 of 3)", f"socks5h://127.0.0.1:{last.port} (3 of 3)"]
    assert any(f"connecting through proxy {shown[0]}" in line for line in said)
    assert any(f"proxy {shown[0]} is banned: paused for 3000 s" in line for line in said)
    assert any(f"connecting through proxy {shown[1]}" in line for line in said)
    assert "secret" not in run.err + run.out


def test_when_all_are_banned_it_says_how_long_it_waits_and_still_stops_at_once(exchange, start, tmp_path):
    with Proxy("http") as first, Proxy("socks5") as second, exchange.banned(403):
        run = record(start, exchange, "--proxy", first.url, "--proxy", second.url)
        wait_for(lambda: "every proxy is paused; the first is free in 600 s" in run.err)
        assert run.stop(signal.SIGTERM) == 0
        assert sorted(exchange.callers) == sorted(first.callers + second.callers)
        assert len(exchange.callers) == 4  # each for the websocket and for the list of contracts
    assert "connected" not in run.err


def test_when_no_proxy_lets_us_in_the_command_ends_with_2_and_names_all(exchange, tmp_path):
    with Proxy("http", user="me", password="secret") as strict:
        wrong = strict.url.replace("secret", "hidden")
        done = mexcflow(
            "run", "--symbol", "BTC_USDT", "--endpoint", exchange.url, "--proxy", DEAD, "--proxy", wrong,
            "--log-level", "error", cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("mexcflow: none of the 2 proxies lets us in: proxy http://127.0.0.1:1: Connection")
    assert f"proxy http://127.0.0.1:{strict.port}: HTTP 407" in line
    assert "secret" not in line
    assert "hidden" not in line
    assert exchange.callers == []


def test_a_recorder_says_which_proxy_it_uses_without_the_password(exchange, tmp_path):
    interval = sys.getswitchinterval()
    with Proxy("http", user="me", password="secret") as proxy:
        instance = Instance(symbol="BTC_USDT", endpoint=exchange.url, proxies=(DEAD, proxy.url)).checked()
        recorder = Recorder(Settings(instance=instance, database=str(tmp_path / "data"), duration_s=20))
        seen = [recorder.proxy_in_use]

        def look() -> None:
            seen.append(recorder.proxy_in_use)
            if exchange.received:
                recorder.stop()

        try:
            recorder.run(lambda snapshot: None, look)
        finally:
            sys.setswitchinterval(interval)
            gc.unfreeze()
    assert seen[0] == ""
    assert seen[-1] == f"http://127.0.0.1:{proxy.port}"
    assert set(seen) <= {"", "http://127.0.0.1:1", seen[-1]}
