"""What is polled over REST: when it is asked for, what is kept of the answers, and what goes wrong."""

import itertools
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from mexcflow.clock import SYSTEM_CLOCK
from mexcflow.errors import DiskFailed
from mexcflow.exchanges import TYPED, Poll, Polled
from mexcflow.journal import Journal, Stream
from mexcflow.journal import Kind as RecordKind
from mexcflow.model import Frame, Wanted
from mexcflow.pipeline import poll
from mexcflow.pipeline.assemble import Assembler
from mexcflow.pipeline.blocks import Blocks
from mexcflow.pipeline.plan import plan
from mexcflow.pipeline.poll import Poller
from mexcflow.pipeline.typed_decode import decode_typed
from mexcflow.pipeline.typed_witness import TypedWitness
from mexcflow.simulator import Simulator
from mexcflow.store import open_store
from mexcflow.store.market import TICKERS
from tests.conftest import wait_for
from tests.journals import UnsyncedFiles, drain, positions, settings
from tests.proxy import Proxy
from tests.test_record import assert_adds_up, statistics
from tests.typed_wire import coverage

NOW_NS = 1_790_000_000_000_000_000
CHANNELS = ("trade", "book", "ticker", "candle")
SYMBOLS = ("BTCUSDT", "ETHUSDT")
BINANCE = TYPED["binance"](Wanted(symbols=SYMBOLS, channels=CHANNELS))


def body(symbol: str, amount: str = "84017.255", time_ms: int = 1_790_000_004_321) -> bytes:
    return b'{"symbol":"%b","openInterest":"%b","time":%d}' % (symbol.encode(), amount.encode(), time_ms)


Answer = tuple[int, bytes, dict[str, str]]
"""HTTP status, body, headers."""


