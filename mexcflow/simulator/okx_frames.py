"""OKX v5 frames of perpetual swaps as they are on the wire in 2026: every number is a text.

Shapes: captured frames of 2022 to 2026 (PROTOCOLS 6), the manual where none was captured (mark price, index,
open interest, funding). One lot of the generated market is 0.01 contracts, so that quantities have decimals
as the real ones do; a contract is `ctVal` base units.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal

import orjson

from mexcflow.simulator.book import Level
from mexcflow.simulator.contracts import Contract
from mexcflow.simulator.exchange import Message
from mexcflow.simulator.market import Candle, Depth, Ticker, Trade
from mexcflow.simulator.published import Change, Changes
from mexcflow.simulator.spelling import plain, shortest

LOTS_IN_CONTRACT = 100
_LOT_SCALE = 2
FUNDING_EVERY_MS = 8 * 3600 * 1000

Arg = dict[str, str]
"""What a subscription names: channel and instId."""


def index_of(symbol: str) -> str:
    """Return the index that a swap follows: BTC-USDT of BTC-USDT-SWAP."""
    return symbol.removesuffix("-SWAP")


def trades(contract: Contract, group: Sequence[Trade], now_ms: int) -> bytes:
    """Return a `trades` frame of fills of one price and side: the id is that of one of them."""
    last = group[-1]
    row = {
        "instId": contract.symbol,
        "tradeId": str(last.trade_id),
        "px": _price(last.price_ticks, contract),
        "sz": _lots(sum(trade.contracts for trade in group)),
        "side": "buy" if last.aggressor_buys else "sell",
        "ts": str(now_ms - last.age_ms),
        "count": str(len(group)),
        "source": "0",
        "seqId": last.trade_id * 17,
    }
    return _push("trades", contract.symbol, [row])


def books5(event: Depth, now_ms: int) -> bytes:
    """Return a `books5` frame: the best five levels, whole."""
    row = {
        "asks": levels(event.asks[:5], event.contract),
        "bids": levels(event.bids[:5], event.contract),
        "instId": event.contract.symbol,
        "ts": str(now_ms - event.age_ms),
        "seqId": event.version,
    }
    return _push("books5", event.contract.symbol, [row])


def books(event: Depth, changes: Changes | None, now_ms: int, previous: int = -1) -> bytes:
    """Return a `books` frame: the whole book (`changes` is None), or what changed since `previous`."""
    contract = event.contract
    sides = {
        "asks": levels(event.asks, contract)
        if changes is None
        else _changed(changes.asks, event.asks, contract),
        "bids": levels(event.bids, contract)
        if changes is None
        else _changed(changes.bids, event.bids, contract),
    }
    row = {
        **sides,
        "ts": str(now_ms - event.age_ms),
        "checksum": 0,  # since June 2026
        "seqId": event.version,
        "prevSeqId": previous,
    }
    arg = {"channel": "books", "instId": contract.symbol}
    return orjson.dumps({"arg": arg, "action": "snapshot" if changes is None else "update", "data": [row]})


def _changed(changes: Iterable[Change], side: Iterable[Level], contract: Contract) -> list[list[str]]:
    orders = {level.price_ticks: level.orders for level in side}
    return levels((Level(ticks, lots, orders.get(ticks, 0)) for ticks, lots in changes), contract)


def rest_book(event: Depth, size: int, now_ms: int) -> bytes:
    """Return the best so many levels as REST has them."""
    sides = {
        "asks": levels(event.asks[:size], event.contract),
        "bids": levels(event.bids[:size], event.contract),
    }
    return answer([{**sides, "ts": str(now_ms), "seqId": event.version}])


def levels(side: Iterable[Level], contract: Contract) -> list[list[str]]:
    """Return levels as [price, contracts, "0", orders]; what is gone has neither contracts nor orders."""
    return [
        [_price(level.price_ticks, contract), _lots(level.contracts), "0", str(level.orders)]
        for level in side
    ]


def ticker(event: Ticker, now_ms: int) -> bytes:
    """Return a `tickers` frame; vol24h counts contracts, volCcy24h base units."""
    contract = event.contract
    row = {
        "instType": "SWAP",
        "instId": contract.symbol,
        "last": _price(event.last_ticks, contract),
        "lastSz": _lots(1 + event.volume_contracts % 997),
        "askPx": _price(event.ask_ticks, contract),
        "askSz": _lots(1 + event.volume_contracts % 8_999),
        "bidPx": _price(event.bid_ticks, contract),
        "bidSz": _lots(1 + event.volume_contracts % 7_919),
        **_day(event),
        "volCcy24h": shortest(event.volume_contracts * contract.contract_size),
        "vol24h": _lots(event.volume_contracts),
        "ts": str(now_ms),
    }
    return _push("tickers", contract.symbol, [row])


def mark_price(event: Ticker, now_ms: int) -> bytes:
    """Return a `mark-price` frame."""
    symbol, price = event.contract.symbol, _price(event.mark_ticks, event.contract)
    row = {"instType": "SWAP", "instId": symbol, "markPx": price, "ts": str(now_ms)}
    return _push("mark-price", symbol, [row])


def index_ticker(event: Ticker, now_ms: int) -> bytes:
    """Return an `index-tickers` frame; it names the index, BTC-USDT, not the swap."""
    index = index_of(event.contract.symbol)
    price = _price(event.index_ticks, event.contract)
    return _push(
        "index-tickers", index, [{"instId": index, "idxPx": price, **_day(event), "ts": str(now_ms)}]
    )


def open_interest(event: Ticker, now_ms: int) -> bytes:
    """Return an `open-interest` frame: contracts, base units, and their worth."""
    contract = event.contract
    base = event.open_interest * contract.contract_size
    row = {
        "instId": contract.symbol,
        "instType": "SWAP",
        "oi": _lots(event.open_interest),
        "oiCcy": shortest(base),
        "oiUsd": shortest(base * Decimal(event.mark_ticks).scaleb(-contract.scale)),
        "ts": str(now_ms),
    }
    return _push("open-interest", contract.symbol, [row])


def funding_rate(event: Ticker, now_ms: int) -> bytes:
    """Return a `funding-rate` frame; fundingTime is the settlement that comes next."""
    symbol = event.contract.symbol
    rate = plain(event.funding_rate_e6, 6)
    settles_ms = (now_ms // FUNDING_EVERY_MS + 1) * FUNDING_EVERY_MS
    row = {
        "formulaType": "withRate",
        "fundingRate": rate,
        "fundingTime": str(settles_ms),
        "impactValue": "20000.0000000000000000",
        "instId": symbol,
        "instType": "SWAP",
        "interestRate": "0.0001000000000000",
        "maxFundingRate": "0.00375",
        "method": "current_period",
        "minFundingRate": "-0.00375",
        "nextFundingRate": "",
        "nextFundingTime": str(settles_ms + FUNDING_EVERY_MS),
        "premium": "-0.0001969158061855",
        "prevFundingTime": str(settles_ms - FUNDING_EVERY_MS),
        "settFundingRate": rate,
        "settState": "settled",
        "ts": str(now_ms),
    }
    return _push("funding-rate", symbol, [row])


def candle(channel: str, event: Candle) -> bytes:
    """Return a `candle...` frame: open time, o, h, l, c, contracts, base and quote units, closed or not."""
    contract = event.contract
    prices = (event.open_ticks, event.high_ticks, event.low_ticks, event.close_ticks)
    row = [
        str(event.open_ms),
        *(_price(ticks, contract) for ticks in prices),
        _lots(event.volume_contracts),
        shortest(event.volume_contracts * contract.contract_size),
        shortest(event.amount_quote),
        "1" if event.closed else "0",
    ]
    return _push(channel, contract.symbol, [row])


def instrument(contract: Contract) -> dict[str, object]:
    """Return one line of the list of instruments."""
    base, quote = contract.base, contract.quote
    return {
        "alias": "",
        "baseCcy": "",
        "category": "1",
        "ctMult": "1",
        "ctType": "linear",
        "ctVal": shortest(contract.contract_size * LOTS_IN_CONTRACT),
        "ctValCcy": base,
        "expTime": "",
        "instFamily": f"{base}-{quote}",
        "instId": contract.symbol,
        "instType": "SWAP",
        "lever": "100",
        "listTime": "1606468572000",
        "lotSz": "0.01",
        "maxLmtSz": "100000000",
        "minSz": "0.01",
        "optType": "",
        "quoteCcy": "",
        "ruleType": "normal",
        "settleCcy": quote,
        "state": "live",
        "stk": "",
        "tickSz": plain(1, contract.scale),
        "uly": f"{base}-{quote}",
    }


def answer(data: list[object], code: str = "0", msg: str = "") -> bytes:
    """Return what REST answers."""
    return orjson.dumps({"code": code, "data": data, "msg": msg})


def done(event: str, arg: Arg, conn_id: str, request_id: object) -> bytes:
    """Return the acknowledgement of one argument; the id of the request stands before it if it had one."""
    given = {} if request_id is None else {"id": request_id}
    return orjson.dumps({**given, "event": event, "arg": arg, "connId": conn_id})


def error(code: str, msg: str, conn_id: str) -> bytes:
    """Return a complaint."""
    return orjson.dumps({"event": "error", "msg": msg, "code": code, "connId": conn_id})


def notice(conn_id: str) -> bytes:
    """Return the warning that comes about 60 s before a server is upgraded."""
    msg = "The connection will soon be closed for a service upgrade. Please reconnect."
    return orjson.dumps({"event": "notice", "code": "64008", "msg": msg, "connId": conn_id})


def garbage(symbol: str) -> tuple[Message, ...]:
    """Messages for a client of `symbol`, none of which can be decoded into market data of that symbol."""

    def frame(channel: str, data: object, inst: str = symbol) -> Message:
        return Message(orjson.dumps({"arg": {"channel": channel, "instId": inst}, "data": data}))

    row = {"instId": symbol, "tradeId": "7", "px": "77525.9", "sz": "1", "side": "buy", "ts": "1788335242156"}
    return (
        Message(b"<html><body>502 Bad Gateway</body></html>"),
        Message(frame("trades", [row]).payload[:-20]),  # JSON that stops
        frame("trades", "nothing"),
        frame("trades", [{**row, "px": "dear"}]),
        frame("trades", [{**row, "side": "both"}]),
        frame("trades", [{**row, "ts": "now"}]),
        frame("books5", [{"asks": 7, "bids": None, "ts": "1788335242156", "seqId": "x"}]),
        frame("weather", [row]),
        frame("trades", [{**row, "instId": "OTHER-USDT-SWAP"}], "OTHER-USDT-SWAP"),
        Message(b'{"arg":{"channel":"trades","instId":"\xff\xfe"}}'),  # no UTF-8, in a text message
        Message(b"\x00\x01\x02\x03", is_text=False),
        Message(b"42"),
        Message(b""),
        Message(b"[" * 3000),  # nested deeper than a parser should follow
    )


def _day(event: Ticker) -> dict[str, str]:
    contract = event.contract
    opened = _price(event.open_ticks, contract)
    return {
        "open24h": opened,
        "high24h": _price(event.high_ticks, contract),
        "low24h": _price(event.low_ticks, contract),
        "sodUtc0": opened,
        "sodUtc8": opened,
    }


def _push(channel: str, symbol: str, data: Sequence[object]) -> bytes:
    return orjson.dumps({"arg": {"channel": channel, "instId": symbol}, "data": data})


def _price(ticks: int, contract: Contract) -> str:
    return plain(ticks, contract.scale)


def _lots(lots: int) -> str:
    return plain(lots, _LOT_SCALE)
