"""What the exchanges with typed tables have in common: published books, last tickers, candles, sessions."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import ClassVar

from mexcflow.simulator.book import LEVELS
from mexcflow.simulator.candles import Candles
from mexcflow.simulator.contracts import KNOWN, Contract, contracts
from mexcflow.simulator.exchange import RestAnswer, Rules
from mexcflow.simulator.market import Depth, Event, Ticker, Trades
from mexcflow.simulator.published import Books
from mexcflow.simulator.spelling import OddSpelling, Spell


class Typed:
    """The part of an exchange that is the same everywhere; `session` and `frames` are its own.

    `symbols` are known besides the usual three, in the exchange's spelling. `odd_numbers`: numbers are
    spelled in unusual ways, of the same value.
    """

    rules: ClassVar[Rules]
    levels: ClassVar[int] = LEVELS
    trade_lag_ms: ClassVar[int] = 0
    """How long after it happened a trade is sent; candles go by when it happened."""

    def __init__(self, symbols: Iterable[str] = (), *, odd_numbers: bool = False) -> None:
        self.contracts: tuple[Contract, ...] = contracts(tuple(symbols), known=self.known())
        self.by_symbol = {contract.symbol: contract for contract in self.contracts}
        self.spell: Spell = OddSpelling() if odd_numbers else str
        self.books = Books()
        self.candles = Candles()
        self.tickers: dict[str, Ticker] = {}

    @classmethod
    def known(cls) -> tuple[Contract, ...]:
        """Return the usual three as this exchange spells and counts them."""
        return tuple(contract._replace(symbol=cls.symbol_of(contract)) for contract in KNOWN)

    @classmethod
    def symbol_of(cls, contract: Contract) -> str:
        """Return how this exchange calls it, from its base and quote currencies."""
        raise NotImplementedError

    def take(self, event: Event, now_ms: int) -> None:
        """Keep books and tickers, add trades to candles."""
        if isinstance(event, Depth):
            self.books.take(event)
        elif isinstance(event, Ticker):
            self.tickers[event.contract.symbol] = event
        elif isinstance(event, Trades):
            self.candles.take(event, now_ms - self.trade_lag_ms)

    def due(self, now_ms: int) -> list[Event]:
        """Return candles that have changed or ended."""
        return list(self.candles.due(now_ms - self.trade_lag_ms))

    def no_heartbeat(self, now_ms: int) -> bytes:
        """Most exchanges cut without a word."""
        return b""

    def rest(self, path: str, query: Mapping[str, str], now_ms: int) -> RestAnswer | None:
        """No REST, unless an exchange has its own."""
        return None


class TypedSession:
    """One client's subscriptions by the exchange's own names, in the order they came."""

    def __init__(self) -> None:
        self.topics: dict[str, None] = {}
        self.accepted = 0

    @property
    def subscribed(self) -> bool:
        """Whether the client wants anything at present."""
        return bool(self.topics)

    def subscribe(self, topic: str) -> None:
        """Note an accepted subscription; a second one changes nothing."""
        self.topics[topic] = None
        self.accepted += 1

    def unsubscribe(self, topic: str) -> None:
        """Forget a subscription, if there is one."""
        self.topics.pop(topic, None)

    def greeting(self, now_ms: int) -> list[bytes]:
        """Return nothing, as most exchanges."""
        return []

    def beats(self, now_ms: int) -> list[bytes]:
        """Return nothing, as most exchanges."""
        return []

    def farewell(self, now_ms: int) -> list[bytes]:
        """Return nothing, as most exchanges."""
        return []


def base_quantity(contract: Contract, count: int) -> str:
    """Return so many contracts in base units, with as many decimals as the contract size has: 0.0060."""
    return f"{Decimal(count) * contract.contract_size:f}"
