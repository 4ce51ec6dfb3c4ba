"""Binance's frames as they are on the wire in 2026: the keys in their order, numbers as texts.

Shapes: frames seen live on USD-M futures in September 2026 and on spot from June to October 2026, older
ones where there are no newer (24hrTicker). Prices and quantities have a fixed number of decimals; on spot
that is eight. Times are Unix ms.
"""

from decimal import Decimal
from typing import Any

import orjson

from mexcflow.simulator.contracts import Contract
from mexcflow.simulator.exchange import Message
from mexcflow.simulator.market import Candle, Ticker, Trade
from mexcflow.simulator.published import Change, Changes, Published
from mexcflow.simulator.spelling import Spell, fixed

Data = dict[str, Any]
"""What stands in a frame, in order."""

FUNDING_EVERY_MS = 8 * 3_600_000
_FIRST_UPDATES = 40
"""How many updates lie before the first frame of a book."""
_FILLS_BEFORE = 4_600_000_000
"""How far the ids of fills are ahead of those of aggregate trades."""


class FuturesFrames:
    """Spells market events as USD-M futures; `spell` may give numbers another text of the same value."""

    has_pair = True
    """Whether frames tell the pair (`ps`) and the kind of margin (`st`), and chain books by `pu`."""

    def __init__(self, spell: Spell = str) -> None:
        self._spell = spell

    def price(self, contract: Contract, ticks: int) -> str:
        """Spell a price: at least two decimals."""
        decimals = self._decimals(contract)
        return self._spell(fixed(ticks * 10 ** (decimals - contract.scale), decimals))

    def _decimals(self, contract: Contract) -> int:
        return max(contract.scale, 2)

    def quantity(self, contract: Contract, count: int) -> str:
        """Spell a quantity in base units: the decimals of the contract size."""
        return self._spell(f"{count * contract.contract_size:f}")

    def amount(self, amount: Decimal) -> str:
        """Spell a sum of the quote currency: five decimals."""
        return f"{amount:.5f}"

    def trade(self, contract: Contract, trade: Trade, now_ms: int, at_ms: int) -> Data:
        """Return an aggTrade; `m` is true where the buyer rested and the seller took."""
        fill, quantity = trade.trade_id + _FILLS_BEFORE, self.quantity(contract, trade.contracts)
        return {
            "e": "aggTrade",
            "E": now_ms,
            "a": trade.trade_id,
            "s": contract.symbol,
            "p": self.price(contract, trade.price_ticks),
            "q": quantity,
            "nq": quantity,
            "f": fill,
            "l": fill,
            "T": at_ms,
            "m": not trade.aggressor_buys,
            "st": 1,
        }

    def top(self, book: Published, before: Published | None, levels: int, now_ms: int) -> Data:
        """Return a depth5, depth10 or depth20: bids falling, asks rising."""
        depth = book.depth
        bids = [(level.price_ticks, level.contracts) for level in depth.bids[:levels]]
        asks = [(level.price_ticks, level.contracts) for level in depth.asks[:levels]]
        return self._update(book, before, bids, asks, now_ms)

    def changes(self, book: Published, before: Published | None, changes: Changes, now_ms: int) -> Data:
        """Return a depthUpdate with what changed: prices rise on both sides, 0 removes a level."""
        return self._update(book, before, sorted(changes.bids), sorted(changes.asks), now_ms)

    def _update(
        self, book: Published, before: Published | None, bids: list[Change], asks: list[Change], now_ms: int
    ) -> Data:
        # U..u need not follow the u before: what is not of this symbol's book is numbered, too.
        contract, last = book.depth.contract, book.depth.version
        previous = last - _FIRST_UPDATES if before is None else before.depth.version
        return {
            "e": "depthUpdate",
            "E": now_ms,
            "T": now_ms - book.depth.age_ms,
            "s": contract.symbol,
            "ps": contract.symbol,
            "U": previous + 1 + (last - previous) // 4,
            "u": last,
            "pu": previous,
            "b": self.levels(contract, bids),
            "a": self.levels(contract, asks),
            "st": 1,
        }

    def levels(self, contract: Contract, levels: list[Change]) -> list[tuple[str, str]]:
        """Spell levels of a book."""
        return [(self.price(contract, ticks), self.quantity(contract, count)) for ticks, count in levels]

    def best(self, book: Published, now_ms: int) -> Data:
        """Return a bookTicker."""
        depth, symbol = book.depth, book.depth.contract.symbol
        (bid,) = self.levels(depth.contract, [depth.bids[0][:2]])
        (ask,) = self.levels(depth.contract, [depth.asks[0][:2]])
        prices = {"b": bid[0], "B": bid[1], "a": ask[0], "A": ask[1]}
        if not self.has_pair:
            return {"u": depth.version, "s": symbol, **prices}
        times = {"T": now_ms - depth.age_ms, "E": now_ms, "st": 1}
        return {"e": "bookTicker", "u": depth.version, "s": symbol, "ps": symbol, **prices, **times}

    def mark(self, event: Ticker, now_ms: int) -> Data:
        """Return a markPriceUpdate: mark and index price, funding rate, when that is paid next."""
        contract = event.contract
        mark, index = (_eight(contract, ticks) for ticks in (event.mark_ticks, event.index_ticks))
        return {
            "e": "markPriceUpdate",
            "E": now_ms,
            "s": contract.symbol,
            "p": self._spell(mark),
            "ap": mark,
            "P": index,
            "i": self._spell(index),
            "r": self._spell(fixed(event.funding_rate_e6 * 100, 8)),
            "T": next_funding_ms(now_ms),
            "st": 1,
        }

    def day(self, event: Ticker, now_ms: int) -> Data:
        """Return a 24hrTicker, of the last 24 hours."""
        contract, trades = event.contract, event.volume_contracts // 40
        volume = event.volume_contracts * contract.contract_size
        change = Decimal(event.last_ticks - event.open_ticks) * 100 / event.open_ticks
        return {
            "e": "24hrTicker",
            "E": now_ms,
            "s": contract.symbol,
            "p": self.price(contract, event.last_ticks - event.open_ticks),
            "P": f"{change:.3f}",
            "w": f"{event.amount_quote / volume:.{self._decimals(contract)}f}",
            "c": self.price(contract, event.last_ticks),
            "Q": self.quantity(contract, 1),
            "o": self.price(contract, event.open_ticks),
            "h": self.price(contract, event.high_ticks),
            "l": self.price(contract, event.low_ticks),
            "v": self.quantity(contract, event.volume_contracts),
            "q": self.amount(event.amount_quote),
            "O": now_ms - 86_400_000,
            "C": now_ms,
            "F": _FILLS_BEFORE,
            "L": _FILLS_BEFORE + trades,
            "n": trades + 1,
        }

    def candle(self, event: Candle, now_ms: int) -> bytes:
        """Return a kline event; futures have a space behind the commas inside `k`, and only there."""
        contract = event.contract
        fields = {
            "t": event.open_ms,
            "T": event.end_ms - 1,
            "s": contract.symbol,
            "i": event.interval,
            "f": event.first_id + _FILLS_BEFORE,
            "L": event.last_id + _FILLS_BEFORE,
            "o": self.price(contract, event.open_ticks),
            "c": self.price(contract, event.close_ticks),
            "h": self.price(contract, event.high_ticks),
            "l": self.price(contract, event.low_ticks),
            "v": self.quantity(contract, event.volume_contracts),
            "n": event.trades,
            "x": event.closed,
            "q": self.amount(event.amount_quote),
            "V": self.quantity(contract, event.bought_contracts),
            "Q": self.amount(event.bought_quote),
            "B": "0",
        }
        comma = b", " if self.has_pair else b","
        candle = comma.join(b'"%b":%b' % (key.encode(), orjson.dumps(value)) for key, value in fields.items())
        symbol = orjson.dumps(contract.symbol)
        return b'{"e":"kline","E":%d,"s":%b,"k":{%b}}' % (now_ms, symbol, candle)


