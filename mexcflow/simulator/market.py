"""A seeded market on a time line of its own: tickers, trades and depth of several contracts.

Pure: no clock, no sockets, no exchange's wire. The same seed and contracts give the same events at the
same market times (seconds from 0); whoever sends them decides how fast market time passes.

Cadence, as measured on MEXC in 2026: a ticker every 2.7 s, a depth snapshot about every 0.27 s, trades
in bursts, 10 to 30 a second by contract.
"""

import heapq
from collections.abc import Iterable
from decimal import Decimal
from random import Random
from typing import NamedTuple

from mexcflow.simulator.book import LEVELS, Book, Level
from mexcflow.simulator.contracts import Contract

TICKER_EVERY_S = (2.65, 2.79)
DEPTH_EVERY_S = (0.20, 0.33)
BURST_FRAMES = 6
"""Mean number of trade events in a burst."""
TRADES_IN_EVENT = ((1, 2, 3, 5), (78, 14, 6, 2))
"""How many trades one event carries, and how often; 1.34 on average."""


class Trade(NamedTuple):
    """One trade. `age_ms`: how long before its event was sent it happened."""

    price_ticks: int
    contracts: int
    aggressor_buys: bool
    trade_id: int
    age_ms: int
    opens: int  # 1 opens a position, 2 closes one, 3 leaves it as it was
    self_trade: bool


class Trades(NamedTuple):
    """Trades that were sent together, not sorted by time."""

    contract: Contract
    trades: tuple[Trade, ...]


class Depth(NamedTuple):
    """The book, best levels first; `version` only rises. `age_ms` as in `Trade`."""

    contract: Contract
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    version: int
    age_ms: int


class Ticker(NamedTuple):
    """The summary of one contract. Prices in ticks, sums over 24 h, rates in 10**-4 and 10**-6."""

    contract: Contract
    last_ticks: int
    mark_ticks: int
    index_ticks: int
    bid_ticks: int
    ask_ticks: int
    low_ticks: int
    high_ticks: int
    open_ticks: int
    volume_contracts: int
    amount_quote: Decimal
    open_interest: int
    funding_rate_e6: int
    changes_e4: tuple[int, ...]  # price changes over 1, 7, 30, 90, 180 and 365 days


class Candle(NamedTuple):
    """One update of a candle, see `candles.py`. `end_ms` is the first ms after it, ids are of trades."""

    contract: Contract
    interval: str  # 1m
    open_ms: int
    end_ms: int
    open_ticks: int
    high_ticks: int
    low_ticks: int
    close_ticks: int
    volume_contracts: int
    amount_quote: Decimal
    bought_contracts: int  # by aggressors
    bought_quote: Decimal
    trades: int
    first_id: int
    last_id: int
    closed: bool


Event = Ticker | Trades | Depth | Candle
"""What the market publishes. Candles are not the market's own: they follow the exchange's clock."""


