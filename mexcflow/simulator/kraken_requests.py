"""What a client of Kraken may ask for: the options of a subscription, and what is wrong with them."""

from collections.abc import Mapping
from typing import NamedTuple

import orjson

from mexcflow.simulator.market import Candle, Depth, Event, Trades

DEPTHS = (10, 25, 100, 500, 1000)
INTERVALS = {1: "1m", 5: "5m", 15: "15m", 30: "30m", 60: "1h", 240: "4h", 1440: "1d"}
_CHANNELS = frozenset({"book", "trade", "ticker", "ohlc"})


class Wish(NamedTuple):
    """A subscription: the option is the depth of a book, the minutes of a candle, a ticker's trigger."""

    channel: str
    symbol: str
    option: str

    @property
    def topic(self) -> str:
        """What may be subscribed once: a book has one depth, candles have several intervals."""
        return f"{self.channel} {self.symbol}" + (f" {self.option}" if self.channel == "ohlc" else "")

    def concerns(self, event: Event) -> bool:
        """Whether it is sent something of this event of its symbol."""
        if isinstance(event, Trades):
            return self.channel == "trade" or self.option == "trades"
        if isinstance(event, Depth):
            return self.channel == "book" or self.option == "bbo"
        if isinstance(event, Candle):
            return self.channel == "ohlc" and INTERVALS[int(self.option)] == event.interval
        return False


OPTION_OF = {"book": "depth", "ohlc": "interval", "ticker": "event_trigger"}


def options_of(params: Mapping[str, object]) -> dict[str, object]:
    """Return the options of a subscription as its acknowledgement repeats them."""
    channel = params["channel"]
    options: dict[str, object] = {}
    if channel == "book":
        options["depth"] = params.get("depth", DEPTHS[0])
    elif channel == "ticker":
        options["event_trigger"] = params.get("event_trigger", "trades")
    elif channel == "ohlc":
        options["interval"] = params.get("interval", 1)
    options["snapshot"] = params.get("snapshot", channel != "trade")
    return options


def wrong_with(params: Mapping[str, object]) -> str:
    """Return what is wrong with the options; "" if nothing is."""
    channel = params.get("channel")
    if not isinstance(channel, str) or channel not in _CHANNELS:
        return "Channel not supported"
    options = options_of(params)
    numbers = [value for key, value in options.items() if key in {"depth", "interval"}]
    if not all(isinstance(value, int) for value in numbers) or not isinstance(
        options.get("event_trigger", ""), str
    ):
        return "Malformed request"
    if channel == "book" and options["depth"] not in DEPTHS:
        return "Subscription depth not supported"
    if channel == "ohlc" and options["interval"] not in INTERVALS:
        return "Subscription ohlc interval not supported"
    return "" if symbols_of(params) else "Symbol(s) field must be an array of strings"


def symbols_of(params: Mapping[str, object]) -> list[str]:
    """Return the symbols of a request."""
    symbols = params.get("symbol")
    return [one for one in symbols if isinstance(one, str)] if isinstance(symbols, list) else []


def content_of(request: bytes) -> dict[str, object]:
    """Return a request, {} if it is none."""
    try:
        content = orjson.loads(request)
    except orjson.JSONDecodeError:
        return {}
    return content if isinstance(content, dict) else {}
