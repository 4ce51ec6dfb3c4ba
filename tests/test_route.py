"""Receiving through a pool of proxies: which is taken when, how long the waits are, what is logged."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mexcflow.clock import SystemClock
from mexcflow.errors import Banned, BannedByProxy, ConnectionLost, ProxyRefused
from mexcflow.pipeline.connect import Line, open_line
from mexcflow.pipeline.feed import string_sessions
from mexcflow.pipeline.pool import Next
from mexcflow.pipeline.receive import Receiver
from mexcflow.pipeline.route import Route
from tests.conftest import wait_for
from tests.proxy import Proxy
from tests.test_receive import DEAL, Kept, Metrics, QuickMexc, subscribed

A, B, C = "http://me:secret@a:1", "socks5://me:secret@b:2", "https://c:3"


class Quick(SystemClock):
    """A clock that can be set forward, and that notes long waits and cuts them short."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return SystemClock.monotonic() + self.ahead_s

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        if seconds > 60:
            self.ahead_s += seconds
        return event.wait(0.05)


class Lines:
    """What each proxy does when its turn comes: an error is raised, anything else is returned."""

    def __init__(self, **answers: object) -> None:
        self.answers = answers
        self.tried = ""

    def __call__(self, proxy: str) -> Line:
        name = {A: "a", B: "b", C: "c", "": "direct"}[proxy]
        self.tried += name
        answer = self.answers[name]
        if isinstance(answer, Exception):
            raise answer
        return answer


def drive(route: Route, times: int) -> list[Next]:
    """Open until it works or `times` attempts have failed; return what came of each failure."""
    found = []
    for _ in range(times):
        try:
            route.open()
        except (ConnectionLost, ProxyRefused) as lost:
            found.append(route.failed(lost))
        else:
            return found
    return found


def refused(name: str) -> ProxyRefused:
    return ProxyRefused(f"proxy {name}: refused", hint="Is it running?")


def test_a_refused_first_connection_is_no_misuse_as_long_as_another_one_works():
    lines = Lines(a=refused("a"), b=refused("b"), c="a line")
    assert drive(Route(lines, (A, B, C), clock=Quick()), 5) == [Next(at_once=True)] * 2
    assert lines.tried == "abc"


def test_when_every_proxy_refuses_the_first_connection_all_are_named():
    lines = Lines(a=refused("a"), b=BannedByProxy("proxy b: HTTP 403"), c=refused("c"))
    with pytest.raises(ProxyRefused) as raised:
        drive(Route(lines, (A, B, C), clock=Quick()), 5)
    assert raised.value.what == (
        "none of the 3 proxies lets us in: proxy a: refused; proxy b: HTTP 403; proxy c: refused"
    )
    assert raised.value.hint
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("other", [ConnectionLost("the exchange is down"), Banned("HTTP 429")])
def test_a_proxy_that_lets_us_in_without_reaching_the_exchange_is_no_refusal(other):
    lines = Lines(a=refused("a"), b=other, c=refused("c"))
    drive(Route(lines, (A, B, C), clock=Quick()), 12)
    assert len(lines.tried) == 12


def test_once_a_line_stood_refusals_are_never_for_good():
    lines = Lines(a="a line", b=refused("b"), c=refused("c"))
    route = Route(lines, (A, B, C), clock=Quick())
    route.open()
    lines.answers["a"] = refused("a")
    found = drive(route, 6)
    assert [one.at_once for one in found] == [True, True, False] * 2
    assert lines.tried == "a" + "abc" * 2


@pytest.mark.parametrize("ban", [Banned("HTTP 429"), BannedByProxy("HTTP 403")])
def test_a_banned_proxy_is_not_asked_again_before_its_pause_is_over(ban):
    clock = Quick()
    lines = Lines(a="a line", b=refused("b"), c=refused("c"))
    route = Route(lines, (A, B, C), clock=clock)
    route.open()
    lines.answers["a"] = ban
    drive(route, 7)
    assert lines.tried == "aa" + "bc" * 3
    clock.ahead_s = 601
    drive(route, 3)
    assert lines.tried.count("a") == 3


def test_what_a_ban_asks_for_is_honoured():
    clock = Quick()
    route = Route(Lines(direct=Banned("HTTP 418", retry_after_s=7000)), clock=clock)
    (following,) = drive(route, 1)
    assert following.pause_s == pytest.approx(7000, abs=1)


