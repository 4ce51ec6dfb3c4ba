"""Assemble: readings become rows of the typed tables, as lines of TabSeparated text.

What a single frame does not say is added here, from the frames before it: a book out of its deltas, the
values of a ticker that did not change, that a candle is closed, that a trade is missing between two. All of
it is a function of the frames in the order they were received, so that a crash changes nothing: the state is
in the journal with each acknowledgement.

A state machine without I/O or clock: the receive times of the frames are its clock.
"""

from collections.abc import Callable, Sequence
from typing import Any

from mexcflow.exchanges import TypedExchange
from mexcflow.exchanges.book import Level
from mexcflow.model import BookUpdate, Candle, Ticker, Trade, TypedReading, Undecodable
from mexcflow.pipeline.blocks import Blocks, spelled_us
from mexcflow.pipeline.books import Books, Standing, named_in
from mexcflow.pipeline.candles import Candles
from mexcflow.pipeline.levels import arrays
from mexcflow.pipeline.overlap import Overlap
from mexcflow.pipeline.sampler import Sampler
from mexcflow.pipeline.sequence import MAX_GAPS, Gap
from mexcflow.pipeline.tickers import Tickers
from mexcflow.store.market import BOOKS, CANDLES, TICKERS, TRADES
from mexcflow.store.tsv import escaped

_NOTHING = "\\N"
_RENUMBERED = 10_000_000
"""No outage is as long as so many trades: the exchange has begun to count anew, or sent nonsense."""
_OVERLAP_US = 10_000_000
"""After a connection took over from another one, its first frames may be older than the last of that one."""
_AHEAD_US = 3_600_000_000


