"""Receive: subscribing, heartbeats, silence and reconnecting, against the simulated exchange."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from mexcflow.errors import ConnectionLost, ProxyRefused, UnknownContract
from mexcflow.exchanges.mexc import Mexc
from mexcflow.metrics import Backlog, Metrics
from mexcflow.model import Frame
from mexcflow.pipeline import receive, session
from mexcflow.pipeline.connect import Line, open_line
from mexcflow.pipeline.feed import string_sessions
from mexcflow.pipeline.receive import Backoff, Receiver
from mexcflow.pipeline.route import Route
from mexcflow.simulator import Simulator
from tests.conftest import wait_for

DEAL = b'{"symbol":"BTC_USDT","data":[{"p":1,"v":1,"T":1,"t":1790000000000}],"channel":"push.deal","ts":1}'


class QuickMexc(Mexc):
    """The exchange with limits that a test can wait for."""

    silence_s = 1.5
    ack_timeout_s = 1.0


class Kept:
    """A journal for the receive thread alone: a list."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.events: list[tuple[str, int, dict[str, object]]] = []

    def append(self, received_ns: int, payloads: list[bytes]) -> None:
        self.frames += [Frame(received_ns, payload) for payload in payloads]

    def connected(self, at_ns: int, **said: object) -> None:
        self.events.append(("connected", at_ns, said))

    def disconnected(self, at_ns: int, **said: object) -> None:
        self.events.append(("disconnected", at_ns, said))


class Receiving:
    """A receiver in a thread, and what came of it."""

    def __init__(
        self,
        symbol: str,
        connect: Callable[[], Line],
        ping_interval_s: float,
        proxies: tuple[str, ...] = (),
    ) -> None:
        self.journal = Kept()
        self.metrics = Metrics(symbol, "btc", ("ticker", "deal", "depth"), now=0.0)
        self.error: Exception | None = None
        self.receiver = Receiver(
            string_sessions(QuickMexc(symbol, ("ticker", "deal", "depth"))),
            Route(lambda proxy: connect(), proxies),
            self.journal,
            self.metrics,
            ping_interval_s=ping_interval_s,
        )
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.receiver.run()
        except Exception as error:
            self.error = error

    @property
    def frames(self) -> list[Frame]:
        """Everything received so far."""
        return list(self.journal.frames)

    @property
    def payloads(self) -> list[bytes]:
        return [frame.payload for frame in self.frames]

    @property
    def reason(self) -> str:
        return self.snapshot.last_reason

    @property
    def snapshot(self):
        return self.metrics.snapshot(now=1.0, backlog=Backlog(), close=False)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(receive, "Backoff", lambda: Backoff(first_s=0.1, ceiling_s=0.2))


@contextmanager
def receiving(
    exchange: Simulator, *, symbol: str = "BTC_USDT", ping_interval_s: float = 15.0
) -> Iterator[Receiving]:
    one = Receiving(symbol, lambda: open_line(exchange.url), ping_interval_s)
    try:
        yield one
    finally:
        one.receiver.stop()
        one.thread.join(5)
    assert not one.thread.is_alive()


def subscribed(exchange: Simulator, times: int = 1) -> None:
    wait_for(lambda: len(exchange.received) >= 3 * times, what="subscriptions")


def test_it_subscribes_with_one_frame_a_channel_and_keeps_every_message(exchange):
    with receiving(exchange) as one:
        subscribed(exchange)
        wait_for(lambda: len(one.frames) == 3)
        for payload in (DEAL, b"garbage", b'{"channel":"pong"}', DEAL):
            exchange.send(payload)
        exchange.send_binary(b"\x00\x01")
        wait_for(lambda: len(one.frames) == 8)
    methods = [json.loads(request)["method"] for request in exchange.received]
    assert methods == ["sub.ticker", "sub.deal", "sub.depth.full"]
    assert one.frames[0].received_ns <= one.frames[-1].received_ns
    acks = [b'"rs.sub.ticker"', b'"rs.sub.deal"', b'"rs.sub.depth.full"']
    assert all(ack in payload for ack, payload in zip(acks, one.payloads, strict=False))
    assert one.payloads[3:] == [DEAL, b"garbage", b'{"channel":"pong"}', DEAL, b"\x00\x01"]


def test_the_receive_time_is_the_wall_clock_of_the_read(exchange):
    with receiving(exchange) as one:
        subscribed(exchange)
        before = time.time_ns()
        exchange.send(DEAL)
        wait_for(lambda: len(one.frames) == 4)
        after = time.time_ns()
    assert before <= one.frames[3].received_ns <= after


def test_it_pings_in_the_exchanges_own_way(exchange):
    with receiving(exchange, ping_interval_s=0.2) as one:
        wait_for(lambda: exchange.received.count(b'{"method":"ping"}') >= 3)
        wait_for(lambda: sum(b'"pong"' in payload for payload in one.payloads) >= 2)


