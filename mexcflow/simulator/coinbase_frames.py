"""Coinbase Exchange frames as they are on the wire in 2026: numbers are texts, times ISO with µs.

Shapes: captured frames of 2021 to 2026 (PROTOCOLS 7), the manual for the lists of REST. Prices of the book
have all the decimals of the tick and sizes all eight; those of matches have no trailing zero.
"""

from collections.abc import Iterable, Sequence

import orjson

from mexcflow.simulator.book import Level
from mexcflow.simulator.contracts import Contract
from mexcflow.simulator.exchange import Message
from mexcflow.simulator.market import Depth, Ticker, Trade
from mexcflow.simulator.published import Changes
from mexcflow.simulator.spelling import eight_decimals, fixed, iso_us, plain, shortest

BATCH_MS = 50
"""Changes of a book are collected for so long."""


def match(contract: Contract, trade: Trade, now_ms: int, *, kind: str = "match") -> bytes:
    """Return a `match`, or the `last_match` from before the subscription; `side` is the MAKER's."""
    return orjson.dumps(
        {
            "type": kind,
            "trade_id": trade.trade_id,
            "maker_order_id": _order(trade.trade_id, 1),
            "taker_order_id": _order(trade.trade_id, 2),
            "side": "sell" if trade.aggressor_buys else "buy",
            "size": shortest(trade.contracts * contract.contract_size),
            "price": plain(trade.price_ticks, contract.scale),
            "product_id": contract.symbol,
            "sequence": sequence(trade.trade_id),
            "time": trade_time(trade, now_ms),
        }
    )


def ticker(trade: Trade, day: Ticker, book: Depth, now_ms: int) -> bytes:
    """Return a `ticker`, which comes with a trade; here `side` is the taker's."""
    contract = day.contract
    bid, ask = book.bids[0], book.asks[0]
    return orjson.dumps(
        {
            "type": "ticker",
            "sequence": sequence(trade.trade_id),
            "product_id": contract.symbol,
            "price": plain(trade.price_ticks, contract.scale),
            "open_24h": plain(day.open_ticks, contract.scale),
            "volume_24h": size(day.volume_contracts, contract),
            "low_24h": plain(min(day.low_ticks, trade.price_ticks), contract.scale),
            "high_24h": plain(max(day.high_ticks, trade.price_ticks), contract.scale),
            "volume_30d": size(day.volume_contracts * 29, contract),
            "best_bid": fixed(bid.price_ticks, contract.scale),
            "best_bid_size": size(bid.contracts, contract),
            "best_ask": fixed(ask.price_ticks, contract.scale),
            "best_ask_size": size(ask.contracts, contract),
            "side": "buy" if trade.aggressor_buys else "sell",
            "time": trade_time(trade, now_ms),
            "trade_id": trade.trade_id,
            "last_size": shortest(trade.contracts * contract.contract_size),
        }
    )


def snapshot(event: Depth) -> bytes:
    """Return the whole book, which comes once after subscribing to level2_batch; it has no time."""
    return orjson.dumps(
        {
            "type": "snapshot",
            "product_id": event.contract.symbol,
            "asks": levels(event.asks, event.contract),
            "bids": levels(event.bids, event.contract),
        }
    )


