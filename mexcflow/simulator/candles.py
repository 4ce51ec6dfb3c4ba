"""Candles of the trades that were published, by the exchange's clock.

Pure. An update comes with the next `due` after a trade, the close with the first one after the candle's
end. A candle without trades is not made. Whoever wants to see a close within seconds sets the exchange's
clock so that a minute is about to end (`Settings.clock_ahead_ms`, `ms_before_a_minute_ends`).
"""

from collections.abc import Mapping
from decimal import Decimal

from mexcflow.simulator.contracts import Contract
from mexcflow.simulator.market import Candle, Trade, Trades

MINUTE_S = 60
INTERVALS_S: Mapping[str, int] = {
    "1s": 1,
    "1m": MINUTE_S,
    "3m": 180,
    "5m": 300,
    "15m": 900,
    "30m": 1800,
    "1h": 3600,
    "2h": 7200,
    "4h": 14_400,
    "6h": 21_600,
    "8h": 28_800,
    "12h": 43_200,
    "1d": 86_400,
}
"""Seconds of each interval; all of them divide the Unix time."""
ALWAYS = "1m"
"""Made from the first trade on; the others from when they are first asked for."""


def ms_before_a_minute_ends(now_ms: int, wanted_ms: int) -> int:
    """Return how far ahead a clock must be, so that a minute ends `wanted_ms` after now."""
    return (-now_ms - wanted_ms) % (MINUTE_S * 1000)


class Candles:
    """The open candle of each symbol and interval, and those that are to be published."""

    def __init__(self) -> None:
        self._intervals = {ALWAYS}
        self._open: dict[tuple[str, str], Candle] = {}
        self._changed: set[tuple[str, str]] = set()
        self._closed: list[Candle] = []

    def want(self, interval: str) -> None:
        """Make candles of this interval from now on."""
        self._intervals.add(interval)

    def open_one(self, symbol: str, interval: str) -> Candle | None:
        """Return the candle that is being made, None before its first trade."""
        return self._open.get((symbol, interval))

    def take(self, event: Trades, at_ms: int) -> None:
        """Take trades that happened at this time."""
        for interval in self._intervals:
            length_ms = INTERVALS_S[interval] * 1000
            key, open_ms = (event.contract.symbol, interval), at_ms - at_ms % length_ms
            candle = self._open.get(key)
            if candle is not None and candle.open_ms < open_ms:
                self._closed.append(candle._replace(closed=True))
                candle = None
            for trade in event.trades:
                candle = _with(candle, trade, event.contract, interval, open_ms)
            if candle is not None:
                self._open[key] = candle
                self._changed.add(key)

    def due(self, at_ms: int) -> list[Candle]:
        """Return the candles that ended before this time and those that have changed, oldest first."""
        for key, candle in tuple(self._open.items()):
            if at_ms >= candle.open_ms + INTERVALS_S[candle.interval] * 1000:
                self._closed.append(candle._replace(closed=True))
                del self._open[key]
        closed, self._closed = self._closed, []
        changed = [self._open[key] for key in sorted(self._changed & self._open.keys())]
        self._changed.clear()
        return closed + changed


def _with(candle: Candle | None, trade: Trade, contract: Contract, interval: str, open_ms: int) -> Candle:
    """Return the candle (None: a new one) with one more trade in it."""
    ticks, amount = trade.price_ticks, quote_amount(contract, trade.price_ticks, trade.contracts)
    bought = (trade.contracts, amount) if trade.aggressor_buys else (0, Decimal(0))
    if candle is None:
        return Candle(
            contract=contract,
            interval=interval,
            open_ms=open_ms,
            end_ms=open_ms + INTERVALS_S[interval] * 1000,
            open_ticks=ticks,
            high_ticks=ticks,
            low_ticks=ticks,
            close_ticks=ticks,
            volume_contracts=trade.contracts,
            amount_quote=amount,
            bought_contracts=bought[0],
            bought_quote=bought[1],
            trades=1,
            first_id=trade.trade_id,
            last_id=trade.trade_id,
            closed=False,
        )
    return candle._replace(
        high_ticks=max(candle.high_ticks, ticks),
        low_ticks=min(candle.low_ticks, ticks),
        close_ticks=ticks,
        volume_contracts=candle.volume_contracts + trade.contracts,
        amount_quote=candle.amount_quote + amount,
        bought_contracts=candle.bought_contracts + bought[0],
        bought_quote=candle.bought_quote + bought[1],
        trades=candle.trades + 1,
        last_id=trade.trade_id,
    )


def quote_amount(contract: Contract, price_ticks: int, contracts: int) -> Decimal:
    """Return what so many contracts cost, exactly."""
    return contracts * contract.contract_size * Decimal(price_ticks).scaleb(-contract.scale)
