"""Hours of a BTC market on three exchanges: rows of the typed tables, and the bytes of JSON they come from.

The wire shapes are those of Binance USD-M (`aggTrade`, `depth20@100ms`, `markPrice@1s`, `kline_1m`), Bybit
linear (`publicTrade`, `orderbook.50`, `tickers`, `kline.1`) and OKX swap (`trades`, `books5`, `tickers`,
`mark-price`, `candle1m`). The values are invented, and the same for the same seed. How small it gets depends
on how much changes: from one 100 ms to the next about 10 of the best 20 + 20 levels and 4 of the best 5 + 5.
Captured frames of OKX have 9 and 4 (BTC-USDT), 8 and 5 (a BTC future).
"""

import heapq
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from market_wire import WIRES, Wire

START_US = 1_790_000_000_000_000
_HOME_TICKS = 845_000
_DEEP = 70
"""Levels a side that the simulated book has."""


_GAPS = (1, 1, 2, 3, 5, 9)
"""Ticks from a level to the next."""


class Exchange(NamedTuple):
    """What is particular to an exchange: frames a second of each channel, what is stored of a book."""

    name: str
    symbol: str
    levels: int
    books: float
    changes: int  # of the book, a frame
    trades: float
    tickers: float
    candles: float
    held_us: int = 0  # how long a trade is held back, to be aggregated


EXCHANGES = (
    Exchange("binance", "BTCUSDT", 20, 10, 20, 14, 1, 4, held_us=150_000),
    Exchange("bybit", "BTCUSDT", 50, 30, 9, 7, 8, 1),
    Exchange("okx", "BTC-USDT-SWAP", 5, 9, 22, 8, 11, 1),
)


class Frame(NamedTuple):
    """The rows that a frame becomes, as TabSeparated lines of a table, and its own size."""

    table: str
    lines: list[str]
    json_bytes: int


