"""MEXC's REST on localhost: the contract list, as `GET /api/v1/contract/detail` gives it."""

from collections.abc import Iterable
from decimal import Decimal

import orjson

from mexcflow.simulator.contracts import Contract

DETAIL = "/api/v1/contract/detail"


def contract_detail(contracts: Iterable[Contract], symbol: str = "") -> bytes:
    """Return all contracts as a list, or the one that is asked for alone.

    As on the real one an unknown symbol is told with HTTP 200.
    """
    details = {contract.symbol: _detail(number, contract) for number, contract in enumerate(contracts, 10)}
    if not symbol:
        return _success(b"[" + b",".join(details.values()) + b"]")
    if symbol not in details:
        return orjson.dumps({"success": False, "code": 1001, "message": "Contract does not exist!"})
    return _success(details[symbol])


def _success(data: bytes) -> bytes:
    return b'{"success":true,"code":0,"data":' + data + b"}"


def _detail(number: int, contract: Contract) -> bytes:
    base, _, quote = contract.symbol.partition("_")
    detail = {
        "symbol": contract.symbol,
        "displayNameEn": f"{contract.symbol} PERPETUAL",
        "baseCoin": base,
        "quoteCoin": quote,
        "futureType": 1,
        "settleCoin": quote,
        "contractSize": orjson.Fragment(_bare(contract.contract_size)),
        "minLeverage": 1,
        "maxLeverage": 100,
        "priceScale": contract.scale,
        "volScale": 0,
        "priceUnit": orjson.Fragment(_bare(Decimal(1).scaleb(-contract.scale))),
        "volUnit": 1,
        "minVol": 1,
        "maxVol": 1_000_000,
        "state": 0,
        "isNew": False,
        "apiAllowed": False,
        "id": number,
    }
    return orjson.dumps(detail)


def _bare(number: Decimal) -> str:
    """Return a number as it stands in JSON, without a float in between."""
    return format(number, "f")
