"""Bybit's frames of linear contracts as they are on the wire in 2026: keys in their order, numbers as texts.

Shapes: frames seen live from March to September 2026. Prices have two decimals or more, quantities those of
the contract size. Times are Unix ms.
"""

import uuid
from typing import Any

import orjson

from mexcflow.simulator.contracts import Contract
from mexcflow.simulator.exchange import Message
from mexcflow.simulator.market import Candle, Ticker, Trades
from mexcflow.simulator.published import Change, Changes, Published
from mexcflow.simulator.spelling import Spell, fixed

FUNDING_EVERY_MS = 8 * 3_600_000
FIRST_UPDATE = 20_000_000
"""The update id before the first state of a book; 1 would mean that the service was restarted."""
_IDS = uuid.UUID("7d3c0a52-6f0e-4c55-9a77-0f3f3b1f9d10")


class BybitFrames:
    """Spells market events; `spell` may give numbers another text of the same value."""

    def __init__(self, spell: Spell = str) -> None:
        self._spell = spell

    def price(self, contract: Contract, ticks: int) -> str:
        """Spell a price: at least two decimals."""
        decimals = max(contract.scale, 2)
        return self._spell(fixed(ticks * 10 ** (decimals - contract.scale), decimals))

    def quantity(self, contract: Contract, count: int) -> str:
        """Spell a quantity in base units; 0 is just 0."""
        return self._spell(f"{count * contract.contract_size:f}") if count else "0"

    def trades(self, event: Trades, at_ms: int, now_ms: int) -> bytes:
        """Return a publicTrade frame: all trades of the event, with one number for all of them."""
        contract, before, data = event.contract, None, []
        for trade in event.trades:
            moved = "Plus" if trade.aggressor_buys else "Minus"
            data.append(
                {
                    "T": at_ms,
                    "s": contract.symbol,
                    "S": "Buy" if trade.aggressor_buys else "Sell",
                    "v": self.quantity(contract, trade.contracts),
                    "p": self.price(contract, trade.price_ticks),
                    "L": f"{'Zero' if trade.price_ticks == before else ''}{moved}Tick",
                    "i": str(uuid.uuid5(_IDS, f"{contract.symbol} {trade.trade_id}")),
                    "BT": False,
                    "RPI": False,
                    "seq": event.trades[0].trade_id,
                }
            )
            before = trade.price_ticks
        head = {"topic": f"publicTrade.{contract.symbol}", "type": "snapshot", "ts": now_ms}
        return orjson.dumps({**head, "data": data})

    def snapshot(self, book: Published, depth: int, now_ms: int) -> bytes:
        """Return a whole book, as far as the topic of that depth goes."""
        bids = [level[:2] for level in book.depth.bids[:depth]]
        asks = [level[:2] for level in book.depth.asks[:depth]]
        return self._book("snapshot", book, Changes(tuple(bids), tuple(asks)), depth, now_ms)

    def delta(self, book: Published, changes: Changes, depth: int, now_ms: int) -> bytes:
        """Return what changed: new quantities, 0 removes a level, also one that left the window."""
        return self._book("delta", book, changes, depth, now_ms)

    def _book(self, kind: str, book: Published, changes: Changes, depth: int, now_ms: int) -> bytes:
        contract = book.depth.contract
        data = {
            "s": contract.symbol,
            "b": self.levels(contract, sorted(changes.bids, reverse=True)),
            "a": self.levels(contract, sorted(changes.asks)),
            "u": update_id(book),
            "seq": book.depth.version,
        }
        topic = f"orderbook.{depth}.{contract.symbol}"
        head = {"topic": topic, "type": kind, "ts": now_ms}
        if depth == 1:  # there the time comes first
            head = {"topic": topic, "ts": now_ms, "type": kind}
        return orjson.dumps({**head, "data": data, "cts": now_ms - book.depth.age_ms})

    def levels(self, contract: Contract, levels: list[Change]) -> list[tuple[str, str]]:
        """Spell levels of a book."""
        return [(self.price(contract, ticks), self.quantity(contract, count)) for ticks, count in levels]

    def ticker_fields(self, event: Ticker, book: Published | None, now_ms: int) -> dict[str, str]:
        """Return all fields of a ticker; open interest is of both sides, and once more of one."""
        contract, size = event.contract, event.contract.contract_size
        mark = event.mark_ticks * size / 10**contract.scale
        sizes = (1, 1) if book is None else (book.depth.bids[0].contracts, book.depth.asks[0].contracts)
        day = (event.last_ticks - event.open_ticks) * 1_000_000 // event.open_ticks
        return {
            "symbol": contract.symbol,
            "tickDirection": "ZeroPlusTick" if event.last_ticks >= event.mark_ticks else "ZeroMinusTick",
            "price24hPcnt": fixed(day, 6),
            "lastPrice": self.price(contract, event.last_ticks),
            "prevPrice24h": self.price(contract, event.open_ticks),
            "highPrice24h": self.price(contract, event.high_ticks),
            "lowPrice24h": self.price(contract, event.low_ticks),
            "prevPrice1h": self.price(contract, event.open_ticks),
            "markPrice": self.price(contract, event.mark_ticks),
            "indexPrice": self.price(contract, event.index_ticks),
            "openInterest": self.quantity(contract, 2 * event.open_interest),
            "openInterestValue": f"{2 * event.open_interest * mark:.2f}",
            "turnover24h": f"{event.amount_quote:.4f}",
            "volume24h": f"{event.volume_contracts * size:.4f}",
            "fundingIntervalHour": "8",
            "fundingCap": "0.005",
            "singleOpenInterest": self.quantity(contract, event.open_interest),
            "singleOpenInterestValue": f"{event.open_interest * mark:.2f}",
            "nextFundingTime": str(now_ms - now_ms % FUNDING_EVERY_MS + FUNDING_EVERY_MS),
            "fundingRate": self._spell(fixed(event.funding_rate_e6 * 100, 8)),
            "bid1Price": self.price(contract, event.bid_ticks),
            "bid1Size": self.quantity(contract, sizes[0]),
            "ask1Price": self.price(contract, event.ask_ticks),
            "ask1Size": self.quantity(contract, sizes[1]),
            "preOpenPrice": "",
            "preQty": "",
            "curPreListingPhase": "",
        }

    def candle(self, event: Candle, interval: str, now_ms: int) -> bytes:
        """Return a kline frame; `interval` is Bybit's word."""
        contract = event.contract
        data = {
            "start": event.open_ms,
            "end": event.end_ms - 1,
            "interval": interval,
            "open": self.price(contract, event.open_ticks),
            "close": self.price(contract, event.close_ticks),
            "high": self.price(contract, event.high_ticks),
            "low": self.price(contract, event.low_ticks),
            "volume": self.quantity(contract, event.volume_contracts),
            "turnover": f"{event.amount_quote:f}",
            "confirm": event.closed,
            "timestamp": now_ms,
        }
        topic = f"kline.{interval}.{contract.symbol}"
        return orjson.dumps({"topic": topic, "data": [data], "ts": now_ms, "type": "snapshot"})