class Book:
    """Levels as (ticks, lots), best first; each step changes some, most of them near the best."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.sides = ([], [])  # bids, asks: lists of [ticks, lots]
        self._fill(0, _HOME_TICKS)
        self._fill(1, _HOME_TICKS + 1)

    def lots(self) -> int:
        """Draw a quantity: many sizes are a few makers' own, the rest is log-normal."""
        if self._rng.random() < 0.2:
            return self._rng.choice((1, 2, 2, 2, 64, 66, 100, 420))
        return 1 + int(self._rng.lognormvariate(4.0, 1.6))

    def step(self, changes: int) -> None:
        """Change about so many levels; now and then the best of a side is taken, and the market moves."""
        for _ in range(self._rng.randint(changes // 2, changes * 3 // 2)):
            side = self._rng.getrandbits(1)
            levels = self.sides[side]
            rank = min(int(self._rng.expovariate(0.055)), _DEEP - 2)
            what = self._rng.random()
            if what < 0.3 or rank == 0:
                levels[rank][1] = self.lots()
            elif what < 0.62:
                del levels[rank]
                self._fill(side, 0)
            else:
                self._between(levels, rank, -1 if side == 0 else 1)
        if self._rng.random() < 0.12:
            self._move(self._rng.getrandbits(1))

    def _between(self, levels: list[list[int]], rank: int, outward: int) -> None:
        room = abs(levels[rank][0] - levels[rank - 1][0])
        if room > 1:
            levels.insert(rank, [levels[rank - 1][0] + outward * self._rng.randrange(1, room), self.lots()])
            del levels[_DEEP:]

    def _move(self, taken: int) -> None:
        """Take the best levels of one side; the other side follows."""
        for _ in range(min(1 + int(self._rng.expovariate(0.8)), 8)):
            del self.sides[taken][0]
        self._fill(taken, 0)
        outward = 1 if taken else -1
        ticks = self.sides[taken][0][0] - outward
        new, levels = [], self.sides[1 - taken]
        while (levels[0][0] - ticks) * outward < 0:
            new.append([ticks, self.lots()])
            ticks -= outward * self._rng.choice(_GAPS)
        levels[:0] = new
        del levels[_DEEP:]

    def _fill(self, side: int, from_ticks: int) -> None:
        levels, outward = self.sides[side], 1 if side else -1
        while len(levels) < _DEEP:
            ticks = levels[-1][0] + outward * self._rng.choice(_GAPS) if levels else from_ticks
            levels.append([ticks, self.lots()])


class Market:
    """One exchange's frames in the order of their receive times."""

    def __init__(self, exchange: Exchange, seed: int = 1) -> None:
        self._rng = random.Random(f"{exchange.name} {seed}")
        self._exchange = exchange
        self._wire: Wire = WIRES[exchange.name](self._rng)
        self._book = Book(self._rng)
        self._best = (_HOME_TICKS, _HOME_TICKS + 1)
        self._sequence = 9_000_000_000
        self._ticker = {
            "last": 845_000,
            "mark": 84_500_000_00,
            "index": 84_510_000_00,
            "interest": 82_912_997,
        }
        self._candle = [0, 0, 0, 0, 0, 0]

    def frames(self, seconds: float) -> Iterator[Frame]:
        """Yield what the exchange sends in so many seconds."""
        one = self._exchange
        kinds: list[tuple[float, Callable[[int], Frame]]] = [
            (one.books, self._books),
            (one.trades, self._trades),
            (one.tickers, self._tickers),
            (one.candles, self._candles),
        ]
        due = [(self._rng.random(), number) for number in range(len(kinds))]
        heapq.heapify(due)
        while due[0][0] < seconds:
            at_s, number = due[0]
            rate, make = kinds[number]
            yield make(START_US + int(at_s * 1000) * 1000)
            steady = number != 1  # trades come when they like
            wait_s = self._rng.uniform(0.95, 1.05) / rate if steady else self._rng.expovariate(rate)
            heapq.heapreplace(due, (at_s + wait_s, number))

    def _head(self, event_us: int, held_us: int = 0) -> str:
        """Return the first four columns; a frame comes some ms after its event, log-normally many."""
        received_us = event_us + held_us + int(self._rng.lognormvariate(9.0, 0.35))
        times = "\t".join(f"{us // 10**6}.{us % 10**6:06d}" for us in (event_us, received_us))
        return f"{self._exchange.name}\t{self._exchange.symbol}\t{times}"

    def _trades(self, now_us: int) -> Frame:
        side = self._rng.getrandbits(1)
        ticks = self._best[1 - side]
        lots = [self._book.lots() for _ in range(1 + min(int(self._rng.expovariate(1.1)), 30))]
        self._ticker["last"] = ticks
        json_bytes, trades = self._wire.trades(now_us // 1000, ticks, lots, "sell" if side else "buy")
        head = self._head(now_us, self._exchange.held_us)
        lines = [f"{head}\t{trade}\t{'sell' if side else 'buy'}\n" for trade in trades]
        self._add_to_candle(ticks, sum(lots))
        return Frame("trades", lines, json_bytes)

    def _add_to_candle(self, ticks: int, lots: int) -> None:
        _, high, low, _, volume, count = self._candle
        if count == 0:
            self._candle = [ticks, ticks, ticks, ticks, lots, 1]
        else:
            self._candle[1:] = [max(high, ticks), min(low, ticks), ticks, volume + lots, count + 1]

    def _books(self, now_us: int) -> Frame:
        one = self._exchange
        self._book.step(one.changes)
        self._best = (self._book.sides[0][0][0], self._book.sides[1][0][0])
        top = tuple(side[: one.levels] for side in self._book.sides)
        self._sequence += self._rng.randint(1, 5000)
        json_bytes = self._wire.book(now_us // 1000, self._sequence, top)
        arrays = "\t".join(
            "[" + ",".join(spell(level[of]) for level in side) + "]"
            for side in top
            for of, spell in ((0, self._wire.price), (1, self._wire.quantity))
        )
        return Frame("books", [f"{self._head(now_us)}\t{self._sequence}\t{arrays}\n"], json_bytes)

    def _tickers(self, now_us: int) -> Frame:
        ticker = self._ticker
        ticker["mark"] = self._best[0] * 10_000 + self._rng.randint(-20_000, 20_000)
        if self._rng.random() < 0.3:
            ticker["index"] = self._best[0] * 10_000 + 400_000 + self._rng.randint(-40_000, 40_000)
            ticker["interest"] += self._rng.randint(-900, 900)
        json_bytes, columns = self._wire.ticker(now_us // 1000, ticker)
        return Frame("tickers", [f"{self._head(now_us)}\t{columns}\n"], json_bytes)

    def _candles(self, now_us: int) -> Frame:
        if self._candle[-1] == 0:
            self._add_to_candle(self._best[0], 0)
        minute_us = 60 * 10**6
        closed = now_us % minute_us > minute_us - 10**6 / self._exchange.candles
        json_bytes, columns = self._wire.candle(
            now_us // 1000, now_us // minute_us * 60_000, self._candle, closed
        )
        head = self._head(now_us).split("\t")
        if closed:
            self._candle = [0, 0, 0, 0, 0, 0]
        line = "\t".join((*head[:2], columns, str(int(closed)), *head[2:]))
        return Frame("candles", [f"{line}\n"], json_bytes)
