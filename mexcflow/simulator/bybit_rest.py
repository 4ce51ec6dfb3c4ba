"""Bybit's REST as far as a recorder asks for it: time, symbols by pages, depth. Errors are HTTP 200, too."""

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote, unquote

from mexcflow.simulator.bybit_frames import BybitFrames, update_id
from mexcflow.simulator.contracts import Contract
from mexcflow.simulator.typed import Typed

_ROOT = "/v5/market/"
_PARAMETER_ERROR = 10001


class BybitRest:
    """The paths below /v5/market."""

    page: ClassVar[int] = 1000
    """The most symbols that one page has."""

    def __init__(self, exchange: Typed) -> None:
        self._exchange = exchange
        self._wire = BybitFrames()

    def answer(self, path: str, query: Mapping[str, str], now_ms: int) -> dict[str, Any] | None:
        """Return what a GET is answered with; None where there is nothing."""
        name = path.removeprefix(_ROOT)
        if name == "time":
            times = {"timeSecond": str(now_ms // 1000), "timeNano": str(now_ms * 1_000_000)}
            return _answer(times, now_ms)
        if name not in ("instruments-info", "orderbook") or not path.startswith(_ROOT):
            return None
        if query.get("category") != "linear":
            return _error("Illegal category", now_ms)
        if "symbol" in query and query["symbol"] not in self._exchange.by_symbol:
            return _error("params error: Symbol Invalid", now_ms)
        return self._symbols(query, now_ms) if name == "instruments-info" else self._depth(query, now_ms)

    def _symbols(self, query: Mapping[str, str], now_ms: int) -> dict[str, Any]:
        asked = query.get("limit", "500")
        if not asked.isdecimal() or not 1 <= int(asked) <= 1000:
            return _error("params error: limit invalid", now_ms)
        listed = [query["symbol"]] if "symbol" in query else sorted(self._exchange.by_symbol)
        _, _, last = unquote(query.get("cursor", "")).partition("&last=")
        rest = [symbol for symbol in listed if symbol > last]
        page = rest[: min(int(asked), self.page)]
        cursor = quote(f"first={page[0]}&last={page[-1]}", safe="") if len(page) < len(rest) else ""
        rows = [_instrument(self._exchange.by_symbol[symbol], self._wire) for symbol in page]
        return _answer({"category": "linear", "list": rows, "nextPageCursor": cursor}, now_ms)

    def _depth(self, query: Mapping[str, str], now_ms: int) -> dict[str, Any]:
        asked = query.get("limit", "25")
        if "symbol" not in query or not asked.isdecimal() or not 1 <= int(asked) <= 1000:
            return _error("params error", now_ms)
        symbol, end = query["symbol"], int(asked)
        book = self._exchange.books.latest(symbol)
        if book is None:
            return _answer({"s": symbol, "b": [], "a": [], "ts": 0, "u": 0, "seq": 0, "cts": 0}, now_ms)
        depth = book.depth
        result = {
            "s": symbol,
            "b": self._wire.levels(depth.contract, [level[:2] for level in depth.bids[:end]]),
            "a": self._wire.levels(depth.contract, [level[:2] for level in depth.asks[:end]]),
            "ts": now_ms,
            "u": update_id(book),
            "seq": depth.version,
            "cts": now_ms - depth.age_ms,
        }
        return _answer(result, now_ms)


def _instrument(contract: Contract, wire: BybitFrames) -> dict[str, Any]:
    tick, step = wire.price(contract, 1), wire.quantity(contract, 1)
    return {
        "symbol": contract.symbol,
        "contractType": "LinearPerpetual",
        "status": "Trading",
        "baseCoin": contract.base,
        "quoteCoin": contract.quote,
        "launchTime": "1600000000000",
        "deliveryTime": "0",
        "deliveryFeeRate": "",
        "priceScale": str(max(contract.scale, 2)),
        "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
        "priceFilter": {"minPrice": tick, "maxPrice": "1999999.80", "tickSize": tick},
        "lotSizeFilter": {"maxOrderQty": "1000", "minOrderQty": step, "qtyStep": step},
        "unifiedMarginTrade": True,
        "fundingInterval": 480,
        "settleCoin": contract.quote,
        "copyTrading": "both",
        "isPreListing": False,
        "preListingInfo": None,
    }


def _answer(result: dict[str, Any], now_ms: int) -> dict[str, Any]:
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": now_ms}


def _error(text: str, now_ms: int) -> dict[str, Any]:
    return {"retCode": _PARAMETER_ERROR, "retMsg": text, "result": {}, "retExtInfo": {}, "time": now_ms}
