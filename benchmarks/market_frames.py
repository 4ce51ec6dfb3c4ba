"""Binance USD-M frames of the two kinds that collectors are compared on: aggTrade and depth20@100ms.

In the shape in which combined streams bring them since April 2026; the values are invented, and the same for
the same seed. A book is `market.Book`'s: about 10 of its best 20 + 20 levels change from one to the next.
"""

import json
import random
from collections.abc import Iterator

from market import Book
from market_wire import decimals

_START_MS = 1_790_000_000_000
_FIRST_TRADE = 3_466_782_974
FIRST_UPDATE = 9_000_000_000_000
_LEVELS, _CHANGES = 20, 20


def trades(count: int, seed: int = 1) -> Iterator[bytes]:
    """Yield so many trades, their ids consecutive, 14 a second on average."""
    rng = random.Random(f"trades {seed}")
    ms, ticks = float(_START_MS), 845_000
    fill = _FIRST_TRADE * 2
    for number in range(_FIRST_TRADE, _FIRST_TRADE + count):
        ms += rng.expovariate(14 / 1000)
        ticks += rng.choice((-1, 0, 0, 0, 1))
        fills = 1 + min(int(rng.expovariate(1.1)), 30)
        quantity = decimals(1 + int(rng.lognormvariate(4.0, 1.6)), 3)
        yield (
            f'{{"stream":"btcusdt@aggTrade","data":{{"e":"aggTrade","E":{int(ms) + 150},"a":{number},'
            f'"s":"BTCUSDT","p":"{decimals(ticks, 1)}0","q":"{quantity}","nq":"{quantity}","f":{fill},'
            f'"l":{fill + fills - 1},"T":{int(ms)},"m":{rng.choice(("true", "false"))},"st":1}}}}'
        ).encode()
        fill += fills


def books(count: int, seed: int = 1) -> Iterator[bytes]:
    """Yield so many books of 20 levels a side, one each 100 ms."""
    rng = random.Random(f"books {seed}")
    book, before = Book(rng), FIRST_UPDATE
    for ms in range(_START_MS, _START_MS + 100 * count, 100):
        book.step(_CHANGES)
        bids, asks = (
            ",".join(f'["{decimals(ticks, 1)}0","{decimals(lots, 3)}"]' for ticks, lots in side[:_LEVELS])
            for side in book.sides
        )
        last = before + rng.randint(500, 5000)
        yield (
            f'{{"stream":"btcusdt@depth20@100ms","data":{{"e":"depthUpdate","E":{ms + 2},"T":{ms},'
            f'"s":"BTCUSDT","ps":"BTCUSDT","U":{before + 7},"u":{last},"pu":{before},'
            f'"b":[{bids}],"a":[{asks}],"st":1}}}}'
        ).encode()
        before = last


KINDS = {"aggTrade": trades, "depth20": books}
"""By the name of the stream."""


def answer(path: str) -> bytes:
    """Return what REST answers: the list of symbols; b"" for anything else."""
    if "exchangeInfo" in path:
        symbol = {
            "symbol": "BTCUSDT",
            "pair": "BTCUSDT",
            "contractType": "PERPETUAL",
            "status": "TRADING",
            "baseAsset": "BTC",
            "quoteAsset": "USDT",
            "marginAsset": "USDT",
            "filters": [
                {"filterType": "PRICE_FILTER", "tickSize": "0.10"},
                {"filterType": "LOT_SIZE", "stepSize": "0.001"},
            ],
        }
        return json.dumps({"symbols": [symbol]}).encode()
    return b""
