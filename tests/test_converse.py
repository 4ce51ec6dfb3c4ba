"""A connection of several symbols: pacing, refusals, topics that bring nothing, books that break."""

import itertools
import json
import logging

import pytest

from mexcflow.errors import ConnectionLost, UnknownContract
from mexcflow.exchanges.binance import Binance
from mexcflow.exchanges.bybit import Bybit
from mexcflow.exchanges.coinbase import Coinbase
from mexcflow.exchanges.okx import Okx
from mexcflow.exchanges.typed import Limits
from mexcflow.model import Kind, Request, Wanted
from tests.conversing import Conversing
from tests.simulated import Player


def wanted(*symbols: str, channels: tuple[str, ...] = ("trade", "book", "ticker", "candle")) -> Wanted:
    return Wanted(symbols=symbols, channels=channels)


def logged(caplog, level: int = logging.WARNING) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= level]


# asking


class Slow(Bybit):
    """Two messages a second, no more."""

    limits = Limits(messages_per_s=2, topics=500)


def test_subscribe_frames_leave_no_faster_than_allowed_and_frames_are_read_meanwhile():
    one = Conversing(Slow(wanted("BTCUSDT", "ETHUSDT", "SOLUSDT")))
    one.session.subscribe()
    assert len(one.sent) == 1
    one.run(0.75)
    assert one.journal.frames != []
    assert not one.session.settled
    one.run(1)
    assert [at for at, _ in one.line.sent] == [0, 0.5, 1.0]
    assert [json.loads(payload)["args"][0] for payload in one.sent] == [
        "publicTrade.BTCUSDT",
        "publicTrade.ETHUSDT",
        "publicTrade.SOLUSDT",
    ]
    assert one.session.settled


def test_the_wait_for_an_answer_begins_when_its_request_was_sent():
    class Slower(Slow):
        limits = Limits(messages_per_s=0.05, topics=500)
        ack_timeout_s = 15.0

    one = Conversing(Slower(wanted("BTCUSDT", "ETHUSDT")))
    one.line.dropped = lambda payload: b'"op":"subscribe"' in payload and b'"req_id":"2"' in payload
    one.session.subscribe()
    one.run(34.75)
    with pytest.raises(ConnectionLost, match=r"not acknowledged within 15 s: publicTrade\.ETHUSDT"):
        one.run(1)
    assert one.line.since_s == 35.25


def test_what_is_sent_is_in_the_journal_before_anything_is_made_of_it():
    one = Conversing(Bybit(wanted("NOPEUSDT")))
    one.session.subscribe()
    with pytest.raises(UnknownContract):
        one.run(2)
    assert [b"handler not found" in frame.payload for frame in one.journal.frames][:1] == [True]


# refusals


class AllInOne(Bybit):
    """Asks for everything in one request, which one wrong topic fails."""

    def requests(self, topics, first_id) -> list[Request]:
        args = [topic.name for topic in topics]
        frame = {"op": "subscribe", "args": args, "req_id": str(first_id)}
        return [Request(first_id, tuple(topics), json.dumps(frame).encode())]


def test_a_request_that_is_refused_whole_is_asked_again_topic_by_topic(caplog):
    one = Conversing(AllInOne(wanted("BTCUSDT", "NOPEUSDT", channels=("trade", "book"))))
    one.session.subscribe()
    one.run(2)
    asked = [json.loads(payload)["args"] for payload in one.sent]
    topics = ["publicTrade.BTCUSDT", "orderbook.50.BTCUSDT", "publicTrade.NOPEUSDT", "orderbook.50.NOPEUSDT"]
    assert asked == [topics, *([topic] for topic in topics)]
    assert one.session.settled
    refused = [text for text in logged(caplog) if "refuses" in text]
    assert refused == [
        f"bybit refuses {topic}: error:handler not found,topic:{topic}" for topic in topics[2:]
    ]
    assert any(b'"publicTrade.BTCUSDT"' in frame.payload for frame in one.journal.frames)