class Skipping:
    """A clock on which every wait is over at once: the time passes, the test does not wait."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def time_ns(self) -> int:
        return NOW_NS + round(self.seconds * 1e9)

    def monotonic(self) -> float:
        return self.seconds

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.seconds += seconds
        return event.wait(0.002)


class Exchange:
    """A REST server: `answer` is given a symbol; `asked` has the time and the symbol of each request."""

    def __init__(self) -> None:
        self.clock = Skipping()
        self.asked: list[tuple[float, str]] = []
        self.answer: Callable[[str], Answer] = lambda symbol: (
            200,
            body(symbol),
            {},
        )

    def symbols(self) -> list[str]:
        return [symbol for _, symbol in self.asked]


@pytest.fixture
def rest() -> Iterator[Exchange]:
    exchange = Exchange()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            symbol = parse_qs(urlsplit(self.path).query)["symbol"][0]
            exchange.asked.append((exchange.clock.seconds, symbol))
            status, content, headers = exchange.answer(symbol)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):  # who asked did not wait
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        exchange.port = server.server_port
        exchange.where = f"http://127.0.0.1:{server.server_port}/openInterest"
        exchange.url = f"{exchange.where}?symbol="
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield exchange
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    one = Journal(
        tmp_path / "journal", Stream("binance", "BTCUSDT", "run1", "here"),
        settings=settings(fsync_s=float("inf")), files=UnsyncedFiles(),
    )  # fmt: skip
    one.connected(1, channels=("x",), url="ws://x")
    yield one
    one.close()


@contextmanager
def polling(rest: Exchange, journal: Journal, *symbols: str, clock=None, **more) -> Iterator[Poller]:
    """A poller that asks for these symbols every 10 s, in a thread."""
    polls = [Poll("market", symbol, rest.url + symbol, 10.0) for symbol in symbols or SYMBOLS]
    stands = more.pop("stands", lambda: True)
    poller = Poller(BINANCE, polls, journal, stands, clock=clock or rest.clock, **more)
    thread = threading.Thread(target=poller.run, daemon=True)
    thread.start()
    try:
        yield poller
    finally:
        poller.stop()
        thread.join(10)
        assert not thread.is_alive()


def kept(journal: Journal) -> list[bytes]:
    return list(drain(journal))


def warnings(caplog) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


# when it is asked, and what is kept


def test_each_symbol_is_asked_for_in_its_turn_and_the_answers_are_kept_as_they_came(rest, journal):
    rest.answer = lambda symbol: (200, b" " + body(symbol) + b"\n", {})
    with polling(rest, journal):
        wait_for(lambda: len(rest.asked) >= 5)
    assert rest.asked[:5] == [
        (0.0, "BTCUSDT"), (5.0, "ETHUSDT"), (10.0, "BTCUSDT"), (15.0, "ETHUSDT"), (20.0, "BTCUSDT"),
    ]  # fmt: skip
    records = [record for _, record in positions(journal.folder) if record.payload[:2] == b" {"]
    assert [(record.at_ns, record.payload) for record in records[:4]] == [
        (NOW_NS + at * 1_000_000_000, b" " + body(symbol) + b"\n")
        for at, symbol in ((0, "BTCUSDT"), (5, "ETHUSDT"), (10, "BTCUSDT"), (15, "ETHUSDT"))
    ]


def test_nothing_is_asked_without_a_connection_and_one_that_comes_back_brings_no_burst(rest, journal):
    up = threading.Event()
    symbols = [f"S{number}USDT" for number in range(20)]
    rest.answer = lambda symbol: (400, b"{}", {})
    with polling(rest, journal, *symbols, stands=up.is_set):
        wait_for(lambda: rest.clock.seconds > 50)
        assert rest.asked == []
        up.set()
        wait_for(lambda: len(rest.asked) >= 20)
    times = [at for at, _ in rest.asked[:20]]
    assert rest.symbols()[:20] == symbols
    assert [late - early for early, late in itertools.pairwise(times)] == pytest.approx([0.5] * 19)


def test_what_is_answered_when_the_connection_is_gone_is_not_kept(rest, journal):
    def answer(symbol: str):
        if len(rest.asked) == 2:
            journal.disconnected(2, reason="gone", since_ns=2)
        if len(rest.asked) == 4:
            journal.connected(3, channels=("x",), url="ws://x")
        return 200, body(symbol, str(len(rest.asked))), {}

    rest.answer = answer
    with polling(rest, journal):
        wait_for(lambda: len(rest.asked) >= 6)
    assert kept(journal)[:3] == [body("BTCUSDT", "1"), body("ETHUSDT", "4"), body("BTCUSDT", "5")]


def test_what_is_answered_after_the_end_is_not_kept(rest, journal):
    asked, go_on = threading.Event(), threading.Event()

    def answer(symbol: str):
        asked.set()
        go_on.wait(5)
        return 200, body(symbol), {}

    rest.answer = answer
    with polling(rest, journal) as poller:
        assert asked.wait(5)
        journal.append(7, [b"the receive thread does not wait for it"])
        poller.stop()
        go_on.set()
    assert kept(journal) == [b"the receive thread does not wait for it"]


# what goes wrong


def test_a_ban_is_kept_to_as_long_as_it_asks_and_told_once_and_its_end_too(rest, journal, caplog):
    caplog.set_level(logging.INFO)
    bans = [(429, {"Retry-After": "1200"}), (418, {})]
    rest.answer = lambda symbol: (
        (bans[len(rest.asked) - 1][0], b"no", bans[len(rest.asked) - 1][1])
        if len(rest.asked) <= 2
        else (200, body(symbol), {})
    )
    with polling(rest, journal):
        wait_for(lambda: len(rest.asked) >= 5)
    times = [at for at, _ in rest.asked]
    assert 1200 <= times[1] - times[0] < 1262
    assert 1200 <= times[2] - times[1] < 1262  # the second in a row: twice ten minutes
    assert times[3] - times[2] == 5
    assert rest.symbols()[:4] == ["BTCUSDT", "BTCUSDT", "BTCUSDT", "ETHUSDT"]
    told = warnings(caplog)
    assert [("429" in one, "418" in one) for one in told] == [(True, False), (False, True)]
    assert [one.getMessage() for one in caplog.records].count("polling: the exchange is reached again") == 1
    assert kept(journal)[:2] == [body("BTCUSDT"), body("ETHUSDT")]


@pytest.mark.parametrize("status", [500, 502, 503, 0], ids=["500", "502", "503", "no HTTP"])
def test_a_server_that_fails_again_and_again_is_told_once(rest, journal, caplog, status):
    caplog.set_level(logging.INFO)
    cut = {"Content-Length": "1000"}
    rest.answer = lambda symbol: (
        (status or 200, b"", {} if status else cut) if len(rest.asked) <= 6 else (200, body(symbol), {})
    )
    with polling(rest, journal):
        wait_for(lambda: len(rest.asked) >= 8)
    (told,) = warnings(caplog)
    assert told.startswith(f"polling: {rest.where}: ")
    times = [at for at, _ in rest.asked]
    assert all(0.1 <= late - early <= 60 for early, late in itertools.pairwise(times[:7]))
    assert rest.symbols()[:8] == ["BTCUSDT"] * 7 + ["ETHUSDT"]


def test_nobody_there_and_an_answer_that_does_not_come_end_nothing(rest, journal, caplog, monkeypatch):
    monkeypatch.setattr(poll, "_TIMEOUT_S", 0.1)
    over = threading.Event()
    rest.answer = lambda symbol: (over.wait(5), (200, body(symbol), {}))[1]
    with polling(rest, journal):
        wait_for(lambda: len(rest.asked) >= 3)
        over.set()
        wait_for(lambda: journal.backlog)
    assert [one.partition("; again")[0] for one in warnings(caplog)] == [
        f"polling: {rest.where}: no answer within 0.1 s"
    ]
    caplog.clear()
    rest.url = "http://127.0.0.1:1/openInterest?symbol="
    before = rest.clock.seconds
    with polling(rest, journal):
        wait_for(lambda: rest.clock.seconds > before + 100)
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize(
    ("status", "content", "why"),
    [
        (400, b'{"code":-1121,"msg":"Invalid symbol."}', 'HTTP 400: {"code":-1121'),
        (200, b'{"code":-1121,"msg":"Invalid symbol."}', "-1121: Invalid symbol."),
        (301, b"", "HTTP 301"),
        (200, b"<html>\xff", "malformed"),
        (200, b"", "truncated"),
        (200, b"\x00" * 70_000, "longer than 65,536 bytes"),
        (200, body("ETHUSDT"), "not what was asked for"),
        (
            200,
            b'{"stream":"btcusdt@ticker","data":{"E":1790000000000,"s":"BTCUSDT","c":"1"}}',
            "not what was",
        ),
    ],
)
def test_a_symbol_without_an_answer_is_told_once_and_costs_the_others_nothing(
    rest, journal, caplog, status, content, why
):
    caplog.set_level(logging.INFO)
    rest.answer = lambda symbol: (
        (status, content, {}) if symbol == "BTCUSDT" and rest.clock.seconds < 60 else (200, body(symbol), {})
    )
    with polling(rest, journal):
        wait_for(lambda: rest.symbols().count("BTCUSDT") >= 5)
    times = [at for at, symbol in rest.asked if symbol == "BTCUSDT"]
    assert times[:5] == [0, 20, 60, 70, 80]
    others = [at for at, symbol in rest.asked if symbol == "ETHUSDT"]
    assert others[:6] == [5, 15, 25, 35, 45, 55]
    (told,) = warnings(caplog)
    assert told.startswith(f"polling BTCUSDT: {rest.where}: ")
    assert why in told
    assert len(told) < 500
    over = f"polling BTCUSDT: {rest.where} is answered again"
    assert [one.getMessage() for one in caplog.records].count(over) == 1
    got = kept(journal)
    assert got[:6] == [body("ETHUSDT")] * 6
    assert body("BTCUSDT") in got


def test_it_goes_through_the_proxies_and_no_other_way(rest, journal, caplog):
    with Proxy("http") as first, Proxy("socks5") as second:
        with first.answering(403), polling(rest, journal, proxies=(first.url, second.url)):
            wait_for(lambda: len(rest.asked) >= 2)
        assert first.asked == [f"127.0.0.1:{rest.port}"]
        assert second.asked == [f"127.0.0.1:{rest.port}"] * len(rest.asked)
        assert warnings(caplog) == []
        seen = len(rest.asked)
        urls = (first.url, second.url)
    before = rest.clock.seconds
    with polling(rest, journal, proxies=urls):  # both are gone
        wait_for(lambda: rest.clock.seconds > before + 30)
    assert len(rest.asked) == seen
    assert len(warnings(caplog)) == 1


def test_a_journal_that_fails_is_not_passed_over(rest, journal, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise DiskFailed("the disk is full")

    monkeypatch.setattr(journal, "append", full)
    poller = Poller(BINANCE, [Poll("market", "BTCUSDT", rest.url + "BTCUSDT", 10.0)], journal, lambda: True)
    with pytest.raises(DiskFailed):
        poller.run()


# what an exchange asks for


def test_the_polls_of_many_symbols_go_with_the_connection_of_each_and_keep_to_four_a_second():
    symbols = tuple(f"S{number}USDT" for number in range(100))
    exchange = TYPED["binance"](Wanted(symbols=symbols, channels=CHANNELS))
    connections = plan(exchange, "ws://127.0.0.1:8765")
    assert [one.name for one in connections if not one.polls] == ["public"]
    polled = [one for connection in connections for one in connection.polls]
    assert len(connections) > 3
    assert [one.symbol for one in polled] == list(symbols)
    assert polled[0].url == "http://127.0.0.1:8765/fapi/v1/openInterest?symbol=S0USDT"
    assert sum(1 / one.every_s for one in polled) == pytest.approx(4)
    for connection in connections:
        if connection.polls:
            assert {one.symbol for one in connection.polls} == connection.channels.keys()


def test_few_symbols_are_asked_for_every_ten_seconds_and_only_if_tickers_are_wanted():
    assert BINANCE.polls() == (
        Poll("market", "BTCUSDT", "https://fapi.binance.com/fapi/v1/openInterest?symbol=BTCUSDT", 10.0),
        Poll("market", "ETHUSDT", "https://fapi.binance.com/fapi/v1/openInterest?symbol=ETHUSDT", 10.0),
    )
    odd = TYPED["binance"](Wanted(symbols=("牛来USDT",), channels=("ticker",)))
    assert odd.polls()[0].url.endswith("?symbol=%E7%89%9B%E6%9D%A5USDT")
    assert TYPED["binance"](Wanted(symbols=SYMBOLS, channels=("trade", "book", "candle"))).polls() == ()
    others = [kind(Wanted(symbols=(kind.example,), channels=kind.channels)) for kind in TYPED.values()]
    assert [one.name for one in others if isinstance(one, Polled)] == ["binance"]


# what becomes of it


def mark(symbol: str = "BTCUSDT", price: str = "84055.1", time_ms: int = 1_790_000_001_000) -> bytes:
    data = {
        "e": "markPriceUpdate",
        "E": time_ms,
        "s": symbol,
        "p": price,
        "i": "84060.5",
        "r": "0.0001",
        "T": 0,
    }
    return json.dumps({"stream": f"{symbol.lower()}@markPrice@1s", "data": data}).encode()


def lines(rows: Blocks) -> list[list[str]]:
    """The ticker's rows behind their times: last, mark, index, open interest, funding rate and its time."""
    return [line.rstrip("\n").split("\t")[4:] for line in rows.lines(TICKERS)]


