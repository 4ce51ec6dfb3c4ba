"""Reading the typed tables of `market_data` from end to end: counts, times, and rows that cannot be.

Each table is read in one pass that keeps a row a stream in memory. Ids of trades go into bitmaps, a bit an
id: 400 million of them are 50 MB. Times that come out are Unix µs.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from mexcflow.store.forms import LOCAL, MARKET, existing_tables
from mexcflow.store.store import Store

SCANNED = ("trades", "books", "tickers", "candles")
"""The tables with streams in them."""
REPLACING = ("trades", "candles")
"""Those in which a row may be there twice until the engine merges them."""
MOST_HOLES = 500
"""So many holes in the trade ids of a stream are looked at."""

_FIRST_SANE_US = 1_000_000_000_000_000
_DAY_US = 86_400_000_000
_BUCKET = 1 << 16
_BUCKETS_AT_ONCE = 30
_IDS_AT_ONCE = 250
_LETTERS = 20


def _falls(prices: str, sign: str) -> str:
    """Return the condition that some price does not stand behind the one before it, strictly."""
    return f"arrayExists((a, b) -> a {sign} b, arrayPopBack(`{prices}`), arrayPopFront(`{prices}`))"


_BOOK_COLUMNS = ("bids.price", "bids.quantity", "asks.price", "asks.quantity")
CONDITIONS = {
    "trades": {
        "not_positive": "price <= 0 OR quantity <= 0",
        "without_base_quantity": "isNull(base_quantity)",
    },
    "books": {
        "crossed": "notEmpty(`bids.price`) AND notEmpty(`asks.price`) AND `bids.price`[1] >= `asks.price`[1]",
        "unsorted": f"{_falls('bids.price', '<=')} OR {_falls('asks.price', '>=')}",
        "empty_side": "empty(`bids.price`) OR empty(`asks.price`)",
        "not_positive": " OR ".join(f"arrayExists(x -> x <= 0, `{name}`)" for name in _BOOK_COLUMNS),
    },
    "tickers": {
        "not_positive": "ifNull(last_price <= 0, 0) OR ifNull(mark_price <= 0, 0) "
        "OR ifNull(index_price <= 0, 0) OR ifNull(open_interest < 0, 0)",
    },
    "candles": {
        "malformed": "high < greatest(open, close, low) OR low > least(open, close)",
        "not_positive": "least(open, high, low, close) <= 0 OR ifNull(volume < 0, 0) "
        "OR ifNull(quote_volume < 0, 0)",
    },
}
"""What is counted in each table, and when a row is one of it."""
_IMPOSSIBLE = (
    "e > r + {day:Int64} OR e < {first_sane:Int64} OR r > {now:Int64} + {day:Int64}",
    " OR e < r - {day:Int64}",
)
_OLD = "e < r - {day:Int64} AND e >= {first_sane:Int64}"
"""Trades may be old: an exchange begins with the last ones, however long ago they were."""


class StreamScan(NamedTuple):
    """One exchange's symbol in one table. `found` has how many rows are of each condition, and the first.

    `received_us` is when its first row was received.
    """

    exchange: str
    symbol: str
    rows: int
    first_us: int
    last_us: int
    received_us: int
    found: dict[str, tuple[int, int]]


class TableSize(NamedTuple):
    """What a table's active parts have: rows, doubles included, and bytes on the disk."""

    rows: int
    bytes: int


class Ids(NamedTuple):
    """The trade ids of a stream. `missing` ones lie between others; `holes` are (last before, first behind).

    `holes` are the first ones, at most `MOST_HOLES`. `odd` ids are no numbers.
    """

    missing: int
    holes: list[tuple[int, int]]
    odd: int


class Letters(NamedTuple):
    """Dead letters of one kind, and when the newest was received."""

    exchange: str
    channel: str
    reason: str
    times: int
    newest_us: int


def market_tables(store: Store) -> set[str]:
    """Return which of the typed tables are there."""
    return existing_tables(store, MARKET).keys() & {*SCANNED, "dead_letters"}