def test_when_every_topic_is_refused_and_nothing_came_the_run_ends():
    one = Conversing(Bybit(wanted("NOPEUSDT", "NADAUSDT")))
    one.session.subscribe()
    with pytest.raises(UnknownContract) as caught:
        one.run(5)
    assert caught.value.what.startswith("bybit has none of what was asked for (NOPEUSDT, NADAUSDT): error:")
    assert "mexcflow symbols --exchange bybit" in caught.value.hint


def test_the_last_topic_refused_ends_nothing_once_data_has_come():
    one = Conversing(Bybit(wanted("NOPEUSDT", channels=("trade",))))
    trade = {"T": 1790000000000, "s": "NOPEUSDT", "S": "Buy", "v": "1", "p": "1", "i": "a"}
    frame = {"topic": "publicTrade.NOPEUSDT", "type": "snapshot", "ts": 1790000000000, "data": [trade]}
    one.line.push(json.dumps(frame, separators=(",", ":")).encode())
    one.session.step(15.0)
    one.session.subscribe()
    one.run(1)
    assert b"handler not found" in one.journal.frames[-1].payload


def test_okx_refuses_one_of_two_symbols_and_the_other_goes_on(caplog):
    one = Conversing(Okx(wanted("BTC-USDT-SWAP", "NOPE-USDT-SWAP", channels=("trade", "book"))))
    one.session.subscribe()
    one.run(3)
    assert one.session.settled
    assert [text.split(":")[0] for text in logged(caplog) if "refuses" in text] == [
        "okx refuses trades",
        "okx refuses books5",
    ]


# topics that bring nothing


def test_topics_that_bring_nothing_are_named_once_after_half_a_minute(caplog):
    """Binance meets an unknown symbol with silence."""
    exchange = Binance(wanted("BTCUSDT", "NOPEUSDT", channels=("trade", "ticker", "candle")))
    one = Conversing(exchange)
    one.session.subscribe()
    one.run(29.75)
    assert logged(caplog) == []
    one.run(40)
    assert logged(caplog) == [
        f"no data for {channel} of NOPEUSDT within 30 s: is the symbol right? It may only be quiet; "
        "`mexcflow symbols --exchange binance --search NOPEUSDT` knows it if it is traded"
        for channel in ("candle", "ticker", "trade")
    ]


# books that break


def book_frames(one: Conversing) -> list[tuple[float, str, list[str]]]:
    """What was sent behind the first request, and when."""
    frames = [(at, json.loads(payload)) for at, payload in one.line.sent[1:]]
    return [(at, frame["op"], frame["args"]) for at, frame in frames if "args" in frame]


def numbers(one: Conversing, symbol: str) -> list[tuple[str, int]]:
    """Kind and number of the frames of a book that came."""
    readings = [one.exchange.read(frame.payload) for frame in one.journal.frames]
    rows = [row for reading in readings if reading.kind is Kind.DATA for row in reading.rows]
    return [
        ("snapshot" if row.is_snapshot else "delta", row.sequence) for row in rows if row.symbol == symbol
    ]


class Lossy:
    """Drops the next book change of a symbol when told."""

    def __init__(self, symbol: str) -> None:
        self._topic = f'"orderbook.50.{symbol}"'.encode()
        self.armed = False

    def __call__(self, payload: bytes) -> bool:
        if self.armed and self._topic in payload and b'"delta"' in payload:
            self.armed = False
            return True
        return False


def test_a_book_that_breaks_is_subscribed_anew_at_once_and_no_other(caplog):
    one = Conversing(Bybit(wanted("BTCUSDT", "ETHUSDT", channels=("book",))))
    one.line.dropped = lossy = Lossy("BTCUSDT")
    one.session.subscribe()
    one.run(2)
    assert len(one.sent) == 2
    lossy.armed = True
    one.run(2)
    (first, op, args), (_, op2, args2) = book_frames(one)[1:]
    assert (op, op2) == ("unsubscribe", "subscribe")
    assert args == args2 == ["orderbook.50.BTCUSDT"]
    assert 2 < first <= 3
    assert [text.split(":")[0] for text in logged(caplog)] == ["the book of BTCUSDT is broken"]
    kinds = [kind for kind, _ in numbers(one, "BTCUSDT")]
    assert kinds.count("snapshot") == 2
    assert [kind for kind, _ in numbers(one, "ETHUSDT")].count("snapshot") == 1


