"""The simulated exchanges by name: the registry, a line an exchange."""

from typing import Protocol

from mexcflow.errors import Misuse
from mexcflow.simulator.binance import Binance, BinanceSpot
from mexcflow.simulator.bybit import Bybit
from mexcflow.simulator.coinbase import Coinbase
from mexcflow.simulator.exchange import Exchange
from mexcflow.simulator.kraken import Kraken
from mexcflow.simulator.mexc import Mexc
from mexcflow.simulator.okx import Okx


class _Open(Protocol):
    def __call__(self, symbols: tuple[str, ...] = ..., *, odd_numbers: bool = ...) -> Exchange: ...


EXCHANGES: dict[str, _Open] = {
    "mexc": Mexc,
    "binance": Binance,
    "binance_spot": BinanceSpot,
    "bybit": Bybit,
    "okx": Okx,
    "coinbase": Coinbase,
    "kraken": Kraken,
}


def open_exchange(name: str, symbols: tuple[str, ...] = (), *, odd_numbers: bool = False) -> Exchange:
    """Return the exchange of that name, which knows these symbols besides the usual three."""
    return find(name)(symbols, odd_numbers=odd_numbers)


def find(name: str) -> _Open:
    """Return what makes the exchange of that name; `Misuse` when there is none."""
    if name not in EXCHANGES:
        raise Misuse(f"there is no simulator of {name!r}", hint=f"Known: {', '.join(EXCHANGES)}")
    return EXCHANGES[name]