class SpotFrames(FuturesFrames):
    """Spells market events as the spot market does: eight decimals, and fewer fields."""

    has_pair = False

    def _decimals(self, contract: Contract) -> int:
        return 8

    def quantity(self, contract: Contract, count: int) -> str:
        """Spell a quantity in base units: eight decimals."""
        return self._spell(f"{count * contract.contract_size:.8f}")

    def amount(self, amount: Decimal) -> str:
        """Spell a sum of the quote currency: eight decimals."""
        return f"{amount:.8f}"

    def trade(self, contract: Contract, trade: Trade, now_ms: int, at_ms: int) -> Data:
        """Return an aggTrade."""
        data = super().trade(contract, trade, now_ms, at_ms)
        return {key: data[key] for key in ("e", "E", "s", "a", "p", "q", "f", "l", "T", "m")} | {"M": True}

    def _update(
        self, book: Published, before: Published | None, bids: list[Change], asks: list[Change], now_ms: int
    ) -> Data:
        contract, last = book.depth.contract, book.depth.version
        previous = last - _FIRST_UPDATES if before is None else before.depth.version
        return {
            "e": "depthUpdate",
            "E": now_ms,
            "s": contract.symbol,
            "U": previous + 1,
            "u": last,
            "b": self.levels(contract, bids),
            "a": self.levels(contract, asks),
        }

    def top(self, book: Published, before: Published | None, levels: int, now_ms: int) -> Data:
        """Return a depth5, depth10 or depth20: with neither symbol nor time nor type of event."""
        data = super().top(book, before, levels, now_ms)
        return {"lastUpdateId": data["u"], "bids": data["b"], "asks": data["a"]}