def test_a_renewal_that_is_not_answered_is_sent_again_after_five_seconds():
    one = Conversing(Bybit(wanted("BTCUSDT", channels=("book",))))
    one.line.dropped = lossy = Lossy("BTCUSDT")
    one.session.subscribe()
    one.run(2)
    one.line.swallowed = lambda payload: b"subscribe" in payload
    lossy.armed = True
    one.run(13)
    at = [at for at, op, _ in book_frames(one) if op == "unsubscribe"]
    assert len(at) == 3
    assert all(5 <= later - earlier < 6 for earlier, later in itertools.pairwise(at))
    one.line.swallowed = lambda payload: False
    one.run(6)
    sent = len(book_frames(one))
    one.run(6)
    assert len(book_frames(one)) == sent


def test_a_deep_book_is_sent_anew_every_five_minutes_while_the_backlog_is_long():
    one = Conversing(Coinbase(wanted("BTC-USD", channels=("book",))))
    one.session.subscribe()
    one.run(310)
    assert b"unsubscribe" not in b"".join(payload for _, payload in one.line.sent)
    one.session.sink.backlog_age_s = 61.0
    one.run(610)
    at = [at for at, payload in one.line.sent if b'"unsubscribe"' in payload]
    assert len(at) == 3
    assert all(300 <= later - earlier < 301 for earlier, later in itertools.pairwise(at))


def test_a_change_that_cannot_be_read_or_not_be_stored_breaks_its_book_too():
    for bad in (b'{"topic":"orderbook.50.BTCUSDT","data":{"s":"BTCUSDT"', b""):
        one = Conversing(Bybit(wanted("BTCUSDT", "ETHUSDT", channels=("book",))))
        one.session.subscribe()
        one.run(1)
        next_number = numbers(one, "BTCUSDT")[-1][1] + 1
        update = {"s": "BTCUSDT", "b": [["1_0", "1"]], "a": [], "u": next_number, "seq": 1}
        frame = {"topic": "orderbook.50.BTCUSDT", "type": "delta", "ts": 1790000000000, "data": update}
        one.line.push(bad or json.dumps(frame, separators=(",", ":")).encode())
        one.session.step(15.0)
        assert [args for _, _, args in book_frames(one)[1:]] == [["orderbook.50.BTCUSDT"]]
        one.line.swallowed = lambda payload: b"subscribe" in payload
        one.run(1)
        assert [args for _, _, args in book_frames(one)[1:]] == [["orderbook.50.BTCUSDT"]] * 2
        one.run(6)  # it is unsubscribed and nothing comes, but it is asked for again
        assert [args for _, _, args in book_frames(one)[1:]] == [["orderbook.50.BTCUSDT"]] * 4


# the end of a server


def test_an_exchange_that_asks_for_a_new_connection_is_heard():
    one = Conversing(Binance(wanted("BTCUSDT", channels=("trade",))), Player("binance"))
    one.session.subscribe()
    one.run(1)
    assert not one.session.restart_asked
    one.line.push(b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1790000000000}}')
    one.run(0.25)
    assert one.session.restart_asked


def test_a_complaint_is_one_line_of_the_log_however_it_was_sent(caplog):
    one = Conversing(Bybit(wanted("BTCUSDT", channels=("trade",))))
    one.session.subscribe()
    one.run(1)
    one.line.push(json.dumps({"op": "", "success": False, "ret_msg": "bad\r\n\tnews " + "x" * 9999}).encode())
    one.run(0.25)
    assert logged(caplog) == ["the exchange says: bad news " + "x" * 491]