class Assembler:
    """Everything that one connection's frames came to; `state` is an earlier `checkpoint`."""

    def __init__(
        self, exchange: TypedExchange, *, book_interval_us: int = 0, state: dict[str, Any] | None = None
    ) -> None:
        state = state or {}
        self._exchange = exchange
        self._prefixes = {
            symbol: f"{exchange.name}\t{escaped(symbol)}\t"
            for symbol in dict.fromkeys(one.symbol for one in exchange.topics())
        }
        self._of_trades = {symbol: f"trade/{symbol}" for symbol in self._prefixes}
        self._books = Books(exchange, state.get("books"))
        self._sampler = Sampler(book_interval_us, state.get("sampled")) if book_interval_us else None
        self._candles = Candles(state.get("candles"))
        self._tickers = Tickers(exchange, state.get("tickers"))
        self._trade_ids: dict[str, int] = dict(state.get("trade_ids", {}))
        self._sequences: dict[str, int] = dict(state.get("sequences", {}))
        self._at_ns: dict[str, int] = dict(state.get("at_ns", {}))
        self._overlap = Overlap(state.get("overlap"))
        self._overlap_until_us: int = state.get("overlap_until_us", 0)
        self._take: dict[str, Callable[[Any, int], None]] = {
            "trade": self._trades,
            "book": self._book,
            "ticker": self._ticker,
            "candle": self._candle,
        }
        self.blocks = Blocks()
        self.gaps: list[tuple[str, Gap]] = []
        self.duplicates = self.backwards = self.broken = 0
        self._noted: int = state.get("noted", 0)
        self.due_ns = 0
        """When `tick` is next to be called."""

    def connected(self, at_ns: int, *, handover: bool) -> None:
        """Begin a connection: what only holds within one is forgotten, ids of trades go on."""
        if handover:
            self._overlap_until_us = at_ns // 1000 + _OVERLAP_US
            self._overlap.begin(self._books, self._overlap_until_us)
        else:
            self._sequences.clear()
            self._overlap.reset()
            self._candles.reset()
        self._books.reset()
        self._tickers.reset()
        self._noted = 0
        if self._sampler:
            self._sampler.reset()

    def tick(self, received_us: int) -> None:
        """Let the time of a frame pass, before it is taken: samples fall due, candles end."""
        if self._sampler is not None and received_us >= self._sampler.due_us:
            at = spelled_us(self._sampler.begin(received_us))
            for symbol, time, state in self._sampler.kept():
                self.blocks.add(BOOKS, f"{self._prefixes[symbol]}{time}\t{at}\t{state}\n")
        if received_us >= self._candles.due_us:
            for candle in self._candles.ended(received_us):
                self._add_candle(candle, spelled_us(received_us))
        self._set_due()

    def _set_due(self) -> None:
        due_us = self._candles.due_us
        self.due_ns = 1000 * (due_us if self._sampler is None else min(due_us, self._sampler.due_us))

    def take(self, reading: TypedReading, received_ns: int) -> int:
        """Take the rows of a frame of market data; returns how many rows it became."""
        blocks = self.blocks
        before = blocks.rows
        if reading.polled:
            self._tickers.note_polled(reading.rows, received_ns // 1000)
        self._take[reading.channel](reading.rows, received_ns // 1000)
        return blocks.rows - before

    def lost(self, payload: bytes, received_ns: int) -> None:
        """Take note of a frame that could not be decoded: deltas of a book may have been in it."""
        if self._exchange.whole_books or not self._exchange.is_book_delta(payload):
            return
        for symbol in named_in(payload, self._prefixes):
            self._lose(symbol, received_ns // 1000)

    def _lose(self, symbol: str, received_us: int) -> None:
        if self._books.lose(symbol):
            self._gap("book", symbol, received_us, "a change of the book could not be decoded")
            self.broken += 1
            if self._sampler:
                self._sampler.forget(symbol)

    # ---- a channel each

    def _trades(self, rows: Sequence[Trade], received_us: int) -> None:
        received = spelled_us(received_us)
        consecutive = self._exchange.consecutive_trades
        lines = []
        for trade in rows:
            symbol, number = trade.symbol, trade.id
            if consecutive:
                self._follow(symbol, int(number), received_us)
            if not number.isalnum():
                number = escaped(number)
            time = str(trade.time_us)
            lines.append(
                f"{self._prefixes[symbol]}{time[:10]}.{time[10:]}\t{received}\t{number}\t"
                f"{trade.price}\t{trade.quantity}\t{trade.base_quantity or _NOTHING}\t{trade.side}\n"
            )
        self.blocks.extend(TRADES, lines)

    def _follow(self, symbol: str, number: int, received_us: int) -> None:
        last = self._trade_ids.get(symbol)
        if last is not None and abs(number - last) > _RENUMBERED:
            self._gap("trade", symbol, received_us, f"trade ids begin anew: {number} after {last}")
        elif last is not None and number != last + 1:
            if number <= last:
                # sent again after a new connection, or one that fills a hole: the table knows it by its id
                self.duplicates += 1
                return
            missing = number - last - 1
            self._gap("trade", symbol, received_us, f"{missing} trades missing: {number} after {last}")
        self._trade_ids[symbol] = number
        self._at_ns[self._of_trades[symbol]] = received_us * 1000

    def _book(self, rows: Sequence[BookUpdate], received_us: int) -> None:
        for update in rows:
            if self._exchange.whole_books:
                self._whole_book(update, received_us)
            else:
                self._delta(update, received_us)

    def _whole_book(self, update: BookUpdate, received_us: int) -> None:
        symbol, sequence = update.symbol, update.sequence
        if not update.is_snapshot:
            raise Undecodable(f"a change of the book of {symbol}, where every frame is a whole one")
        last = self._sequences.get(symbol)
        if sequence is not None:
            if last is not None and sequence <= last:
                if received_us < self._overlap_until_us:
                    self.duplicates += 1
                    return
                self._out_of_order(symbol, sequence, last, received_us)
            elif reason := self._exchange.check_book(None, last, update):
                self._gap("book", symbol, received_us, reason)
            self._sequences[symbol] = sequence
        self._add_book(update, (update.bids, update.asks), received_us)

    def _delta(self, update: BookUpdate, received_us: int) -> None:
        try:
            standing = self._books.take(update)
        except Undecodable:
            self._lose(update.symbol, received_us)
            raise
        if standing is Standing.BROKEN:
            self._gap("book", update.symbol, received_us, self._books.reason)
        if standing is not Standing.WHOLE:
            self.broken += 1
            if self._sampler:
                self._sampler.forget(update.symbol)
            return
        sides = self._books.top(update.symbol)
        if sides is None:
            return
        if self._overlap.is_known(update, sides, received_us):
            self.duplicates += 1
        else:
            self._add_book(update, sides, received_us)

    def _add_book(
        self, update: BookUpdate, sides: tuple[Sequence[Level], Sequence[Level]], received_us: int
    ) -> None:
        symbol, depth = update.symbol, self._exchange.book_depth
        bids, asks = sides
        time = spelled_us(update.time_us or received_us)
        state = f"{update.sequence or 0}\t{arrays(bids[:depth])}\t{arrays(asks[:depth])}"
        self._at_ns[f"book/{symbol}"] = received_us * 1000
        if self._sampler is not None:
            self._sampler.put(symbol, time, state)
            self._sampler.rewind(received_us)
            self._set_due()
        else:
            received = spelled_us(received_us)
            self.blocks.add(BOOKS, f"{self._prefixes[symbol]}{time}\t{received}\t{state}\n")

    def _ticker(self, rows: Sequence[Ticker], received_us: int) -> None:
        received = spelled_us(received_us)
        for ticker in rows:
            *numbers, next_funding_us = self._tickers.take(ticker, received_us)
            values = [_NOTHING if value is None else value for value in numbers]
            values.append(_NOTHING if next_funding_us is None else spelled_us(next_funding_us)[:-3])
            time = spelled_us(ticker.time_us or received_us)
            fields = "\t".join(values)
            self.blocks.add(TICKERS, f"{self._prefixes[ticker.symbol]}{time}\t{received}\t{fields}\n")

    def _candle(self, rows: Sequence[Candle], received_us: int) -> None:
        received = spelled_us(received_us)
        for candle in rows:
            if candle.open_us > received_us + _AHEAD_US:  # every later one would be taken for over
                raise Undecodable(f"a candle of the future: it begins at {candle.open_us} µs")
            if not candle.time_us:
                candle.time_us = received_us
            for one in self._candles.take(candle):
                self._add_candle(one, received)
        self._set_due()

    def _add_candle(self, candle: Candle, received: str) -> None:
        optional = (candle.volume, candle.quote_volume, candle.trades)
        more = "\t".join([_NOTHING if value is None else str(value) for value in optional])
        self.blocks.add(
            CANDLES,
            f"{self._prefixes[candle.symbol]}{candle.interval}\t{spelled_us(candle.open_us)[:-3]}\t"
            f"{candle.open}\t{candle.high}\t{candle.low}\t{candle.close}\t{more}\t"
            f"{'true' if candle.closed else 'false'}\t{spelled_us(candle.time_us)}\t{received}\n",
        )

    def _out_of_order(self, symbol: str, sequence: int, last: int, received_us: int) -> None:
        twice = sequence == last
        self.duplicates += twice
        self.backwards += not twice
        what = "duplicate" if twice else "backwards"
        self._gap("book", symbol, received_us, f"{what}: sequence {sequence} after {last}")

    def _gap(self, channel: str, symbol: str, received_us: int, reason: str) -> None:
        at_ns = received_us * 1000
        self._noted += 1
        if self._noted > MAX_GAPS:  # of one connection: enough to know that something is wrong
            return
        self.gaps.append((symbol, Gap(channel, self._at_ns.get(f"{channel}/{symbol}", at_ns), at_ns, reason)))

    def taken(self) -> tuple[Blocks, list[tuple[str, Gap]]]:
        """Return the rows and gaps since the last call."""
        blocks, gaps = self.blocks, self.gaps
        self.blocks, self.gaps = Blocks(), []
        return blocks, gaps

    def checkpoint(self) -> dict[str, Any]:
        """Return a JSON-able state to go on from; rows and gaps have to be taken before."""
        return {
            "books": self._books.checkpoint(),
            "sampled": self._sampler.checkpoint() if self._sampler else None,
            "candles": self._candles.checkpoint(),
            "tickers": self._tickers.checkpoint(),
            "trade_ids": dict(self._trade_ids),
            "sequences": dict(self._sequences),
            "at_ns": dict(self._at_ns),
            "overlap": self._overlap.checkpoint(),
            "noted": self._noted,
            "overlap_until_us": self._overlap_until_us,
        }