def update_id(book: Published) -> int:
    """Return the number of a book's state, which rises by one."""
    return FIRST_UPDATE + book.number


def ticker(kind: str, fields: dict[str, str], sequence: int, now_ms: int) -> bytes:
    """Return a tickers frame of all fields or of those that changed; the symbol is always there."""
    head = {"topic": f"tickers.{fields['symbol']}", "type": kind, "data": fields}
    return orjson.dumps({**head, "cs": sequence, "ts": now_ms})


def answer(op: str, request_id: str, connection: str, *, error: str = "", text: str = "") -> bytes:
    """Return an answer to a request, which names no topic unless it is an error."""
    content: dict[str, Any] = {
        "success": not error,
        "ret_msg": error or text,
        "conn_id": connection,
        "req_id": request_id,
        "op": op,
    }
    return orjson.dumps(content)


def garbage(symbol: str) -> tuple[Message, ...]:
    """Messages for a client of `symbol`, none of which can be decoded into market data of that symbol."""
    own = symbol.encode()
    start = b'{"topic":"publicTrade.%b","type":"snapshot","ts":1790000000123,"data":' % own
    trade = b'{"T":1790000000001,"s":"%b","S":"Buy","v":%b,"p":"61234.50","i":"7"}'
    book = b'{"topic":"orderbook.50.%b","type":%b,"ts":1790000000123,"data":%b}'
    return (
        Message(b"<html><body>502 Bad Gateway</body></html>"),
        Message(start + b'[{"T":1790000000001,"s":"'),  # JSON that stops
        Message(start + b'"nothing"}'),  # wrong type of data
        Message(start + b"[" + trade % (own, b'"dear"') + b"]}"),  # a quantity that is no number
        Message(start + b"[" + trade % (own, b"null") + b"]}"),  # wrong types inside
        Message(book % (own, b'"delta"', b'{"s":7,"b":null,"a":8}')),
        Message(book % (own, b'"rumour"', b'{"s":"%b","b":[],"a":[],"u":7,"seq":7}' % own)),
        Message(b'{"topic":"weather.%b","type":"snapshot","ts":1790000000123,"data":{}}' % own),
        Message(start.replace(own, b"OTHERUSDT") + b"[" + trade % (b"OTHERUSDT", b'"1"') + b"]}"),
        Message(start + b"[" + trade % (own, b'"1\xff\xfe"') + b"]}"),  # no UTF-8, in a text message
        Message(b"\x00\x01\x02\x03", is_text=False),
        Message(b"42"),
        Message(b""),
        Message(b"[" * 3000),  # nested deeper than a parser should follow
    )