def decoded(assembler: Assembler, *frames: tuple[float, bytes]) -> list[list[str]]:
    """Return the ticker's rows of frames, each with the second it was received at."""
    found = [Frame(NOW_NS + round(at * 1e9), payload) for at, payload in frames]
    return lines(decode_typed(BINANCE, found, assembler).rows)


NONE = "\\N"


def test_an_answer_is_a_row_and_goes_on_in_the_rows_behind_it():
    assembler = Assembler(BINANCE)
    rows = decoded(
        assembler, (1, mark()), (2, body("BTCUSDT")), (3, mark("ETHUSDT")), (4, mark(price="84056"))
    )
    assert rows == [
        [NONE, "84055.1", "84060.5", NONE, "0.0001", NONE],
        [NONE, "84055.1", "84060.5", "84017.255", "0.0001", NONE],
        [NONE, "84055.1", "84060.5", NONE, "0.0001", NONE],
        [NONE, "84056", "84060.5", "84017.255", "0.0001", NONE],
    ]
    assembler.connected(NOW_NS, handover=False)
    assert decoded(assembler, (5, mark())) == [[NONE, "84055.1", "84060.5", NONE, "0.0001", NONE]]


def test_an_answer_goes_on_for_a_minute_and_no_longer_also_after_a_restart():
    before = Assembler(BINANCE)
    assert [row[3] for row in decoded(before, (0, body("BTCUSDT")), (60, mark()))] == ["84017.255"] * 2
    for assembler in (before, Assembler(BINANCE, state=json.loads(json.dumps(before.checkpoint())))):
        assert decoded(assembler, (60.001, mark())) == [[NONE, "84055.1", "84060.5", NONE, "0.0001", NONE]]
        assert [row[3] for row in decoded(assembler, (70, body("BTCUSDT", "5")), (71, mark()))] == ["5"] * 2