def test_a_line_without_data_leads_to_the_next_proxy_after_the_ordinary_wait_and_one_with_data_does_not():
    lines = Lines(a="a line", b="a line")
    route = Route(lines, (A, B), clock=Quick())
    route.open()
    assert route.failed(ConnectionLost("lost"), lived_s=100) == Next(at_once=False)
    route.open()
    assert route.failed(ConnectionLost("silence")) == Next(at_once=False)
    route.open()
    assert lines.tried == "aab"
    assert route.in_use == "socks5://b:2"


def test_the_log_names_each_proxy_without_its_password(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("mexcflow"), "propagate", True)
    caplog.set_level(logging.INFO, "mexcflow")
    route = Route(Lines(a=Banned("HTTP 403"), b=Banned("HTTP 403")), (A, B), clock=Quick())
    drive(route, 2)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "connecting through proxy http://a:1 (1 of 2)",
        "proxy http://a:1 (1 of 2) is banned: paused for 600 s",
        "connecting through proxy socks5://b:2 (2 of 2)",
        "proxy socks5://b:2 (2 of 2) is banned: paused for 600 s",
        "every proxy is paused; the first is free in 600 s",
    ]


@contextmanager
def receiving(exchange, proxies: list[str]) -> Iterator[tuple[Receiver, Kept, Quick, list[Exception]]]:
    """A receiver over real sockets, with a clock that runs ahead through pauses."""
    clock, journal, errors = Quick(), Kept(), []
    route = Route(lambda proxy: open_line(exchange.url, proxy, timeout_s=1), proxies, clock=clock)
    one = Receiver(
        string_sessions(QuickMexc("BTC_USDT", ("ticker", "deal", "depth"))),
        route,
        journal,
        Metrics("BTC_USDT", "btc", ("ticker", "deal", "depth"), now=0.0),
        ping_interval_s=15,
        clock=clock,
    )

    def run() -> None:
        try:
            one.run()
        except ProxyRefused as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield one, journal, clock, errors
    finally:
        one.stop()
        thread.join(5)
    assert not thread.is_alive()


def test_a_banned_address_keeps_away_far_longer_than_from_a_lost_line(exchange):
    with exchange.banned(429, 1000), receiving(exchange, []) as (one, _, clock, _):
        wait_for(lambda: len(clock.waits) >= 3)
        assert clock.waits[0] >= 1000
        assert clock.waits[1] >= 1200
        assert clock.waits[2] >= 2400
        assert one.proxy_in_use == ""
        assert len(exchange.callers) <= len(clock.waits) + 1


def test_when_every_proxy_is_banned_it_waits_and_never_connects_directly(exchange):
    with Proxy("http") as first, Proxy("socks5") as second:
        with exchange.banned(), receiving(exchange, [first.url, second.url]) as (one, _, clock, _):
            wait_for(lambda: len(clock.waits) >= 2)
            assert min(clock.waits[:2]) >= 599
            assert one.proxy_in_use in (first.url, second.url)
        assert len(first.callers) >= 2
        assert set(exchange.callers) == {*first.callers, *second.callers}


def test_a_proxy_that_stalls_behind_the_handshake_is_left_for_the_next(exchange):
    with Proxy("http") as deaf, Proxy("socks5h") as good, receiving(exchange, [deaf.url, good.url]) as run:
        one, journal, _, _ = run
        subscribed(exchange)  # no data comes: that is silence
        wait_for(lambda: one.proxy_in_use == good.url)
        subscribed(exchange, 2)
        exchange.send(DEAL)
        wait_for(lambda: DEAL in [frame.payload for frame in journal.frames])
        assert [said["reason"] for kind, _, said in journal.events if kind == "disconnected"] == [
            "no market data for 1.5 s"
        ]


def test_a_proxy_that_cuts_every_line_after_a_few_bytes_is_left_for_the_next(exchange):
    with Proxy("http") as stingy, Proxy("socks5") as good, stingy.cutting_after(600):
        with receiving(exchange, [stingy.url, good.url]) as (one, _, _, _):
            times = 0
            while one.proxy_in_use != good.url:
                times += 1
                assert times < 200
                exchange.send(DEAL)
                threading.Event().wait(0.05)
        assert 1 <= len(stingy.callers) <= 3
