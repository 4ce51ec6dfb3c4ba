"""The contracts that are traded in the simulator: the three it knows, and made-up ones."""

import math
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


KNOWN = (
    Contract("BTC_USDT", 1, 840_000, Decimal("0.0001"), 9_000, 60, 28.0, 82_912_997, 81),
    Contract("ETH_USDT", 2, 240_000, Decimal("0.01"), 2_600, 25, 20.0, 31_480_220, 64),
    Contract("SOL_USDT", 2, 15_000, Decimal("0.1"), 1_900, 30, 12.0, 14_558_875, -45),
)
"""Prices, ticks and contract sizes as MEXC had them in autumn 2026 (SOL: a round number)."""


def contracts(more_symbols: tuple[str, ...] = ()) -> tuple[Contract, ...]:
    """Return the known contracts and one of made-up numbers for each further symbol, always the same."""
    known = {contract.symbol: contract for contract in KNOWN}
    for symbol in more_symbols:
        _check(symbol)
        if symbol not in known:
            known[symbol] = _made_up(symbol)
    return tuple(known.values())


def _check(symbol: str) -> None:
    if not symbol or not symbol.isprintable() or any(mark in symbol for mark in ' "\\'):
        raise Misuse(f"{symbol!r} is not a symbol", hint="Give names like DOGE_USDT, separated by commas")


def _made_up(symbol: str) -> Contract:
    rng = Random(symbol)
    scale = rng.randint(1, 6)
    ticks = rng.randint(20_000, 900_000)  # five or six digits, wherever the point is
    size = Decimal(10) ** round(math.log10(10**scale / ticks))  # one contract is worth about one unit
    return Contract(
        symbol, scale, ticks, size, 8_000, 90, rng.uniform(10, 15), 5_000_000, rng.randint(-90, 90)
    )
