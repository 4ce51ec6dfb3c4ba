"""The contracts that are traded in the simulator: the three it knows, and made-up ones."""

import math
import re
from decimal import Decimal
from random import Random
from typing import NamedTuple

from mexcflow.errors import Misuse


class Contract(NamedTuple):
    """What is traded and how it behaves. One tick is 10**-scale of the quote currency."""

    symbol: str
    scale: int
    first_price_ticks: int
    contract_size: Decimal  # base units in one contract
    level_contracts: int  # typical quantity of one depth level
    trade_contracts: int  # typical quantity of one trade
    trades_per_s: float
    open_interest: int  # contracts
    funding_rate_e6: int  # millionths: 81 is 0.000081
    base: str = ""
    quote: str = ""


KNOWN = (
    Contract("BTC_USDT", 1, 840_000, Decimal("0.0001"), 9_000, 60, 28.0, 82_912_997, 81, "BTC", "USDT"),
    Contract("ETH_USDT", 2, 240_000, Decimal("0.01"), 2_600, 25, 20.0, 31_480_220, 64, "ETH", "USDT"),
    Contract("SOL_USDT", 2, 15_000, Decimal("0.1"), 1_900, 30, 12.0, 14_558_875, -45, "SOL", "USDT"),
)
"""Prices, ticks and contract sizes as MEXC had them in autumn 2026 (SOL: a round number)."""


KNOWN_IN_BASE = (
    KNOWN[0]._replace(
        contract_size=Decimal("0.001"), level_contracts=900, trade_contracts=6, open_interest=8_291_299
    ),
    *KNOWN[1:],
)
"""The same for exchanges that count in base units: BTC has three decimals there."""

QUOTES = ("USDT", "USDC", "USD", "EUR", "BTC")
"""Quote currencies that are recognised at the end of a symbol without separators."""


SATOSHI = Decimal("0.00000001")
"""The smallest quantity of coins on most exchanges."""


def contracts(
    more_symbols: tuple[str, ...] = (), *, known: tuple[Contract, ...] = KNOWN
) -> tuple[Contract, ...]:
    """Return the known contracts and one of made-up numbers for each further symbol, always the same."""
    found = {contract.symbol: contract for contract in known}
    for symbol in more_symbols:
        _check(symbol)
        if symbol not in found:
            found[symbol] = _made_up(symbol)
    return tuple(found.values())


def currencies(symbol: str) -> tuple[str, str]:
    """Return base and quote currency of DOGE_USDT, DOGE-USDT-SWAP, DOGE/USD or DOGEUSDT."""
    base, *others = re.split(r"[_/-]", symbol)
    if others:
        return base, others[0]
    for quote in QUOTES:
        if symbol.endswith(quote) and symbol != quote:
            return symbol.removesuffix(quote), quote
    return symbol, ""


def finest(contract: Contract) -> Contract:
    """Return a contract counted in 10**-8 base units, with as much of them traded."""
    factor = int(contract.contract_size / SATOSHI)
    return contract._replace(
        contract_size=SATOSHI,
        level_contracts=contract.level_contracts * factor,
        trade_contracts=contract.trade_contracts * factor,
        open_interest=contract.open_interest * factor,
    )


def _check(symbol: str) -> None:
    if not symbol or not symbol.isprintable() or any(mark in symbol for mark in ' "\\'):
        raise Misuse(f"{symbol!r} is not a symbol", hint="Give names like DOGE_USDT, separated by commas")


def _made_up(symbol: str) -> Contract:
    rng = Random(symbol)
    scale = rng.randint(1, 6)
    ticks = rng.randint(20_000, 900_000)  # five or six digits, wherever the point is
    size = Decimal(10) ** round(math.log10(10**scale / ticks))  # one contract is worth about one unit
    trades_per_s, funding_rate_e6 = rng.uniform(10, 15), rng.randint(-90, 90)
    return Contract(
        symbol, scale, ticks, size, 8_000, 90, trades_per_s, 5_000_000, funding_rate_e6, *currencies(symbol)
    )
