"""What the typed tables cost on disk, against the JSON that came in, and which codecs make them so small.

    python benchmarks/codecs.py [--minutes 30] [--columns | --frames ../shared/data/frames]

Half an hour of a simulated BTC on three exchanges (`market.py`) goes into the tables as `sql/` has them, in
INSERTs of 1,000 rows, and is then merged into one part. The same with one codec for every column, to compare;
all of them have to give back the same values. `--columns` tries codecs on each column alone; `--frames` does
that with captured books and trades (`market_captured.py`), which are few, but real.

Bytes are those on the disk, all files of the parts. CPU is user + system of the process: the text parsed,
sorted, compressed and synced.
"""

import argparse
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from market import EXCHANGES, Market
from market_captured import books, trades

from mexcflow.store import Store, open_store
from mexcflow.store.schema import apply
from mexcflow.store.statements import read_statements

INSERT_ROWS = 1000
DAY_S = 86_400
TABLES = ("trades", "books", "tickers", "candles")
VARIANTS = ("as in sql/", "LZ4", "ZSTD(1)", "ZSTD(3)", "ZSTD(9)", "GCD, ZSTD(3)")
_CODEC = re.compile(r" CODEC\((?:[^()]|\([^()]*\))*\)")
_WHOLE = "ZSTD(1)", "ZSTD(3)", "ZSTD(6)", "ZSTD(9)"
_NUMBERS = (*_WHOLE, *(f"GCD, {one}" for one in _WHOLE))
_TIMES = (
    "ZSTD(1)", "Delta, ZSTD(1)", "Delta, ZSTD(3)", "DoubleDelta, ZSTD(1)", "T64, ZSTD(1)",
    "GCD, ZSTD(1)", "GCD, Delta, ZSTD(1)", "GCD, DoubleDelta, ZSTD(1)",
)  # fmt: skip
_TEXTS = ("LZ4", *_WHOLE)


class Input(NamedTuple):
    """What one exchange sent: lines by table, and the bytes of its frames by table."""

    exchange: str
    seconds: float
    lines: dict[str, list[str]]
    json_bytes: dict[str, int]


class Cost(NamedTuple):
    """Bytes on the disk and rows after merging; CPU seconds of the INSERTs and of the merge."""

    bytes: int
    rows: int
    insert_s: float
    merge_s: float
    hash: int


def simulated(seconds: float) -> Iterator[Input]:
    """Yield each exchange's share of the simulated market."""
    for exchange in EXCHANGES:
        lines: dict[str, list[str]] = defaultdict(list)
        sizes: dict[str, int] = defaultdict(int)
        for frame in Market(exchange).frames(seconds):
            lines[frame.table] += frame.lines
            sizes[frame.table] += frame.json_bytes
        yield Input(exchange.name, seconds, lines, sizes)


def captured(folder: Path) -> Iterator[Input]:
    """Yield each capture of books and trades as an exchange of its own."""
    for table, read in (("books", books), ("trades", trades)):
        for name, lines, size in read(folder):
            yield Input(name, 0, {table: lines}, {table: size})


def create(store: Store, codec: str) -> None:
    """Make the tables, with one codec for all columns that have one unless they are to be as in sql/."""
    if codec != VARIANTS[0]:
        store.command("CREATE DATABASE IF NOT EXISTS market_data")
        for one in read_statements([]):
            if one.kind == "table" and any(f"market_data.{name}\n" in one.sql for name in TABLES):
                store.command(_CODEC.sub(lambda found: _for(codec, found[0]), one.sql))
    apply(store, [])
    for table in TABLES:
        store.command(f"ALTER TABLE market_data.{table} MODIFY SETTING min_bytes_for_wide_part = 0")


def _for(codec: str, found: str) -> str:
    return f" CODEC({codec})" if "GCD" not in codec or "GCD" in found else f" CODEC({codec[5:]})"


def load(store: Store, table: str, lines: list[str]) -> Cost:
    """Insert, merge, measure, and empty the table again."""
    name = f"market_data.{table}"
    columns = [row[0] for row in store.query(f"DESCRIBE TABLE {name}")]
    store.command(f"SYSTEM STOP MERGES {name}")
    started = time.process_time()
    for at in range(0, len(lines), INSERT_ROWS):
        store.insert_block(name, columns, "".join(lines[at : at + INSERT_ROWS]).encode(), {})
    insert_s = time.process_time() - started
    store.command(f"SYSTEM START MERGES {name}")
    started = time.process_time()
    store.command(f"OPTIMIZE TABLE {name} FINAL")
    merge_s = time.process_time() - started
    ((size, rows),) = store.query(
        "SELECT sum(bytes_on_disk), sum(rows) FROM system.parts "
        "WHERE active AND database = 'market_data' AND table = {table:String}",
        {"table": table},
    )
    ((content,),) = store.query(f"SELECT sum(cityHash64(*)) FROM {name}")
    store.command(f"TRUNCATE TABLE {name}")
    return Cost(size, rows, insert_s, merge_s, content)


def measure(inputs: list[Input], codec: str) -> dict[tuple[str, str], Cost]:
    """Return what each exchange and table costs with this codec."""
    costs = {}
    with tempfile.TemporaryDirectory(prefix="mexcflow-bench-") as folder, open_store(folder) as store:
        create(store, codec)
        for one in inputs:
            for table, lines in one.lines.items():
                costs[one.exchange, table] = load(store, table, lines)
    return costs


