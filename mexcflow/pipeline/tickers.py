"""Tickers: what is known of each symbol after a frame that says only a part of it.

What a frame does not say goes on as it was, within one connection. What was polled over REST goes on for some
of its intervals only: it would look like news for ever. A state machine; receive times are its clock.
"""

from collections.abc import Sequence
from typing import Any

from mexcflow.exchanges import TypedExchange
from mexcflow.exchanges.typed import Polled
from mexcflow.model import Ticker

_KEPT_POLLS = 6
"""What was polled holds for so many of its intervals, should no new answer come."""
_NOT_POLLED: tuple[int, list[int]] = (2**63, [])
_FIELDS = ("last", "mark", "index", "open_interest", "funding_rate", "next_funding_us")


class Tickers:
    """The values of each symbol, in the order of the table's columns; `state` is an earlier `checkpoint`."""

    def __init__(self, exchange: TypedExchange, state: dict[str, Any] | None = None) -> None:
        state = state or {}
        self._known: dict[str, list[Any]] = {name: list(one) for name, one in state.get("known", {}).items()}
        # by symbol: until when (µs) what was polled holds, and which of the values it is
        self._polled: dict[str, tuple[int, list[int]]] = dict(state.get("polled", {}))
        polls = exchange.polls() if isinstance(exchange, Polled) else ()
        self._keep_us = round(_KEPT_POLLS * max((poll.every_s for poll in polls), default=0) * 1e6)

    def reset(self) -> None:
        """Forget everything: a new connection begins."""
        self._known.clear()
        self._polled.clear()

    def note_polled(self, rows: Sequence[Any], received_us: int) -> None:
        """Take note that these rows were asked for, and hold for a while."""
        for row in rows:
            places = [place for place, field in enumerate(_FIELDS) if getattr(row, field) is not None]
            self._polled[row.symbol] = received_us + self._keep_us, places

    def take(self, ticker: Ticker, received_us: int) -> list[Any]:
        """Return all that is known after this frame; None is what is not."""
        known = self._known.setdefault(ticker.symbol, [None] * len(_FIELDS))
        until_us, places = self._polled.get(ticker.symbol, _NOT_POLLED)
        if received_us > until_us:
            for place in places:
                known[place] = None
        for index, field in enumerate(_FIELDS):
            value = getattr(ticker, field)
            if value is not None:
                known[index] = value
        return known

    def checkpoint(self) -> dict[str, Any]:
        """Return a JSON-able state to go on from."""
        return {"known": self._known, "polled": self._polled}
