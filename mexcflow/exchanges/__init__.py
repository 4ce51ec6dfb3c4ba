"""Exchanges: pure files, bytes in, one reading out; no I/O. This is the registry, a line an exchange."""

import difflib

from mexcflow.config import DEFAULT_CANDLE_INTERVAL
from mexcflow.errors import Misuse
from mexcflow.exchanges.binance import Binance
from mexcflow.exchanges.binance_spot import BinanceSpot
from mexcflow.exchanges.bybit import Bybit
from mexcflow.exchanges.coinbase import Coinbase
from mexcflow.exchanges.exchange import Exchange
from mexcflow.exchanges.kraken import Kraken
from mexcflow.exchanges.mexc import Mexc
from mexcflow.exchanges.okx import Okx
from mexcflow.exchanges.typed import Poll, Polled, TypedExchange

REGISTRY: dict[str, type[Exchange]] = {
    Mexc.name: Mexc,
}
"""Those whose rows go into string tables, one a symbol."""

TYPED: dict[str, type[TypedExchange]] = {
    Binance.name: Binance,
    BinanceSpot.name: BinanceSpot,
    Bybit.name: Bybit,
    Okx.name: Okx,
    Coinbase.name: Coinbase,
    Kraken.name: Kraken,
}
"""Those whose rows go into the typed tables of `market_data`."""

__all__ = [
    "Exchange",
    "Poll",
    "Polled",
    "REGISTRY",
    "TYPED",
    "TypedExchange",
    "check_channels",
    "check_interval",
    "find_exchange",
]


def find_exchange(name: str, *, where: str) -> type[Exchange] | type[TypedExchange]:
    """Return the exchange of that name; `Misuse`, which names the known ones, when there is none."""
    found = REGISTRY.get(name) or TYPED.get(name)
    if found is None:
        raise Misuse(f"{where}: there is no exchange {name!r}", hint=_known(name, (*REGISTRY, *TYPED)))
    return found


def check_channels(
    exchange: type[Exchange] | type[TypedExchange], channels: tuple[str, ...], *, where: str
) -> None:
    """Raise `Misuse` unless every channel is one of the exchange's, and named once."""
    if not channels:
        raise Misuse(f"{where}: no channels", hint=f"{exchange.name} has {', '.join(exchange.channels)}")
    for channel in channels:
        if channel not in exchange.channels:
            raise Misuse(
                f"{where}: {exchange.name} has no channel {channel!r}",
                hint=_known(channel, exchange.channels),
            )
    if len(set(channels)) < len(channels):
        raise Misuse(f"{where}: a channel is named twice: {', '.join(channels)}")


def check_interval(exchange: type[TypedExchange], interval: str, *, where: str) -> None:
    """Raise `Misuse` unless the exchange has candles of that interval, if it has any."""
    if not exchange.intervals and interval != DEFAULT_CANDLE_INTERVAL:
        raise Misuse(f"{where}: {exchange.name} sends no candles", hint="Leave out the candle interval")
    if exchange.intervals and interval not in exchange.intervals:
        raise Misuse(
            f"{where}: {exchange.name} has no candles of {interval!r}",
            hint=_known(interval, exchange.intervals),
        )


def _known(given: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(given, known, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(known)}"
