"""Debian's proxies between us and the exchange; each is skipped where it is not installed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mexcflow.errors import ConnectionLost, ProxyRefused
from mexcflow.pipeline.connect import open_line
from mexcflow.pipeline.rest import fetch
from tests.proxy import Authority
from tests.real_proxies import KINDS, RealProxy, program, running
from tests.test_proxies import NOWHERE, behind_tls, read, subscribe


@pytest.fixture(scope="module", params=KINDS)
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealProxy]:
    if program(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    with running(request.param, tmp_path_factory.mktemp("proxy")) as proxy:
        yield proxy


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_it_carries_the_stream_and_rest(exchange, real, tls, tmp_path, monkeypatch):
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with behind_tls(exchange, authority, wanted=tls) as url:
        line = open_line(url, real.url())
        subscribe(line)
        sent = [os.urandom(size) for size in (1, 200, 70_000, 5)]
        for one in sent:
            exchange.send_binary(one)
        assert read(line, len(sent)) == sent
        line.shutdown()
        ping = url.replace("ws", "http", 1).replace("/edge", "/api/v1/contract/ping")
        assert fetch(ping, proxy=real.url()).body.startswith(b'{"success":true')


def test_a_wrong_password_is_told_as_one(exchange, real):
    if not real.password:
        pytest.skip("it asks for none")
    with pytest.raises(ProxyRefused, match=rf"127\.0\.0\.1:{real.port}: ") as refused:
        open_line(exchange.url, real.url("wrong"))
    assert "wrong" not in str(refused.value)
    assert exchange.callers == []


@pytest.mark.parametrize("url", [NOWHERE, "ws://nope.invalid/edge"], ids=["refused", "unknown name"])
def test_an_exchange_that_is_not_there_is_no_fault_of_the_proxy(real, url):
    with pytest.raises(ConnectionLost):
        open_line(url, real.url())


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_that_is_killed_and_comes_back(exchange, kind, tmp_path: Path):
    if program(kind) is None:
        pytest.skip(f"{kind} is not installed")
    with running(kind, tmp_path) as proxy:
        line = open_line(exchange.url, proxy.url())
        subscribe(line)
        proxy.kill()
        with pytest.raises(ConnectionLost):
            read(line, 1)
        line.shutdown()
        with pytest.raises(ProxyRefused, match="refused"):
            open_line(exchange.url, proxy.url())
        proxy.start()
        open_line(exchange.url, proxy.url()).shutdown()