def test_missing_acknowledgements_are_named_and_it_connects_again(exchange):
    with exchange.no_acks(), receiving(exchange) as one:
        subscribed(exchange)
        wait_for(lambda: "not acknowledged" in one.reason)
        assert "sub.ticker" in one.reason
        assert "sub.deal" in one.reason
        assert "sub.depth.full" in one.reason
        subscribed(exchange, times=2)
    assert one.snapshot.total.errors >= 1


def test_an_acknowledgement_that_came_is_not_named_among_the_missing(exchange):
    with exchange.no_acks(), receiving(exchange) as one:
        subscribed(exchange)
        exchange.send(b'{"channel":"rs.sub.deal","data":"success","ts":1790000000000}')
        wait_for(lambda: "not acknowledged" in one.reason)
        assert '"sub.deal"' not in one.reason
        assert '"sub.ticker"' in one.reason


def test_silence_ends_a_connection_although_pongs_go_on(exchange):
    with receiving(exchange, ping_interval_s=0.2) as one:
        wait_for(lambda: one.reason == "no market data for 1.5 s")
        assert any(b'"pong"' in payload for payload in one.payloads)


def test_market_data_keeps_a_connection(exchange):
    with receiving(exchange) as one:
        subscribed(exchange)
        for _ in range(8):
            exchange.send(DEAL)
            time.sleep(0.3)
        assert one.reason == ""
        assert exchange.connections == 1


def test_gzipped_market_data_keeps_a_connection(exchange):
    import gzip

    with receiving(exchange) as one:
        subscribed(exchange)
        for _ in range(8):
            exchange.send_binary(gzip.compress(DEAL))
            time.sleep(0.3)
        assert one.reason == ""


def test_a_cut_line_is_made_again_and_the_stream_goes_on(exchange):
    with receiving(exchange) as one:
        for times in (1, 2, 3):
            subscribed(exchange, times)
            exchange.send(DEAL)
            wait_for(lambda times=times: one.payloads.count(DEAL) == times)
            exchange.drop()
        subscribed(exchange, 4)
        assert "connection lost" in one.reason
        assert one.snapshot.total.reconnects == 3


def test_the_exchanges_own_reason_is_the_reason(exchange):
    said = b'{"channel":"rs.error","data":"more than 60 seconds no response, close the channel","ts":1}'
    with receiving(exchange) as one:
        subscribed(exchange)
        exchange.send(said)
        wait_for(lambda: said in one.payloads)
        exchange.drop()
        subscribed(exchange, 2)
        assert one.reason == "closed by the exchange: more than 60 seconds no response, close the channel"


def test_data_between_the_exchanges_reason_and_the_cut_does_not_hide_it(exchange):
    with receiving(exchange) as one:
        subscribed(exchange)
        exchange.send(DEAL)
        exchange.send(b'{"channel":"rs.error","data":"more than 60 seconds no response","ts":1}')
        exchange.send(DEAL)
        wait_for(lambda: one.payloads.count(DEAL) == 2)
        exchange.drop()
        subscribed(exchange, 2)
        assert one.reason == "closed by the exchange: more than 60 seconds no response"


def test_an_old_reason_is_not_given_for_a_new_loss(exchange, monkeypatch):
    monkeypatch.setattr(session, "_REASON_S", 0.2)
    with receiving(exchange) as one:
        subscribed(exchange)
        exchange.send(b'{"channel":"rs.error","data":"trouble","ts":1}')
        time.sleep(0.4)
        exchange.drop()
        subscribed(exchange, 2)
        assert one.reason == "connection lost: closed without a close frame"


def test_a_connection_that_is_given_up_is_closed(exchange):
    lines: list[Line] = []

    def connect() -> Line:
        lines.append(open_line(exchange.url))
        return lines[-1]

    one = Receiving("BTC_USDT", connect, 15.0)
    subscribed(exchange, 2)
    one.receiver.stop()
    one.thread.join(5)
    assert one.reason == "no market data for 1.5 s"
    assert [line.sock for line in lines] == [None, None]


def test_a_refused_connection_is_tried_until_it_stands(exchange):
    with exchange.refuse():
        one = Receiving("BTC_USDT", lambda: open_line(exchange.url), 15.0)
        wait_for(lambda: one.receiver._backoff.attempt >= 3)
        assert "Connection refused" in one.reason
        assert one.snapshot.total.reconnects == 0
    subscribed(exchange)
    one.receiver.stop()
    one.thread.join(5)
    assert one.error is None


def test_an_unknown_contract_stops_with_its_name(exchange):
    with receiving(exchange, symbol="NOPE_USDT") as one:
        one.thread.join(5)
        assert isinstance(one.error, UnknownContract)
        assert one.error.exit_code == 2
        assert "NOPE_USDT" in str(one.error)
    assert exchange.connections == 1


def test_an_unknown_contract_of_somebody_else_does_not_stop_us(exchange):
    with exchange.no_acks(), receiving(exchange) as one:
        subscribed(exchange)
        exchange.send(b'{"channel":"rs.error","data":"Contract [NOPE_USDT] not exists","ts":1}')
        exchange.send(DEAL)
        wait_for(lambda: DEAL in one.payloads)
        assert one.error is None


