"""A depth of 20 levels a side that moves like a liquid contract's: mostly still at the top, seldom a jump.

Of its 40 levels about 5 are new or changed at each step, as measured on captured streams. It may also be
had with another number of levels.
"""

from random import Random
from typing import NamedTuple

LEVELS = 20
"""Levels a side, unless something else is asked for."""


class Level(NamedTuple):
    """Resting quantity at one price."""

    price_ticks: int
    contracts: int
    orders: int


class Book:
    """Bids falling, asks rising, best first; the best bid is always below the best ask."""

    def __init__(
        self, rng: Random, *, price_ticks: int, typical_contracts: int, levels: int = LEVELS
    ) -> None:
        self._levels = levels
        self._rng = rng
        self._home_ticks = price_ticks
        self._typical_contracts = typical_contracts
        self.version = rng.randint(4 * 10**9, 5 * 10**10)
        self.bids: list[Level] = []
        self.asks: list[Level] = []
        self._set_best(price_ticks, spread_ticks=1)

    def step(self) -> None:
        """Move the top, then give some levels another quantity; at least one level changes."""
        self._set_best(self.bids[0].price_ticks + self._move(), spread_ticks=self._spread())
        for _ in range(self._rng.choice((1, 2, 3, 4, 5, 6))):
            side = self._rng.choice((self.bids, self.asks))
            place = min(int(self._rng.expovariate(0.25)), self._levels - 1)  # changes crowd at the top
            side[place] = self._level(side[place].price_ticks)
        self.version += self._rng.randint(5, 60)

    def _move(self) -> int:
        """Ticks up or down; far from home (10 %) the walk turns back."""
        ticks = self._rng.choices((0, 1, 2, 6, 15), (62, 25, 9, 3, 1))[0]
        away = self.bids[0].price_ticks - self._home_ticks
        if abs(away) * 10 > self._home_ticks:
            return -ticks if away > 0 else ticks
        return ticks * self._rng.choice((-1, 1))

    def _spread(self) -> int:
        return self._rng.choices((1, 2, 4), (94, 4, 2))[0]

    def _set_best(self, bid_ticks: int, *, spread_ticks: int) -> None:
        self.bids = self._reshape(self.bids, bid_ticks, -1)
        self.asks = self._reshape(self.asks, bid_ticks + spread_ticks, 1)

    def _reshape(self, side: list[Level], best_ticks: int, outward: int) -> list[Level]:
        """Levels from `best_ticks` outward (+1 or -1): those we have, with new ones before and behind."""
        kept = [level for level in side if (level.price_ticks - best_ticks) * outward >= 0]
        end_ticks = kept[0].price_ticks if kept else best_ticks + outward
        levels = [self._level(ticks) for ticks in range(best_ticks, end_ticks, outward)] + kept
        while len(levels) < self._levels:
            gap_ticks = self._rng.choice((1, 1, 1, 1, 1, 2))  # now and then a price without orders
            levels.append(self._level(levels[-1].price_ticks + outward * gap_ticks))
        return levels[: self._levels]

    def _level(self, price_ticks: int) -> Level:
        contracts = 1 + int(self._rng.lognormvariate(0, 1.1) * self._typical_contracts)
        return Level(price_ticks, contracts, 1 + min(int(self._rng.expovariate(0.6)), 60))
