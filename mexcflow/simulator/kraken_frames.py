"""Kraken v2 frames as they are on the wire in 2026: bare JSON numbers with all their decimals.

Written by hand and not by a JSON library, because the digits count: the checksum of a book is made of the
digits as they are sent, 0.0280 and not 0.028. Shapes: captured frames of 2024 to 2026 (PROTOCOLS 8), the
manual for the lists of REST.
"""

import zlib
from collections.abc import Iterable, Sequence

import orjson

from mexcflow.simulator.book import Level
from mexcflow.simulator.contracts import Contract
from mexcflow.simulator.exchange import Message
from mexcflow.simulator.market import Candle, Depth, Ticker, Trade
from mexcflow.simulator.published import Change, Changes
from mexcflow.simulator.spelling import eight_decimals, fixed, iso_us, plain

CHECKED_LEVELS = 10
"""The checksum is made of so many levels a side, whatever the depth."""

Digits = tuple[str, str]
"""A level as it is sent: price and quantity."""


def checksum(asks: Sequence[Digits], bids: Sequence[Digits]) -> int:
    """Return the CRC32 of the ten best asks, then bids: digits without the point and leading zeros."""
    levels = (*asks[:CHECKED_LEVELS], *bids[:CHECKED_LEVELS])
    text = "".join(number.replace(".", "").lstrip("0") for level in levels for number in level)
    return zlib.crc32(text.encode())


def book(event: Depth, changes: Changes | None, depth: int, now_ms: int) -> bytes:
    """Return a `book` frame: the whole book to `depth` (`changes` is None), or what changed.

    The checksum is that of the book after it.
    """
    contract = event.contract
    asks, bids = digits(event.asks[:depth], contract), digits(event.bids[:depth], contract)
    check = checksum(asks, bids)
    if changes is not None:
        asks, bids = _changed(changes.asks, contract), _changed(changes.bids, contract)
    row = (
        f'{{"symbol":{_text(contract.symbol)},"bids":{_levels(bids)},"asks":{_levels(asks)},'
        f'"checksum":{check},"timestamp":"{iso_us(now_ms - event.age_ms, event.version)}"}}'
    )
    return _push("book", "snapshot" if changes is None else "update", [row])


def digits(levels: Iterable[Level], contract: Contract) -> list[Digits]:
    """Return levels as they are sent."""
    return [_digits(level.price_ticks, level.contracts, contract) for level in levels]


def _changed(changes: Iterable[Change], contract: Contract) -> list[Digits]:
    return [_digits(ticks, lots, contract) for ticks, lots in changes]


def _digits(ticks: int, lots: int, contract: Contract) -> Digits:
    return fixed(ticks, contract.scale), quantity(lots, contract)


def _levels(levels: Iterable[Digits]) -> str:
    rows = (f'{{"price":{price},"qty":{qty}}}' for price, qty in levels)
    return f"[{','.join(rows)}]"


def trades(contract: Contract, rows: Iterable[tuple[Trade, int]], kind: str) -> bytes:
    """Return a `trade` frame of trades with the ms they happened at; `side` is the taker's."""
    return _push("trade", kind, [_trade(contract, trade, at_ms) for trade, at_ms in rows])


def _trade(contract: Contract, trade: Trade, at_ms: int) -> str:
    return (
        f'{{"symbol":{_text(contract.symbol)},"side":"{"buy" if trade.aggressor_buys else "sell"}",'
        f'"price":{fixed(trade.price_ticks, contract.scale)},"qty":{quantity(trade.contracts, contract)},'
        f'"ord_type":"{"limit" if trade.opens == 1 else "market"}","trade_id":{trade.trade_id},'
        f'"timestamp":"{iso_us(at_ms, trade.trade_id)}"}}'
    )