class _Symbol:
    """The state of one contract; all its random numbers come from one generator."""

    def __init__(self, contract: Contract, seed: int, levels: int) -> None:
        self._rng = rng = Random(f"{seed}/{contract.symbol}")
        self._contract = contract
        first = contract.first_price_ticks
        self._book = Book(rng, price_ticks=first, typical_contracts=contract.level_contracts, levels=levels)
        self._last_ticks = first
        self._open_ticks = round(first * rng.uniform(0.97, 1.03))
        self._low_ticks = round(min(first, self._open_ticks) * 0.994)
        self._high_ticks = round(max(first, self._open_ticks) * 1.007)
        self._volume = contract.open_interest * 4
        self._amount = self._volume * contract.contract_size * self._price(first)
        self._open_interest = contract.open_interest
        self._funding_rate_e6 = contract.funding_rate_e6
        self._older_changes_e4 = tuple(rng.randint(-4000, 9000) for _ in range(5))
        self._trade_id = rng.randint(10**9, 2 * 10**10)
        self._left_in_burst = 0
        self._burst_buys = True

    def ticker(self) -> tuple[Event, float]:
        """Return the summary of now, and the seconds until the next one."""
        rng, best_bid = self._rng, self._book.bids[0].price_ticks
        lean_ticks = max(1, best_bid // 8000)
        self._open_interest = max(1, self._open_interest + rng.randint(-900, 900))
        self._funding_rate_e6 += rng.choices((-1, 0, 1), (1, 18, 1))[0]
        day_e4 = (self._last_ticks - self._open_ticks) * 10_000 // self._open_ticks
        event = Ticker(
            contract=self._contract,
            last_ticks=self._last_ticks,
            mark_ticks=best_bid + rng.randint(-lean_ticks, lean_ticks),
            index_ticks=best_bid + rng.randint(0, 3 * lean_ticks),
            bid_ticks=best_bid,
            ask_ticks=self._book.asks[0].price_ticks,
            low_ticks=self._low_ticks,
            high_ticks=self._high_ticks,
            open_ticks=self._open_ticks,
            volume_contracts=self._volume,
            amount_quote=self._amount,
            open_interest=self._open_interest,
            funding_rate_e6=self._funding_rate_e6,
            changes_e4=(day_e4, *self._older_changes_e4),
        )
        return event, rng.uniform(*TICKER_EVERY_S)

    def depth(self) -> tuple[Event, float]:
        """Return the book after one more change, and the seconds until the next one."""
        book = self._book
        book.step()
        age_ms = self._rng.randint(1, 12)
        event = Depth(self._contract, tuple(book.bids), tuple(book.asks), book.version, age_ms)
        return event, self._rng.uniform(*DEPTH_EVERY_S)

    def trades(self) -> tuple[Event, float]:
        """Return one event of a burst, and the seconds until the next one: soon, or the next burst."""
        rng = self._rng
        if self._left_in_burst == 0:
            self._left_in_burst = 1 + min(int(rng.expovariate(1 / (BURST_FRAMES - 0.5))), 60)
            self._burst_buys = rng.random() < 0.5
        self._left_in_burst -= 1
        size = rng.choices(*TRADES_IN_EVENT)[0]
        event = Trades(self._contract, tuple(self._trade() for _ in range(size)))
        if self._left_in_burst:
            return event, rng.uniform(0.001, 0.015)
        mean_pause_s = BURST_FRAMES * (1.34 / self._contract.trades_per_s - 0.007)
        return event, mean_pause_s * rng.uniform(0.3, 1.7)

    def _trade(self) -> Trade:
        rng, book = self._rng, self._book
        buys = self._burst_buys if rng.random() < 0.9 else not self._burst_buys
        side = book.asks if buys else book.bids
        price_ticks = side[min(int(rng.expovariate(1.5)), 4)].price_ticks
        contracts = 1 + int(rng.lognormvariate(0, 1.4) * self._contract.trade_contracts)
        self._note(price_ticks, contracts)
        opens = rng.choices((1, 2, 3), (40, 35, 25))[0]
        age_ms, self_trade = rng.randint(0, 3), rng.random() < 0.2
        return Trade(price_ticks, contracts, buys, self._trade_id, age_ms, opens, self_trade)

    def _note(self, price_ticks: int, contracts: int) -> None:
        self._trade_id += 1
        self._last_ticks = price_ticks
        self._low_ticks = min(self._low_ticks, price_ticks)
        self._high_ticks = max(self._high_ticks, price_ticks)
        self._volume += contracts
        self._amount += contracts * self._contract.contract_size * self._price(price_ticks)

    def _price(self, ticks: int) -> Decimal:
        return Decimal(ticks).scaleb(-self._contract.scale)


class Market:
    """All contracts on one time line."""

    def __init__(self, contracts: Iterable[Contract], *, seed: int = 1, levels: int = LEVELS) -> None:
        self._steps = []
        for symbol in (_Symbol(contract, seed, levels) for contract in contracts):
            self._steps += [symbol.ticker, symbol.depth, symbol.trades]
        # Everyone gets a first depth, ticker and trade at once; the step's number keeps the order stable.
        self._line = [(0.001 * number, number) for number in range(len(self._steps))]

    def next_event(self) -> tuple[float, Event]:
        """Return the next event and its market time in seconds, which never falls."""
        due_s, number = heapq.heappop(self._line)
        event, pause_s = self._steps[number]()
        heapq.heappush(self._line, (due_s + pause_s, number))
        return due_s, event