def test_an_error_about_our_contract_after_the_acknowledgements_does_not_stop_us(exchange):
    with receiving(exchange) as one:
        subscribed(exchange)
        wait_for(lambda: len(one.frames) == 3)
        exchange.send(b'{"channel":"rs.error","data":"Contract [BTC_USDT] not exists","ts":1}')
        exchange.send(DEAL)
        wait_for(lambda: DEAL in one.payloads)
        assert one.error is None


def test_a_proxy_that_refuses_at_first_stops_and_later_does_not(exchange):
    calls: Counter[str] = Counter()

    def connect() -> Line:
        calls["all"] += 1
        if calls["all"] == 2:
            raise ProxyRefused("proxy 127.0.0.1:1: refused")
        return open_line(exchange.url)

    proxies = ("socks5://127.0.0.1:1",)
    one = Receiving("BTC_USDT", connect, 15.0, proxies)
    subscribed(exchange)
    exchange.drop()
    subscribed(exchange, 2)
    one.receiver.stop()
    one.thread.join(5)
    assert one.error is None

    calls["all"] = 1
    other = Receiving("BTC_USDT", connect, 15.0, proxies)
    other.thread.join(5)
    assert isinstance(other.error, ProxyRefused)


def test_stopping_is_quick_while_it_waits_between_attempts(monkeypatch):
    monkeypatch.setattr(receive, "Backoff", lambda: Backoff(first_s=60, ceiling_s=60))

    def connect() -> Line:
        raise ConnectionLost("refused")

    one = Receiving("BTC_USDT", connect, 15.0)
    wait_for(lambda: one.reason == "refused")
    one.receiver.stop()
    one.thread.join(2)
    assert not one.thread.is_alive()


def test_stopping_is_quick_on_a_quiet_line(exchange):
    with receiving(exchange) as one:
        subscribed(exchange)
        started = time.monotonic()
        one.receiver.stop()
        one.thread.join(2)
        assert time.monotonic() - started < 2


class TestBackoff:
    """Full jitter under a ceiling that doubles from 1 s to 60 s and stays there."""

    def test_every_wait_stays_under_its_ceiling_and_uses_all_of_it(self):
        waits = []
        for _ in range(400):
            backoff = Backoff()
            waits.append([backoff.next_s() for _ in range(12)])
        for attempt, column in enumerate(zip(*waits, strict=True)):
            ceiling = min(60.0, 2.0**attempt)
            assert min(column) > 0
            assert max(column) <= ceiling
            assert max(column) > 0.9 * ceiling
            assert min(column) < 0.2 * ceiling

    def test_it_goes_on_without_limit(self):
        backoff = Backoff()
        assert all(backoff.next_s() <= 60 for _ in range(5000))

    def test_only_market_data_resets_it(self, monkeypatch, exchange):
        made: list[Backoff] = []

        def make() -> Backoff:
            made.append(Backoff(first_s=0.1, ceiling_s=0.2))
            return made[-1]

        monkeypatch.setattr(receive, "Backoff", make)
        with receiving(exchange, ping_interval_s=0.1) as one:
            subscribed(exchange)
            exchange.drop()
            subscribed(exchange, 2)  # acknowledgements, and then pongs
            wait_for(lambda: exchange.received.count(b'{"method":"ping"}') >= 2)
            exchange.send(b'{"channel":"push.deal","symbol":"BTC_USDT","data":"garbage"}')
            exchange.send(DEAL.replace(b"BTC_USDT", b"ETH_USDT"))
            wait_for(lambda: len([p for p in one.payloads if b"ETH_USDT" in p]) == 1)
            assert made[0].attempt == 1
            exchange.send(DEAL)
            wait_for(lambda: made[0].attempt == 0)


def test_the_journal_is_told_of_each_connection_its_end_and_the_reason(exchange):
    with receiving(exchange) as one:
        wait_for(lambda: len(one.frames) == 3)
        exchange.drop()
        wait_for(lambda: len(one.frames) == 6)
    events = one.journal.events
    assert [kind for kind, _, _ in events] == ["connected", "disconnected"] * 2
    assert events[0][2] == {"channels": ("ticker", "deal", "depth"), "url": exchange.url}
    assert "connection lost" in events[1][2]["reason"]
    assert events[3][2]["reason"] == "stopped"
    times = [at_ns for _, at_ns, _ in events]
    assert times == sorted(times)
    assert [said["since_ns"] for kind, _, said in events if kind == "disconnected"] == times[1::2]


def test_after_silence_the_outage_began_with_the_last_market_data(exchange):
    with receiving(exchange) as one:
        wait_for(lambda: len(one.frames) == 3)
        exchange.send(DEAL)
        wait_for(lambda: len(one.journal.events) >= 2)
    _, at_ns, said = one.journal.events[1]
    assert "no market data" in said["reason"]
    assert said["since_ns"] == one.frames[3].received_ns
    assert at_ns - said["since_ns"] >= QuickMexc.silence_s * 1e9