def table_sizes(store: Store, tables: Sequence[str]) -> dict[str, TableSize]:
    """Return what tables take; of a cluster's, one replica of each shard."""
    existing = existing_tables(store, MARKET)
    sizes = {}
    for table in tables:
        cluster = existing[table].cluster
        parts = "cluster({cluster:String}, system.parts)" if cluster else "system.parts"
        ((rows, size),) = store.query(
            f"SELECT sum(rows), sum(bytes_on_disk) FROM {parts} "  # noqa: S608
            "WHERE active AND database = {database:String} AND table = {table:String}",
            {"database": MARKET, "table": table + (LOCAL if cluster else ""), "cluster": cluster},
        )
        sizes[table] = TableSize(int(rows), int(size))
    return sizes


def scan_market(store: Store, table: str, now_us: int) -> list[StreamScan]:
    """Read every row of a table once and return what was found of each stream.

    Besides the table's conditions: `impossible`, times that cannot be, and of trades `old`.
    """
    of_trades = table == "trades"
    conditions = {"impossible": _IMPOSSIBLE[0] if of_trades else "".join(_IMPOSSIBLE), **CONDITIONS[table]}
    if of_trades:
        conditions["old"] = _OLD
    counts = ", ".join(f"countIf({one}), minIf(e, {one})" for one in conditions.values())
    rows = store.query(
        f"""
        WITH toUnixTimestamp64Micro(event_time) AS e, toUnixTimestamp64Micro(receive_time) AS r
        SELECT exchange, symbol, count(), min(e), ifNull(maxOrNullIf(e, NOT ({conditions["impossible"]})),
            max(e)), min(r), {counts}
        FROM {MARKET}.{table} GROUP BY exchange, symbol ORDER BY exchange, symbol
        """,  # noqa: S608
        {"day": _DAY_US, "first_sane": _FIRST_SANE_US, "now": now_us},
    )
    scans = []
    for exchange, symbol, count, first, last, received, *pairs in rows:
        found = dict(zip(conditions, zip(pairs[::2], pairs[1::2], strict=True), strict=True))
        scans.append(StreamScan(exchange, symbol, count, first, last, received, found))
    return scans


def merged_rows(store: Store, table: str) -> dict[tuple[str, str], int]:
    """Return how many rows each stream has when those that are there twice count once."""
    rows = store.query(
        f"SELECT exchange, symbol, count() FROM {MARKET}.{table} FINAL GROUP BY exchange, symbol "  # noqa: S608
        # a row's partition depends on what makes it unique
        "SETTINGS do_not_merge_across_partitions_select_final = 1"
    )
    return {(exchange, symbol): count for exchange, symbol, count in rows}


def scan_sequences(store: Store) -> list[tuple[str, str, int, int]]:
    """Return where a book's sequence number is below the one before it: stream, how often, the first."""
    return [
        (exchange, symbol, count, first_us)
        for exchange, symbol, count, first_us in store.query(
            f"""
            SELECT exchange, symbol, countIf(back) AS times, minIf(e, back) FROM
            (
                SELECT exchange, symbol, toUnixTimestamp64Micro(event_time) AS e,
                    sequence < lagInFrame(sequence, 1, sequence) OVER (
                        PARTITION BY exchange, symbol ORDER BY event_time, sequence
                        ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS back
                FROM {MARKET}.books WHERE sequence > 0
            )
            GROUP BY exchange, symbol HAVING times > 0 ORDER BY exchange, symbol
            SETTINGS max_bytes_before_external_sort = 268435456
            """  # noqa: S608
        )
    ]