def ticker(day: Ticker, book: Depth, now_ms: int, kind: str) -> bytes:
    """Return a `ticker` frame."""
    contract, bid, ask = day.contract, book.bids[0], book.asks[0]
    change = day.last_ticks - day.open_ticks
    mean_ticks = (day.low_ticks + day.high_ticks) // 2
    fields = {
        "symbol": _text(contract.symbol),
        "bid": fixed(bid.price_ticks, contract.scale),
        "bid_qty": quantity(bid.contracts, contract),
        "ask": fixed(ask.price_ticks, contract.scale),
        "ask_qty": quantity(ask.contracts, contract),
        "last": fixed(day.last_ticks, contract.scale),
        "volume": quantity(day.volume_contracts, contract),
        "vwap": fixed(mean_ticks, contract.scale),
        "low": fixed(day.low_ticks, contract.scale),
        "high": fixed(day.high_ticks, contract.scale),
        "change": fixed(change, contract.scale),
        "change_pct": fixed(change * 10_000 // day.open_ticks, 2),
        "trades": str(day.volume_contracts % 90_000),
        "timestamp": f'"{iso_us(now_ms, day.volume_contracts)}"',
    }
    return _push("ticker", kind, [_object(fields)])


def ohlc(candles: Sequence[Candle], now_ms: int, kind: str) -> bytes:
    """Return an `ohlc` frame; the row's own timestamp is the END of its interval. Nothing says closed."""
    rows = ",".join(_candle(candle) for candle in candles)
    sent = iso_us(now_ms, candles[-1].last_id).replace("Z", "475Z")
    return f'{{"channel":"ohlc","type":"{kind}","timestamp":"{sent}","data":[{rows}]}}'.encode()


def _candle(event: Candle) -> str:
    contract = event.contract
    volume = event.volume_contracts * contract.contract_size
    mean_ticks = int((event.amount_quote / volume).scaleb(contract.scale))
    fields = {
        "symbol": _text(contract.symbol),
        "open": fixed(event.open_ticks, contract.scale),
        "high": fixed(event.high_ticks, contract.scale),
        "low": fixed(event.low_ticks, contract.scale),
        "close": fixed(event.close_ticks, contract.scale),
        "trades": str(event.trades),
        "volume": eight_decimals(volume),
        "vwap": fixed(mean_ticks, contract.scale),
        "interval_begin": f'"{iso_us(event.open_ms).replace("Z", "000Z")}"',
        "interval": str((event.end_ms - event.open_ms) // 60_000),
        "timestamp": f'"{iso_us(event.end_ms)}"',
    }
    return _object(fields)


def status(connection_id: int) -> bytes:
    """Return the first frame of a connection; the id is above 2**53."""
    return _push(
        "status",
        "update",
        [
            '{"version":"2.0.10","system":"online","api_version":"v2",'
            f'"connection_id":{connection_id},"upcoming_maintenance":[],"emergency":[]}}'
        ],
    )


HEARTBEAT = b'{"channel":"heartbeat"}'
"""What comes each second in which no data came."""


def accepted(method: str, result: dict[str, object], request_id: object, now_ms: int) -> bytes:
    """Return the acknowledgement of one symbol; it repeats the options in `result`."""
    return _answer({"method": method}, {"result": result, "success": True}, request_id, now_ms)


def refused(error: str, method: str, symbol: str | None, request_id: object, now_ms: int) -> bytes:
    """Return a complaint; a wrong depth names no symbol."""
    named = {} if symbol is None else {"symbol": symbol}
    return _answer({"error": error, "method": method}, {"success": False, **named}, request_id, now_ms)


def pong(request_id: object, now_ms: int) -> bytes:
    """Return the answer to a ping."""
    return _answer({"method": "pong"}, {}, request_id, now_ms)


def _answer(head: dict[str, object], tail: dict[str, object], request_id: object, now_ms: int) -> bytes:
    given = {} if request_id is None else {"req_id": request_id}
    times = {"time_in": iso_us(now_ms, 114), "time_out": iso_us(now_ms, 107)}
    return orjson.dumps({**head, **given, **tail, **times})


def quantity(contracts: int, contract: Contract) -> str:
    """Return a quantity in base units with all eight decimals."""
    return eight_decimals(contracts * contract.contract_size)


def asset_pair(contract: Contract, *, legacy: bool) -> tuple[str, dict[str, object]]:
    """Return the key and the line of a pair; the legacy names say XBT for BTC and XDG for DOGE."""
    base, quote = contract.base, contract.quote
    old_base, old_quote = LEGACY.get(base, base), quote
    key, inner = legacy_key(contract.symbol), (_asset(old_base), _asset(old_quote))
    line: dict[str, object] = {
        "altname": f"{old_base}{old_quote}",
        "wsname": f"{old_base}/{old_quote}" if legacy else contract.symbol,
        "aclass_base": "currency",
        "base": inner[0] if legacy else base,
        "aclass_quote": "currency",
        "quote": inner[1] if legacy else quote,
        "lot": "unit",
        "cost_decimals": 5,
        "pair_decimals": contract.scale,
        "lot_decimals": 8,
        "lot_multiplier": 1,
        "leverage_buy": [2, 3, 4, 5],
        "leverage_sell": [2, 3, 4, 5],
        "fees": [[0, 0.4]],
        "fees_maker": [[0, 0.25]],
        "fee_volume_currency": "ZUSD",
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": "0.00005",
        "costmin": "0.5",
        "tick_size": plain(1, contract.scale),
        "status": "online",
        "execution_venue": "international",
    }
    return (key if legacy else contract.symbol), line


LEGACY = {"BTC": "XBT", "DOGE": "XDG"}
"""What REST still calls them."""
_OLD_ASSETS = frozenset({"XBT", "ETH", "LTC", "XRP", "XDG", "ETC", "XLM", "XMR", "ZEC", "REP", "MLN"})
_OLD_MONEY = frozenset({"USD", "EUR", "GBP", "JPY", "CAD"})


def legacy_key(symbol: str) -> str:
    """Return the key of a pair in REST: XXBTZUSD of BTC/USD, SOLUSD of SOL/USD."""
    base, quote = (LEGACY.get(name, name) for name in symbol.split("/"))
    if base in _OLD_ASSETS and quote in _OLD_MONEY and base != "XDG":
        return f"{_asset(base)}{_asset(quote)}"
    return f"{base}{quote}"


def _asset(name: str) -> str:
    if name in _OLD_ASSETS:
        return f"X{name}"
    return f"Z{name}" if name in _OLD_MONEY else name


def rest_depth(event: Depth, count: int, now_ms: int) -> dict[str, object]:
    """Return a book as REST has it: [price, quantity with three decimals, Unix s]."""

    def side(levels: Iterable[Level]) -> list[list[object]]:
        return [
            [price.ljust(price.index(".") + 6, "0"), qty[:-5], now_ms // 1000]
            for price, qty in digits(levels, event.contract)
        ]

    return {"asks": side(event.asks[:count]), "bids": side(event.bids[:count])}


def rest(result: object, *errors: str) -> bytes:
    """Return what REST answers; errors come with HTTP 200, too."""
    return orjson.dumps({"error": errors} if errors else {"error": [], "result": result})


def garbage(symbol: str) -> tuple[Message, ...]:
    """Messages for a client of `symbol`, none of which can be decoded into market data of that symbol."""
    name = _text(symbol)
    trade = (
        f'{{"symbol":{name},"side":"buy","price":77525.9,"qty":0.5,"ord_type":"limit","trade_id":7,'
        '"timestamp":"2026-09-10T17:35:52.114514Z"}'
    )

    def frame(channel: str, row: str) -> Message:
        return Message(_push(channel, "update", [row]))

    return (
        Message(b"<html><body>502 Bad Gateway</body></html>"),
        Message(_push("trade", "update", [trade])[:-20]),  # JSON that stops
        frame("trade", '"nothing"'),
        frame("trade", trade.replace("77525.9", '"dear"')),
        frame("trade", trade.replace("77525.9", "NaN")),
        frame("trade", trade.replace('"buy"', '"both"')),
        frame("trade", trade.replace("2026-09-10T", "soon ")),
        frame("trade", trade.replace(name, '"OTHER/USD"')),
        frame("weather", trade),
        frame("book", f'{{"symbol":{name},"bids":7,"asks":null,"checksum":"x"}}'),
        Message(b'{"channel":"trade","type":"update","data":[{"symbol":"\xff\xfe"}]}'),  # no UTF-8
        Message(b"\x00\x01\x02\x03", is_text=False),
        Message(b"42"),
        Message(b""),
        Message(b"[" * 3000),  # nested deeper than a parser should follow
    )


def _push(channel: str, kind: str, rows: Iterable[str]) -> bytes:
    return f'{{"channel":"{channel}","type":"{kind}","data":[{",".join(rows)}]}}'.encode()


def _object(fields: dict[str, str]) -> str:
    pairs = ",".join(f'"{key}":{value}' for key, value in fields.items())
    return f"{{{pairs}}}"


def _text(value: str) -> str:
    return orjson.dumps(value).decode()