def print_tables(inputs: list[Input], costs: dict[tuple[str, str], Cost]) -> None:
    """Print the table of each exchange, as it is in sql/."""
    print("| exchange | table | rows | JSON, bytes a row | stored | share | CPU µs a row: INSERT | merge |")
    for one in inputs:
        for table in TABLES:
            cost, sent = costs[one.exchange, table], len(one.lines[table])
            json_bytes = one.json_bytes[table]
            print(
                f"| {one.exchange} | {table} | {sent:,} | {json_bytes / sent:.0f} | {cost.bytes / sent:.1f} "
                f"| {cost.bytes / json_bytes:.1%} | {cost.insert_s / sent * 1e6:.1f} "
                f"| {cost.merge_s / sent * 1e6:.1f} |"
            )


def print_day(inputs: list[Input], codec: str, costs: dict[tuple[str, str], Cost]) -> None:
    """Print what a day comes to, of each exchange and of all."""
    json_mb, stored_mb, shares = 0.0, 0.0, []
    for one in inputs:
        scale = DAY_S / one.seconds / 1e6
        sent = sum(one.json_bytes.values()) * scale
        stored = sum(costs[one.exchange, table].bytes for table in TABLES) * scale
        json_mb, stored_mb = json_mb + sent, stored_mb + stored
        shares.append(f"{stored:,.0f} of {sent:,.0f} MB, {stored / sent:.1%}")
    insert_s = sum(cost.insert_s * DAY_S / inputs[0].seconds for cost in costs.values())
    print(
        f"| {codec} | {' | '.join(shares)} | {stored_mb:,.0f} of {json_mb:,.0f} MB, "
        f"**{stored_mb / json_mb:.1%}** | {insert_s:,.0f} |"
    )


def candidates(column: str, type_name: str) -> tuple[str, ...]:
    """Return the codecs that may suit a column."""
    if "Decimal" in type_name:
        return _NUMBERS
    if "DateTime64(6" in type_name or column in ("sequence", "open_time"):
        return _TIMES
    return _TEXTS


def print_columns(inputs: list[Input]) -> None:
    """Print bytes a value of each column alone, by codec and exchange."""
    with tempfile.TemporaryDirectory(prefix="mexcflow-bench-") as folder, open_store(folder) as store:
        create(store, VARIANTS[0])
        for table in TABLES:
            name = f"market_data.{table}"
            columns = [row[:2] for row in store.query(f"DESCRIBE TABLE {name}")]
            held = [one for one in inputs if table in one.lines]
            for one in held:
                block = "".join(one.lines[table]).encode()
                store.insert_block(name, [column for column, _ in columns], block, {})
            for column, type_name in columns:
                for codec in candidates(column, type_name) if held else ():
                    sizes = [alone(store, table, column, type_name, codec, one.exchange) for one in held]
                    print(f"| {table} | {column} | {codec} | {' | '.join(sizes)} |", flush=True)


def alone(store: Store, table: str, column: str, type_name: str, codec: str, exchange: str) -> str:
    """Return the bytes a value of one exchange's column takes, and the CPU µs of an INSERT SELECT."""
    store.command("DROP TABLE IF EXISTS market_data.one SYNC")
    store.command(
        f"CREATE TABLE market_data.one (a {type_name} CODEC({codec})) ENGINE = MergeTree ORDER BY tuple() "
        "SETTINGS min_bytes_for_wide_part = 0"
    )
    ((key,),) = store.query(
        "SELECT sorting_key FROM system.tables WHERE database = 'market_data' AND name = {t:String}",
        {"t": table},
    )
    started = time.process_time()
    store.command(
        f"INSERT INTO market_data.one SELECT `{column}` FROM market_data.{table} "
        f"WHERE exchange = '{exchange}' ORDER BY {key} SETTINGS max_threads = 1"
    )
    taken = time.process_time() - started
    store.command("OPTIMIZE TABLE market_data.one FINAL")
    ((size, rows),) = store.query(
        "SELECT sum(column_data_compressed_bytes), sum(rows) FROM system.parts_columns "
        "WHERE active AND database = 'market_data' AND table = 'one'"
    )
    return f"{size / rows:.2f} ({taken / rows * 1e6:.1f} µs)"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--columns", action="store_true")
    parser.add_argument("--frames", type=Path)
    chosen = parser.parse_args()
    if chosen.frames:
        print_columns(list(captured(chosen.frames)))
        return
    inputs = list(simulated(chosen.minutes * 60))
    if chosen.columns:
        print_columns(inputs)
        return
    print(f"| codec | {' | '.join(one.exchange for one in inputs)} | a day of all | CPU s of its INSERTs |")
    contents = set()
    for codec in VARIANTS:
        costs = measure(inputs, codec)
        contents.add(tuple(cost.hash for cost in costs.values()))
        print_day(inputs, codec, costs)
        if codec == VARIANTS[0]:
            own = costs
    if len(contents) != 1:
        raise SystemExit("the codecs did not give back the same values")
    print_tables(inputs, own)


if __name__ == "__main__":
    main()
