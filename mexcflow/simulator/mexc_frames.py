"""MEXC futures frames as they are on the wire in 2026: key order, number spelling, compact JSON.

Written by hand and not by a JSON library, because the spelling of numbers is the point: whole prices
are integers (77594), others have no trailing zero, rates have four decimals. Times are Unix ms.
Shapes: captured frames of August 2025 to October 2026 (PROTOCOLS 1.4).
"""

import orjson

from mexcflow.simulator.book import Level
from mexcflow.simulator.exchange import Message
from mexcflow.simulator.market import Depth, Ticker, Trade, Trades
from mexcflow.simulator.spelling import Spell, fixed, plain


def _text(value: str) -> str:
    return orjson.dumps(value).decode()


class MexcFrames:
    """Spells market events; `spell` may give prices and quantities another text of the same value."""

    def __init__(self, spell: Spell = str) -> None:
        self._spell = spell

    def deals(self, event: Trades, now_ms: int) -> bytes:
        """Return a `push.deal` frame; its list is not sorted by time."""
        scale = event.contract.scale
        data = ",".join(self._deal(trade, scale, now_ms - trade.age_ms) for trade in event.trades)
        return _envelope(event.contract.symbol, f"[{data}]", "push.deal", now_ms)

    def _deal(self, trade: Trade, scale: int, at_ms: int) -> str:
        # T: 1 the aggressor buys, 2 sells. M: 1 self trade. i and cts are texts, t is a number.
        return (
            f'{{"p":{self._price(trade.price_ticks, scale)},"v":{self._spell(str(trade.contracts))},'
            f'"T":{1 if trade.aggressor_buys else 2},"O":{trade.opens},"M":{1 if trade.self_trade else 2},'
            f'"t":{at_ms},"i":"{trade.trade_id}","cts":"{at_ms}"}}'
        )

    def depth_full(self, event: Depth, limit: int, now_ms: int) -> bytes:
        """Return a `push.depth.full` frame with up to `limit` levels a side, asks first as on the wire."""
        scale = event.contract.scale
        data = (
            f'{{"cts":{now_ms - event.age_ms},"asks":[{self._levels(event.asks[:limit], scale)}],'
            f'"bids":[{self._levels(event.bids[:limit], scale)}],"version":{event.version}}}'
        )
        return _envelope(event.contract.symbol, data, "push.depth.full", now_ms)

    def _levels(self, levels: tuple[Level, ...], scale: int) -> str:
        return ",".join(
            f"[{self._price(level.price_ticks, scale)},{self._spell(str(level.contracts))},{level.orders}]"
            for level in levels
        )

    def ticker(self, event: Ticker, now_ms: int) -> bytes:
        """Return a `push.ticker` frame."""
        scale, symbol = event.contract.scale, event.contract.symbol
        rates = [fixed(change, 4) for change in event.changes_e4]
        zones = [fixed(event.changes_e4[0] + lag, 4) for lag in (-25, -107, 0)]
        fields = {
            "symbol": _text(symbol),
            "lastPrice": self._price(event.last_ticks, scale),
            "riseFallRate": rates[0],
            "fairPrice": self._price(event.mark_ticks, scale),
            "indexPrice": self._price(event.index_ticks, scale),
            "volume24": str(event.volume_contracts),
            "amount24": f"{event.amount_quote:.5f}".rstrip("0").rstrip("."),
            "maxBidPrice": self._price(event.index_ticks * 11 // 10, scale),
            "minAskPrice": self._price(event.index_ticks * 9 // 10, scale),
            "lower24Price": self._price(event.low_ticks, scale),
            "high24Price": self._price(event.high_ticks, scale),
            "timestamp": str(now_ms),
            "bid1": self._price(event.bid_ticks, scale),
            "ask1": self._price(event.ask_ticks, scale),
            "holdVol": self._spell(str(event.open_interest)),
            "riseFallValue": plain(event.last_ticks - event.open_ticks, scale),
            "fundingRate": self._spell(plain(event.funding_rate_e6, 6)),
            "zone": '"UTC+8"',
            "riseFallRates": f"[{','.join(rates)}]",
            "riseFallRatesOfTimezone": f"[{','.join(zones)}]",
        }
        data = ",".join(f'"{key}":{value}' for key, value in fields.items())
        return _envelope(symbol, f"{{{data}}}", "push.ticker", now_ms)

    def _price(self, ticks: int, scale: int) -> str:
        return self._spell(plain(ticks, scale))


def _envelope(symbol: str, data: str, channel: str, now_ms: int) -> bytes:
    return f'{{"symbol":{_text(symbol)},"data":{data},"channel":"{channel}","ts":{now_ms}}}'.encode()


def control(channel: str, data: str, now_ms: int) -> bytes:
    """Return an acknowledgement or a complaint; it has no symbol."""
    return f'{{"channel":{_text(channel)},"data":{_text(data)},"ts":{now_ms}}}'.encode()


def pong(now_ms: int) -> bytes:
    """Return the answer to a ping; its data is the time."""
    return f'{{"channel":"pong","data":{now_ms},"ts":{now_ms}}}'.encode()


def garbage(symbol: str) -> tuple[Message, ...]:
    """Messages for a client of `symbol`, none of which can be decoded into market data of that symbol."""
    start = f'{{"symbol":{_text(symbol)},"data":'.encode()
    deal = b'{"p":77525.9,"v":3,"T":2,"O":3,"M":1,"t":1788335242156}'
    end = b',"channel":"push.deal","ts":1788335242156}'
    return (
        Message(b"<html><body>502 Bad Gateway</body></html>"),
        Message(start + b'[{"p":77525.9,"v":3,"T":2,"t":17883'),  # JSON that stops
        Message(start + b'"nothing"' + end),  # wrong type of data
        Message(start + b'[{"p":"dear","v":null,"T":[],"t":{}}]' + end),  # wrong types inside
        Message(start + b'{"asks":7,"bids":null,"version":"x"},"channel":"push.depth.full","ts":1}'),
        Message(start + b'[{"p":NaN,"v":Infinity,"T":1,"t":1788335242156}]' + end),
        Message(start + b"[" + deal + b'],"channel":"push.weather","ts":1788335242156}'),
        Message(b'{"symbol":"OTHER_USDT","data":[' + deal + b"]" + end),
        Message(start + b'[{"p":77525.9\xff\xfe"}]' + end),  # no UTF-8, in a text message
        Message(b"\x1f\x8b\x08 no gzip after all", is_text=False),
        Message(b"\x00\x01\x02\x03", is_text=False),
        Message(b"42"),
        Message(b""),
        Message(b"[" * 3000),  # nested deeper than a parser should follow
    )
