"""A book built from a snapshot and deltas: each level with the digits that the exchange sent.

Prices that differ only in their spelling (0.0801, 0.080100) are one level. A delta's quantity is absolute, 0
removes a level, also one that was never there. A number that cannot be stored is refused at once: were it
found when its level becomes one of the best, the update that is refused would be another one.
"""

from bisect import bisect_left
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from mexcflow.exchanges.numbers import exact
from mexcflow.model import BookUpdate, Undecodable

Level = tuple[str, str]
"""Price and quantity, as sent."""


class Side:
    """One side, best first; `is_bid` says which way that is."""

    __slots__ = ("_keys", "_levels", "_sign")

    def __init__(self, *, is_bid: bool) -> None:
        self._sign = -1 if is_bid else 1
        self._keys: list[Decimal] = []
        self._levels: dict[Decimal, Level] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def replace(self, levels: Iterable[Level]) -> None:
        """Forget what was there."""
        kept: dict[Decimal, Level] = {}
        for price, quantity in levels:
            key = _key(price, self._sign)
            if _is_zero(quantity):
                kept.pop(key, None)
            else:
                kept[key] = (price, quantity)
        self._levels, self._keys = kept, sorted(kept)

    def change(self, levels: Iterable[Level]) -> None:
        """Take absolute new quantities."""
        keys, kept = self._keys, self._levels
        for price, quantity in levels:
            key = _key(price, self._sign)
            if _is_zero(quantity):
                if key in kept:
                    del kept[key]
                    del keys[bisect_left(keys, key)]
                continue
            if key not in kept:
                keys.insert(bisect_left(keys, key), key)
            kept[key] = (price, quantity)

    def cut(self, levels: int) -> None:
        """Forget all but the best so many levels."""
        for key in self._keys[levels:]:
            del self._levels[key]
        del self._keys[levels:]

    def top(self, levels: int) -> list[Level]:
        """Return the best so many levels, best first."""
        return [self._levels[key] for key in self._keys[:levels]]

    @property
    def best(self) -> Decimal | None:
        """The best price, None for an empty side."""
        if not self._keys:
            return None
        return self._keys[0] if self._sign > 0 else self._keys[0].copy_negate()


class Book:
    """Both sides. `levels`: how many the exchange keeps us informed of, 0 for all of them."""

    def __init__(self, levels: int = 0) -> None:
        self._kept = levels
        self.bids = Side(is_bid=True)
        self.asks = Side(is_bid=False)

    def apply(self, update: BookUpdate) -> None:
        """Take a snapshot or a delta; raises `Undecodable` for a price or quantity that cannot be stored.

        It is neither the old book nor the new one then.
        """
        if update.is_snapshot:
            self.bids.replace(update.bids)
            self.asks.replace(update.asks)
        else:
            self.bids.change(update.bids)
            self.asks.change(update.asks)
        if self._kept:
            self.bids.cut(self._kept)
            self.asks.cut(self._kept)

    @property
    def crossed(self) -> bool:
        """Whether somebody bids as much as somebody else asks: then something is missing."""
        bid, ask = self.bids.best, self.asks.best
        return bid is not None and ask is not None and bid >= ask

    def checkpoint(self, levels: int) -> dict[str, Any]:
        """Return the best levels as JSON-able lists; another book goes on from them, see `restored`."""
        return {"bids": self.bids.top(levels), "asks": self.asks.top(levels)}

    @classmethod
    def restored(cls, state: dict[str, Any], levels: int = 0) -> "Book":
        """Return the book of a checkpoint."""
        book = cls(levels)
        book.bids.replace([(price, quantity) for price, quantity in state["bids"]])
        book.asks.replace([(price, quantity) for price, quantity in state["asks"]])
        return book


def _key(price: str, sign: int) -> Decimal:
    exact(price)
    # unlike a minus, this does not round
    return Decimal(price) if sign > 0 else Decimal(price).copy_negate()


def _is_zero(quantity: str) -> bool:
    exact(quantity)
    value = Decimal(quantity)
    if value.is_zero():
        return True
    if value.is_signed():
        raise Undecodable(f"a quantity that is none: {quantity[:40]}")
    return False
