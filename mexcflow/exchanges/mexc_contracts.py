"""The contract list of MEXC futures, `GET /api/v1/contract/detail`.

Source: https://www.mexc.com/api-docs/futures/market-endpoints/get-contract-info, and an answer seen live in
September 2026.

Oddities that this file knows of:

- `data` is a list of all contracts; where one `symbol` is asked for, it is that contract alone.
- Errors come with HTTP 200: `{"success":false,"code":510,"message":"..."}`.
- Numbers are bare JSON numbers, taken as text: 0.0001 may as well be 1E-4.
- A contract that is settled in its base coin (BTC_USD in BTC) is worth `contractSize` of the quote currency.
- Delisted contracts are not in the list.
"""

import msgspec
from msgspec import Raw

from mexcflow.exchanges.numbers import exact
from mexcflow.exchanges.typed import Listing
from mexcflow.model import Instrument, Undecodable

_STATES = ("trading", "delivery", "completed", "offline", "pause")
"""What the manual calls the numbers; it calls 0 "enabled"."""
_DELIVERED = 2


class _Contract(msgspec.Struct, gc=False):
    symbol: str
    baseCoin: str = ""  # noqa: N815 - the exchange's names
    quoteCoin: str = ""  # noqa: N815
    settleCoin: str = ""  # noqa: N815
    contractSize: Raw = Raw()  # noqa: N815
    priceUnit: Raw = Raw()  # noqa: N815
    volUnit: Raw = Raw()  # noqa: N815
    futureType: int | None = None  # noqa: N815
    state: int | None = None


class _Answer(msgspec.Struct, gc=False):
    success: bool
    data: list[_Contract] | _Contract | None = None
    code: int = 0
    message: str = ""


_read_answer = msgspec.json.Decoder(_Answer).decode


def read_contracts(body: bytes) -> Listing:
    """Return the whole list, which has one page; `Undecodable` for an error or what is no list."""
    try:
        answer = _read_answer(body)
    except msgspec.DecodeError as error:
        raise Undecodable(f"no list of contracts: {error}") from error
    if not answer.success or answer.data is None:
        raise Undecodable(f"no list of contracts: code {answer.code} {answer.message[:200]}".rstrip())
    contracts = answer.data if isinstance(answer.data, list) else [answer.data]
    return Listing([_instrument(contract) for contract in contracts])


def _instrument(contract: _Contract) -> Instrument:
    return Instrument(
        symbol=contract.symbol,
        base=contract.baseCoin,
        quote=contract.quoteCoin,
        kind="future" if contract.futureType == _DELIVERED else "perpetual",
        contract_size=_number(contract.contractSize),
        inverse=contract.settleCoin == contract.baseCoin != contract.quoteCoin,
        tick_size=_number(contract.priceUnit),
        quantity_step=_number(contract.volUnit),
        state=_state(contract.state),
    )


def _state(number: int | None) -> str:
    if number is None:
        return "unknown"
    return _STATES[number] if 0 <= number < len(_STATES) else f"state {number}"


def _number(raw: Raw) -> str:
    """Return a number as text; "" where there is none: one contract must not cost the whole list."""
    try:
        return exact(bytes(raw).decode("ascii", "replace").strip('"'))
    except Undecodable:
        return ""