def test_an_answer_is_counted_and_proves_nothing_of_the_connection():
    frames = [Frame(NOW_NS + at, payload) for at, payload in ((5, mark()), (9, body("BTCUSDT")))]
    batch = decode_typed(BINANCE, frames, Assembler(BINANCE))
    heard = batch.heard["BTCUSDT"]
    assert (batch.last_ns, heard.first_ns, heard.last_ns) == (NOW_NS + 5, {"ticker": NOW_NS + 5}, NOW_NS + 5)
    assert (heard.messages["ticker"], heard.channel_rows["ticker"], batch.tally.frames) == (2, 2, 2)
    assert len(batch.tally.lags_ms) == 1
    alone = decode_typed(BINANCE, frames[1:], Assembler(BINANCE))
    assert (alone.last_ns, alone.heard["BTCUSDT"].first_ns, alone.tally.messages["ticker"]) == (0, {}, 1)
    assert not alone.tally.lags_ms


def test_coverage_does_not_grow_by_answers(journal):
    witness = TypedWitness(BINANCE, {"BTCUSDT": ("ticker",)}, journal, SYSTEM_CLOCK)
    witness.control(
        next(record for _, record in positions(journal.folder) if record.kind == RecordKind.CONNECTED)
    )

    def live(*frames: tuple[int, bytes]) -> list[tuple[str, int, int, int]]:
        found = [Frame(at * 1_000_000_000, payload) for at, payload in frames]
        witness.stored(witness.decode(found))
        rows = [(one.channel, one.from_ms, one.to_ms, one.rows) for one in witness.to_write(force=True)]
        witness.written()
        return rows

    assert live((5, body("BTCUSDT"))) == []
    assert live((7, mark())) == [("ticker", 7000, 7000, 1)]
    assert live((20, body("BTCUSDT")), (30, body("BTCUSDT"))) == [("ticker", 7000, 7000, 3)]
    assert live((31, mark())) == [("ticker", 7000, 31_000, 4)]


