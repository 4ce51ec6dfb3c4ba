"""The real command and a simulated exchange with typed tables."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from mexcflow.simulator import Faults, Simulator
from mexcflow.simulator.binance_rest import FuturesRest
from mexcflow.simulator.candles import ms_before_a_minute_ends
from tests.conftest import Running
from tests.test_record import statistics

SYMBOLS = {
    "binance": ("BTCUSDT", "ETHUSDT"),
    "binance_spot": ("BTCUSDT", "ETHUSDT"),
    "bybit": ("BTCUSDT", "ETHUSDT"),
    "okx": ("BTC-USDT-SWAP", "ETH-USDT-SWAP"),
    "coinbase": ("BTC-USD", "ETH-USD"),
    "kraken": ("BTC/USD", "ETH/USD"),
}
"""Two symbols of each exchange, as it writes them."""
UNKNOWN = {
    "binance": "NOPEUSDT",
    "binance_spot": "NOPEUSDT",
    "bybit": "NOPEUSDT",
    "okx": "NOPE-USDT-SWAP",
    "coinbase": "NOPE-USD",
    "kraken": "NOPE/USD",
}
"""One that is none."""


@contextmanager
def simulated(
    name: str, *, speed: float = 10, minute_ends_in_s: float = 0, faults: Faults | None = None
) -> Iterator[Simulator]:
    """A simulated exchange, on whose clock a minute ends that long after now.

    What is polled is not answered: so the tables hold what was sent over the connections, and no more.
    """
    ahead_ms = 0
    if minute_ends_in_s:
        now_ms = time.time_ns() // 1_000_000
        ahead_ms = ms_before_a_minute_ends(now_ms, round(minute_ends_in_s * 1000))
    options = {"speed": speed, "clock_ahead_ms": ahead_ms, "faults": faults, "keep_sent": True}
    with (
        patch.object(FuturesRest, "_open_interest", return_value=None),
        Simulator(exchange=name, **options) as exchange,
    ):
        yield exchange


def record(
    start: Callable[..., Running],
    exchange: Simulator,
    name: str,
    *symbols: str,
    options: tuple[str, ...] = (),
) -> Running:
    """Start a recording of these symbols into ./data."""
    wanted = [part for symbol in symbols for part in ("--symbol", symbol)]
    return start(
        "run", "--exchange", name, *wanted, "--endpoint", exchange.address, "--flush-interval", "0.2",
        "--stats-interval", "0.5", "--log-format", "json", *options,
    )  # fmt: skip


def sockets(name: str) -> int:
    """Return how many connections all channels need."""
    return 2 if name in ("binance", "okx") else 1


def received_all(running: Running, exchange: Simulator) -> bool:
    """Say whether every message that went out has been received, and is in its table."""
    sent = sum(len(messages) for _, messages in exchange.sent_to)
    blocks = statistics(running)
    return bool(blocks) and blocks[-1]["frames"] >= sent
