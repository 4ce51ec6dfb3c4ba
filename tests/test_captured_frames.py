"""The frames captured from the real exchange, where they are present beside the checkout.

They are not part of the project. The expected rows come from a second decoder, written here with
nothing but `json` and `Decimal`, and for the best known frames they are spelled out.
"""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from mexcflow.exchanges.mexc import Mexc
from mexcflow.model import Frame, Kind
from mexcflow.pipeline.decode import read_frame

FRAMES = Path(__file__).resolve().parents[2] / "shared/data/frames"
RECEIVED_NS = 1_790_000_000_456_789_000

pytestmark = pytest.mark.skipif(
    not FRAMES.is_dir(), reason="the captured frames are not beside this checkout"
)


def lines(*patterns: str) -> list[str]:
    return [
        line
        for pattern in patterns
        for path in sorted(FRAMES.glob(pattern))
        for line in path.read_text().splitlines()
    ]


class Number(str):
    """A number as it was written."""


def spelled(number: Number) -> str:
    text = format(Decimal(number), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def side(levels: list) -> str:
    return ",".join(f"[{spelled(level[0])},{spelled(level[1])}]" for level in levels[:20])


def expected(frame: dict) -> list[tuple[int, str, str]]:
    data = frame["data"]
    if frame["channel"] == "push.deal":
        deals = data if isinstance(data, list) else [data]
        return [(int(d["t"]), "d", f"{spelled(d['p'])}|{spelled(d['v'])}|{d['T']}") for d in deals]
    if frame["channel"] == "push.depth.full":
        return [(int(frame["ts"]), "dp", f"{side(data['bids'])}|{side(data['asks'])}")]
    funding = f"{Decimal(data['fundingRate']):.8f}"
    words = [spelled(data[key]) for key in ("lastPrice", "fairPrice", "indexPrice", "holdVol")]
    return [(int(frame["ts"]), "t", "|".join([*words, funding]))]


def test_every_captured_push_gives_exactly_its_rows():
    checked = 0
    for line in lines("mexc_futures.deal*", "mexc_futures.depth_full*", "mexc_futures.ticker.*"):
        frame = json.loads(line, parse_int=Number, parse_float=Number)
        exchange = Mexc(frame["symbol"], ("ticker", "deal", "depth"))
        reading = read_frame(exchange, Frame(RECEIVED_NS, line.encode()))
        assert reading.kind is Kind.DATA, reading.text
        assert list(reading.rows) == expected(frame)
        checked += 1
    assert checked >= 8


def test_the_newest_captured_deal_ticker_and_exponent_price_spelled_out():
    rows = []
    for line in lines("mexc_futures.deal.jsonl", "mexc_futures.ticker.jsonl", "*depth_full.trimmed.jsonl"):
        exchange = Mexc(json.loads(line)["symbol"], ("ticker", "deal", "depth"))
        rows += exchange.read(line.encode()).rows
    assert (1788335242156, "d", "77525.9|3|2") in rows
    assert (1754676870465, "t", "116744.5|116756.3|116802.5|82912997|0.00009400") in rows
    assert (1789498322169, "dp", "[75480,4959]|[75481.2,10]") in rows
    assert (
        1789498322169,
        "dp",
        "[0.08049,46],[0.08048,489],[0.08047,420]|[0.08055,48],[0.08056,347],[0.08057,149]",
    ) in rows


def test_every_captured_control_frame_is_told_apart():
    exchange = Mexc("NOPE_USDT", ("deal",))
    for line in lines("mexc_futures.control*"):
        reading = read_frame(exchange, Frame(RECEIVED_NS, line.encode()))
        channel = json.loads(line)["channel"]
        kind = {"pong": Kind.PONG, "rs.error": Kind.ERROR}.get(channel, Kind.ACK)
        # sub.depth is not among our subscriptions, and an acknowledgement all the same
        assert reading.kind is kind, line
        assert reading.permanent == ("NOPE_USDT" in line or "doesn't exist" in line)


def test_captured_frames_of_other_channels_are_dead_letters_word_for_word():
    for line in lines(
        "mexc_futures.kline*", "mexc_futures.price*", "mexc_futures.depth.*", "mexc_futures.tickers*"
    ):
        symbol = json.loads(line).get("symbol", "BTC_USDT")
        reading = read_frame(Mexc(symbol, ("deal",)), Frame(RECEIVED_NS, line.encode()))
        assert reading.kind is Kind.DEAD_LETTER
        assert reading.rows == ((RECEIVED_NS // 1_000_000, "dl", line[:500]),)