# the whole way


def test_a_recording_has_open_interest_in_its_tickers(start, tmp_path):
    symbol, now_ms = "BTCUSDT", 1_790_000_001_000
    with Simulator(exchange="binance", generate=False) as exchange:
        running = start(
            "run", "--exchange", "binance", "--symbol", symbol, "--channels", "ticker", "--endpoint",
            exchange.address, "--flush-interval", "0.1", "--stats-interval", "0.2", "--log-format", "json",
        )  # fmt: skip
        wait_for(lambda: statistics(running) and statistics(running)[-1]["messages"]["ticker"] == 1)
        with exchange.banned(418):
            for number in range(3):
                exchange.send(mark(price=f"8405{number}.5", time_ms=now_ms + number))
            wait_for(lambda: statistics(running)[-1]["messages"]["ticker"] == 4, what=running.err)
            assert running.stop() == 0, running.err
    assert_adds_up(statistics(running)[-1])
    with open_store(str(tmp_path / "data"), create=False) as store:
        rows = store.query(
            "SELECT symbol, toString(mark_price), toString(open_interest), receive_time - event_time < 10 "
            "FROM market_data.tickers ORDER BY receive_time, event_time"
        )
    assert rows == [(symbol, None, "8291.299", 1)] + [
        (symbol, f"8405{number}.5", "8291.299", 0) for number in range(3)
    ]
    assert [(one[1], one[2], one[4]) for one in coverage(tmp_path / "data") if one[2] == "live"] == [
        ("ticker", "live", 3)
    ]