def l2update(contract: Contract, changes: Changes, now_ms: int) -> bytes:
    """Return changes of the book: absolute sizes, 0 removes a level. No sequence number: it has none."""
    rows = [
        [side, fixed(ticks, contract.scale), size(lots, contract)]
        for side, levels in (("buy", changes.bids), ("sell", changes.asks))
        for ticks, lots in levels
    ]
    return orjson.dumps(
        {
            "type": "l2update",
            "product_id": contract.symbol,
            "changes": rows,
            "time": iso_us(now_ms // BATCH_MS * BATCH_MS),
        }
    )


def levels(side: Iterable[Level], contract: Contract) -> list[list[str]]:
    """Return levels as [price, size]."""
    return [[fixed(level.price_ticks, contract.scale), size(level.contracts, contract)] for level in side]


def heartbeat(symbol: str, last_trade_id: int, now_ms: int) -> bytes:
    """Return the `heartbeat` of a product, which comes once a second, on the whole second."""
    return orjson.dumps(
        {
            "type": "heartbeat",
            "last_trade_id": last_trade_id,
            "product_id": symbol,
            "sequence": sequence(last_trade_id),
            "time": iso_us(now_ms // 1000 * 1000),
        }
    )


def subscriptions(state: Iterable[tuple[str, Sequence[str]]]) -> bytes:
    """Return the acknowledgement: all that this connection has subscribed to by now."""
    channels = [
        {"name": name, "product_ids": list(products), "account_ids": None} for name, products in state
    ]
    return orjson.dumps({"type": "subscriptions", "channels": channels})


def error(reason: str) -> bytes:
    """Return a complaint about a subscription."""
    return orjson.dumps({"type": "error", "message": "Failed to subscribe", "reason": reason})


def product(contract: Contract) -> dict[str, object]:
    """Return one line of the list of products."""
    base, quote = contract.base, contract.quote
    return {
        "id": contract.symbol,
        "base_currency": base,
        "quote_currency": quote,
        "quote_increment": plain(1, contract.scale),
        "base_increment": "0.00000001",
        "display_name": f"{base}-{quote}",
        "min_market_funds": "1",
        "margin_enabled": False,
        "post_only": False,
        "limit_only": False,
        "cancel_only": False,
        "status": "online",
        "status_message": "",
        "trading_disabled": False,
        "fx_stablecoin": False,
        "max_slippage_percentage": "0.02000000",
        "auction_mode": False,
        "high_bid_limit_percentage": "",
    }


def rest_book(event: Depth, count: int | None, now_ms: int) -> bytes:
    """Return the best so many levels (None: all) as REST has them, with their number of orders."""

    def side(kept: Sequence[Level]) -> list[list[object]]:
        texts = levels(kept, event.contract)
        return [[*text, level.orders] for text, level in zip(texts, kept, strict=True)]

    return orjson.dumps(
        {
            "bids": side(event.bids[:count]),
            "asks": side(event.asks[:count]),
            "sequence": event.version,
            "auction_mode": False,
            "auction": None,
            "time": iso_us(now_ms, event.version),
        }
    )


def trade_time(trade: Trade, now_ms: int) -> str:
    """Return when a trade was executed."""
    return iso_us(now_ms - trade.age_ms, trade.trade_id)


def sequence(trade_id: int) -> int:
    """Return the number of a match among all the events of its product, of which most are no matches."""
    return trade_id * 124


def size(contracts: int, contract: Contract) -> str:
    """Return a quantity in base units with all eight decimals."""
    return eight_decimals(contracts * contract.contract_size)


def garbage(symbol: str) -> tuple[Message, ...]:
    """Messages for a client of `symbol`, none of which can be decoded into market data of that symbol."""
    row = {
        "type": "match",
        "trade_id": 7,
        "side": "buy",
        "size": "0.5",
        "price": "77525.9",
        "product_id": symbol,
        "time": "2026-09-02T07:44:10.104422Z",
    }

    def frame(**changed: object) -> Message:
        return Message(orjson.dumps({**row, **changed}))

    return (
        Message(b"<html><body>502 Bad Gateway</body></html>"),
        Message(orjson.dumps(row)[:-20]),  # JSON that stops
        frame(price="dear"),
        frame(size="0.-10000"),  # has been seen
        frame(side="both"),
        frame(time="soon"),
        frame(product_id="OTHER-USD"),
        frame(type="weather"),
        frame(type="l2update", changes=[["buy", 7]]),
        frame(type="snapshot", asks=7, bids=None),
        Message(b'{"type":"match","product_id":"\xff\xfe"}'),  # no UTF-8, in a text message
        Message(b"\x00\x01\x02\x03", is_text=False),
        Message(b"42"),
        Message(b""),
        Message(b"[" * 3000),  # nested deeper than a parser should follow
    )


def _order(trade_id: int, role: int) -> str:
    """Return an order's id: a UUID that is the same each time."""
    return f"{trade_id & 0xFFFFFFFF:08x}-{role:04x}-4abc-9def-{trade_id * 2654435761 % 2**48:012x}"