def combined(stream: str, data: Data | bytes) -> bytes:
    """Return what `/stream` sends: the event with the name of its stream."""
    return b'{"stream":%b,"data":%b}' % (orjson.dumps(stream), raw(data))


def raw(data: Data | bytes) -> bytes:
    """Return what `/ws` sends."""
    return data if isinstance(data, bytes) else orjson.dumps(data)


def next_funding_ms(now_ms: int) -> int:
    """Return the next of 0, 8 and 16 o'clock UTC."""
    return now_ms - now_ms % FUNDING_EVERY_MS + FUNDING_EVERY_MS


def shutdown(now_ms: int) -> Data:
    """Return the event that asks to connect anew, which has a stream of its own."""
    return {"e": "serverShutdown", "E": now_ms}


def _eight(contract: Contract, ticks: int) -> str:
    return fixed(ticks * 10 ** (8 - contract.scale), 8)


def garbage(symbol: str) -> tuple[Message, ...]:
    """Messages for a client of `symbol`, none of which can be decoded into market data of that symbol."""
    name = symbol.lower().encode()
    start = b'{"stream":"%b@aggTrade","data":' % name
    trade = (
        b'{"e":"aggTrade","E":1790000000123,"a":7,"s":"%b","p":"61234.50","q":%b,"T":1790000000001,"m":%b}'
    )
    own = symbol.encode()
    return (
        Message(b"<html><body>502 Bad Gateway</body></html>"),
        Message(start + b'{"e":"aggTrade","E":17900000'),  # JSON that stops
        Message(start + b'"nothing"}'),  # wrong type of data
        Message(start + trade % (own, b'"dear"', b"false") + b"}"),  # a quantity that is no number
        Message(start + trade % (own, b"null", b"7") + b"}"),  # wrong types inside
        Message(b'{"stream":"%b@depth20@100ms","data":{"lastUpdateId":"x","bids":7,"asks":null}}' % name),
        Message(b'{"stream":"%b@weather","data":{"e":"weather","E":1,"s":"%b"}}' % (name, own)),
        Message(b'{"stream":"otherusdt@aggTrade","data":' + trade % (b"OTHERUSDT", b'"1"', b"true") + b"}"),
        Message(start + trade % (own, b'"1\xff\xfe"', b"true") + b"}"),  # no UTF-8, in a text message
        Message(b"\x00\x01\x02\x03", is_text=False),
        Message(b"42"),
        Message(b""),
        Message(b"[" * 3000),  # nested deeper than a parser should follow
    )
