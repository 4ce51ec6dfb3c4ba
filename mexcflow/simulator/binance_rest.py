"""Binance's REST as far as a recorder asks for it: ping, time, symbols, depth, open interest."""

from collections.abc import Mapping
from typing import Any, ClassVar

import orjson

from mexcflow.simulator.binance_frames import FuturesFrames, SpotFrames
from mexcflow.simulator.contracts import Contract
from mexcflow.simulator.exchange import RestAnswer
from mexcflow.simulator.spelling import fixed
from mexcflow.simulator.typed import Typed

_BAD_SYMBOL = RestAnswer(b'{"code":-1121,"msg":"Invalid symbol."}', 400)
_FIRST_LISTED_MS = 1_600_000_000_000
_LAST_DELIVERY_MS = 4_100_000_000_000


class FuturesRest:
    """The paths of USD-M futures."""

    root: ClassVar[str] = "/fapi/v1"
    limits: ClassVar[tuple[int, ...]] = (5, 10, 20, 50, 100, 500, 1000)
    frames_of: ClassVar[type[FuturesFrames]] = FuturesFrames

    def __init__(self, exchange: Typed) -> None:
        self._exchange = exchange
        self._wire = self.frames_of()

    def answer(self, path: str, query: Mapping[str, str], now_ms: int) -> RestAnswer | None:
        """Return what a GET is answered with; None where there is nothing."""
        root, _, name = path.rpartition("/")
        if root != self.root:
            return None
        if name == "ping":
            return RestAnswer(b"{}")
        if name == "time":
            return _json({"serverTime": now_ms})
        if name == "exchangeInfo":
            return self._symbols(query, now_ms)
        if name == "depth":
            return self._depth(query, now_ms)
        return self._open_interest(query, now_ms) if name == "openInterest" else None

    def _symbols(self, query: Mapping[str, str], now_ms: int) -> RestAnswer:
        listed = [one for one in self._exchange.contracts if query.get("symbol", one.symbol) == one.symbol]
        if not listed:
            return _BAD_SYMBOL
        symbols = [self._symbol(contract) for contract in listed]
        return _json(
            {
                "timezone": "UTC",
                "serverTime": now_ms,
                "rateLimits": [],
                "exchangeFilters": [],
                "symbols": symbols,
            }
        )

    def _symbol(self, contract: Contract) -> dict[str, Any]:
        base, quote = contract.base, contract.quote
        return {
            "symbol": contract.symbol,
            "pair": contract.symbol,
            "contractType": "PERPETUAL",
            "deliveryDate": _LAST_DELIVERY_MS,
            "onboardDate": _FIRST_LISTED_MS,
            "status": "TRADING",
            "baseAsset": base,
            "quoteAsset": quote,
            "marginAsset": quote,
            "pricePrecision": max(contract.scale, 2),
            "quantityPrecision": max(-int(contract.contract_size.as_tuple().exponent), 0),
            "underlyingType": "COIN",
            "filters": self._filters(contract),
            "orderTypes": ["LIMIT", "MARKET"],
            "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
        }

    def _filters(self, contract: Contract) -> list[dict[str, str]]:
        step = self._wire.quantity(contract, 1)
        tick = self._tick(contract)
        return [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "1000", "stepSize": step},
        ]

    def _tick(self, contract: Contract) -> str:
        return self._wire.price(contract, 1)

    def _depth(self, query: Mapping[str, str], now_ms: int) -> RestAnswer:
        contract, limit = self._exchange.by_symbol.get(query.get("symbol", "")), query.get("limit", "500")
        if contract is None:
            return _BAD_SYMBOL
        if not limit.isdecimal() or not self._is_limit(int(limit)):
            return RestAnswer(b'{"code":-1130,"msg":"Data sent for parameter \'limit\' is not valid."}', 400)
        book = self._exchange.books.latest(contract.symbol)
        if book is None:
            return _json(self._book(0, [], [], now_ms, now_ms))
        depth, end = book.depth, int(limit)
        bids = self._wire.levels(contract, [level[:2] for level in depth.bids[:end]])
        asks = self._wire.levels(contract, [level[:2] for level in depth.asks[:end]])
        return _json(self._book(depth.version, bids, asks, now_ms, now_ms - depth.age_ms))

    def _is_limit(self, limit: int) -> bool:
        return limit in self.limits

    def _book(
        self, last_id: int, bids: list[tuple[str, str]], asks: list[tuple[str, str]], now_ms: int, at_ms: int
    ) -> dict[str, Any]:
        return {"lastUpdateId": last_id, "E": now_ms, "T": at_ms, "bids": bids, "asks": asks}

    def _open_interest(self, query: Mapping[str, str], now_ms: int) -> RestAnswer | None:
        contract = self._exchange.by_symbol.get(query.get("symbol", ""))
        if contract is None:
            return _BAD_SYMBOL
        ticker = self._exchange.tickers.get(contract.symbol)
        count = contract.open_interest if ticker is None else ticker.open_interest
        quantity = self._wire.quantity(contract, count)
        return _json({"symbol": contract.symbol, "openInterest": quantity, "time": now_ms})


class SpotRest(FuturesRest):
    """The paths of the spot market."""

    root: ClassVar[str] = "/api/v3"
    frames_of: ClassVar[type[FuturesFrames]] = SpotFrames

    def _symbol(self, contract: Contract) -> dict[str, Any]:
        return {
            "symbol": contract.symbol,
            "status": "TRADING",
            "baseAsset": contract.base,
            "baseAssetPrecision": 8,
            "quoteAsset": contract.quote,
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "orderTypes": ["LIMIT", "MARKET"],
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": True,
            "filters": self._filters(contract),
            "permissions": [],
        }

    def _tick(self, contract: Contract) -> str:
        return fixed(10 ** (8 - contract.scale), 8)

    def _is_limit(self, limit: int) -> bool:
        return 0 < limit <= 5000

    def _book(
        self, last_id: int, bids: list[tuple[str, str]], asks: list[tuple[str, str]], now_ms: int, at_ms: int
    ) -> dict[str, Any]:
        return {"lastUpdateId": last_id, "bids": bids, "asks": asks}

    def _open_interest(self, query: Mapping[str, str], now_ms: int) -> None:
        """Return None: nothing is open on a spot market."""


def _json(content: object) -> RestAnswer:
    return RestAnswer(orjson.dumps(content))