def scan_ids(store: Store, exchange: str) -> dict[str, Ids]:
    """Return the holes in the trade ids of each symbol of an exchange whose ids rise by one."""
    buckets: dict[str, list[tuple[int, int, int, int]]] = {}
    odd: dict[str, int] = {}
    for symbol, bucket, count, rows, first, last in store.query(
        f"""
        SELECT symbol, intDiv(id, {_BUCKET}) AS bucket, groupBitmap(assumeNotNull(id)), count(), min(id),
            max(id)
        FROM (SELECT symbol, toUInt64OrNull(trade_id) AS id FROM {MARKET}.trades
            WHERE exchange = {{exchange:String}})
        GROUP BY symbol, bucket ORDER BY symbol, bucket NULLS FIRST
        """,  # noqa: S608
        {"exchange": exchange},
    ):
        of_symbol = buckets.setdefault(symbol, [])
        if bucket is None:
            odd[symbol] = rows
        else:
            of_symbol.append((bucket, count, first, last))
    return {
        symbol: Ids(
            missing=_missing(found),
            holes=sorted(_holes(store, exchange, symbol, found))[:MOST_HOLES],
            odd=odd.get(symbol, 0),
        )
        for symbol, found in buckets.items()
    }


def _missing(buckets: Sequence[tuple[int, int, int, int]]) -> int:
    if not buckets:
        return 0
    return buckets[-1][3] - buckets[0][2] + 1 - sum(count for _, count, _, _ in buckets)


def _holes(
    store: Store, exchange: str, symbol: str, buckets: Sequence[tuple[int, int, int, int]]
) -> Iterator[tuple[int, int]]:
    for (*_, last), (_, _, first, _) in pairwise(buckets):
        if first > last + 1:
            yield last, first
    torn = [bucket for bucket, count, first, last in buckets if last - first + 1 > count]
    found = 0
    for at in range(0, len(torn), _BUCKETS_AT_ONCE):
        if found >= MOST_HOLES:
            return
        inside = store.query(
            f"""
            SELECT previous, id FROM
            (
                SELECT id, lagInFrame(id, 1, id) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
                    AS previous
                FROM (SELECT DISTINCT assumeNotNull(toUInt64OrNull(trade_id)) AS id FROM {MARKET}.trades
                    WHERE exchange = {{exchange:String}} AND symbol = {{symbol:String}}
                    AND intDiv(toUInt64OrNull(trade_id), {_BUCKET}) IN {{buckets:Array(UInt64)}})
            )
            WHERE id > previous + 1 AND intDiv(id, {_BUCKET}) = intDiv(previous, {_BUCKET})
            ORDER BY id LIMIT {MOST_HOLES}
            """,  # noqa: S608
            {"exchange": exchange, "symbol": symbol, "buckets": torn[at : at + _BUCKETS_AT_ONCE]},
        )
        found += len(inside)
        yield from inside


def received_at(store: Store, exchange: str, symbol: str, ids: Sequence[int]) -> dict[int, int]:
    """Return when the trades with these ids were received first (Unix µs)."""
    times: dict[int, int] = {}
    for at in range(0, len(ids), _IDS_AT_ONCE):
        rows = store.query(
            "SELECT toUInt64(trade_id), toUnixTimestamp64Micro(min(receive_time)) "  # noqa: S608
            f"FROM {MARKET}.trades WHERE exchange = {{exchange:String}} AND symbol = {{symbol:String}} "
            "AND trade_id IN {ids:Array(String)} GROUP BY trade_id",
            {
                "exchange": exchange,
                "symbol": symbol,
                "ids": [str(one) for one in ids[at : at + _IDS_AT_ONCE]],
            },
        )
        times.update(rows)
    return times


def dead_letters(store: Store) -> list[Letters]:
    """Return how many dead letters there are of each exchange, channel and reason: the most frequent 20."""
    return [
        Letters(*row)
        for row in store.query(
            "SELECT exchange, channel, reason, count() AS times, toUnixTimestamp64Micro(max(receive_time)) "  # noqa: S608
            f"FROM {MARKET}.dead_letters GROUP BY exchange, channel, reason "
            f"ORDER BY times DESC, exchange, channel, reason LIMIT {_LETTERS}"
        )
    ]
