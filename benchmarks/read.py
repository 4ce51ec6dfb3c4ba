"""What reading costs: each view, and the two scans of `verify`, over a table of a million rows.

    python benchmarks/read.py [--rows 1000000]

The table is made in a temporary folder from the frames of `frames.py` (4 % ticker, 73 % deal, 23 % depth
of 20 levels a side), in INSERTs of 1,000 rows. Every column of every row is read; the best of three runs.
"""

import argparse
import tempfile
import time
from collections.abc import Callable

from frames import START_MS, Generator

from mexcflow.exchanges.mexc import Mexc
from mexcflow.store import Store, ensure_table, open_store
from mexcflow.store.scan import scan_order, scan_table
from mexcflow.store.sizes import table_files

INSERT_ROWS = 1000
RUNS = 3
VIEWS = ("btc_ticker", "btc_deals", "btc_depth", "btc_candles_1m")


def fill(store: Store, rows: int) -> None:
    """Make the table."""
    ensure_table(store, "btc")
    exchange = Mexc("BTC_USDT", ("ticker", "deal", "depth"))
    batch = []
    for frame in Generator(kind="evolving").frames(rows, interval_ms=80):
        batch += exchange.read(frame).rows
        if len(batch) >= INSERT_ROWS:
            store.insert_rows("btc", batch)
            batch = []
    store.insert_rows("btc", batch)


def seconds(work: Callable[[], object]) -> float:
    """Return the best of three runs."""
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory(prefix="mexcflow-bench-") as folder, open_store(folder) as store:
        fill(store, rows)
        size = table_files(store, "btc")
        print(f"{rows:,} rows, {(size.data_bin_bytes + (size.index_mrk_bytes or 0)) / rows:.1f} bytes a row")
        for view in VIEWS:
            taken = seconds(lambda view=view: list(store.export(f"SELECT * FROM mexc_data.{view}", "Null")))
            ((count,),) = store.query(f"SELECT count() FROM mexc_data.{view}")
            print(f"{view:<22} {taken:6.2f} s  {count:>9,} rows")
        now_ms = START_MS + rows * 80
        print(f"{'verify: shapes':<22} {seconds(lambda: scan_table(store, 'btc', now_ms)):6.2f} s")
        print(f"{'verify: order of times':<22} {seconds(lambda: scan_order(store, 'btc', 5000)):6.2f} s")


if __name__ == "__main__":
    main()
