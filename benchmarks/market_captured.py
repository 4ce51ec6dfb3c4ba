"""Rows from captured frames, in the shape of `market.py`: few of them, but real.

Books of OKX (2022, deltas of 400 levels) as their best 20 + 20; trades of Binance futures (2021).
"""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import orjson

_LEVELS = 20
_BOOKS = ("okx_spot.books.2022", "okx_futures.books.2022", "okx_swap.books.2022")


def books(folder: Path) -> Iterator[tuple[str, list[str], int]]:
    """Yield each capture's name, lines of the table of books, and bytes of JSON."""
    for name in _BOOKS:
        sides: dict[str, dict[Decimal, str]] = {"bids": {}, "asks": {}}
        lines, size = [], 0
        for frame in (folder / f"{name}.jsonl").read_bytes().splitlines():
            size += len(frame)
            for update in orjson.loads(frame)["data"]:
                for side, levels in sides.items():
                    for price, quantity, *_ in update[side]:
                        levels.pop(Decimal(price), None)
                        if quantity != "0":
                            levels[Decimal(price)] = quantity
                ms = int(update["ts"])
                lines.append(f"{_head(name, ms * 1000, ms * 1000 + 9_123)}\t{ms}\t{_arrays(sides)}\n")
        yield name, lines, size


def trades(folder: Path) -> Iterator[tuple[str, list[str], int]]:
    """Yield each capture's name, lines of the table of trades, and bytes of JSON."""
    lines, size, name = [], 0, "binance_futures.aggTrade.2021"
    for frame in (folder / f"{name}.jsonl").read_bytes().splitlines():
        size += len(frame)
        one = orjson.loads(frame)["data"]
        head = _head(name, one["T"] * 1000, one["E"] * 1000 + 7_021)
        lines.append(
            f"{head}\t{one['a']}\t{one['p']}\t{one['q']}\t{one['q']}\t{'sell' if one['m'] else 'buy'}\n"
        )
    yield name, lines, size


def _head(name: str, event_us: int, received_us: int) -> str:
    times = "\t".join(f"{us // 10**6}.{us % 10**6:06d}" for us in (event_us, received_us))
    return f"{name}\tBTC\t{times}"


def _arrays(sides: dict[str, dict[Decimal, str]]) -> str:
    arrays = []
    for side, levels in sides.items():
        best = sorted(levels, reverse=side == "bids")[:_LEVELS]
        arrays.append(",".join(str(price) for price in best))
        arrays.append(",".join(levels[price] for price in best))
    return "\t".join(f"[{array}]" for array in arrays)
