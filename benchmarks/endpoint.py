"""What the way over HTTP costs, to a folder that another process owns.

    python benchmarks/endpoint.py [--rounds 30] [--gigabytes 1]

(1) An INSERT of 1 to 10,000 rows in the owner itself, and from another process through its endpoint: the
same call, `Store.insert_rows`, in turns of ten; and with bare HTTP in place of clickhouse-connect. (2) A
long result, streamed: speed, and the owner's peak of memory beside what it had before. (3) `SELECT 1`,
there and back. (4) A ping, which is HTTP alone.
"""

import argparse
import http.client
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from mexcflow.model import Row
from mexcflow.store import Store, ensure_table, open_store
from mexcflow.store.endpoint import Endpoint
from mexcflow.store.tsv import encode_rows

SIZES = (1, 100, 1000, 10_000)
TURN = 10
PAUSE_S = 0.005
"""Before each call: nobody inserts without a pause, and whoever does finds the engine's threads awake."""
LONG = "SELECT number, toString(number) AS text, repeat('x', 80) AS filler FROM numbers({rows})"
ROW_BYTES = 97


def rows(count: int) -> list[Row]:
    """Return rows as they are recorded: mostly deals."""
    return [(1_790_000_000_000 + n, "d", f"{84055 + n % 100}|{n % 50}|{1 + n % 2}") for n in range(count)]


def insert_times(store: Store, table: str, batch: list[Row], count: int = TURN) -> list[float]:
    """Return how long each of some INSERTs took."""
    return times(lambda: store.insert_rows(table, batch), count)


def times(work: Callable[[], object], count: int) -> list[float]:
    """Return how long each call took."""
    found = []
    for _ in range(count):
        time.sleep(PAUSE_S)
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return found


def own(folder: str, token: str) -> None:
    """Own a folder; on each line of standard input insert so many rows and say how long it took."""
    with open_store(folder) as store:
        ensure_table(store, "here")
        ensure_table(store, "there")
        endpoint = Endpoint(Path(folder), token=token, owner="benchmark")
        print(endpoint.start(), flush=True)
        for line in sys.stdin:
            print(*insert_times(store, "here", rows(int(line))), flush=True)
        endpoint.close()


class Owner:
    """The process that owns the folder."""

    def __init__(self, folder: str) -> None:
        self.token = secrets.token_hex(8)
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--own", folder, "--token", self.token],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.port = int(self._answer())

    def insert_times(self, count: int) -> list[float]:
        """Let it insert, in its own process."""
        print(count, file=self._process.stdin, flush=True)
        return [float(found) for found in self._answer().split()]

    def memory_mb(self, name: str) -> float:
        """Return what the kernel counts for it: VmRSS or VmHWM."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1000

    def forget_peak(self) -> None:
        """Begin the peak of memory anew."""
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    def _answer(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def bare_insert(line: http.client.HTTPConnection, token: str, batch: list[Row]) -> None:
    """Insert with as little of a client as there can be."""
    line.request(
        "POST",
        "/?query=INSERT%20INTO%20mexc_data.there%20FORMAT%20TSV",
        encode_rows(batch),
        {"X-ClickHouse-Key": token},
    )
    answer = line.getresponse()
    assert answer.status == 200, answer.read()
    answer.read()


def inserts(owner: Owner, store: Store, rounds: int) -> None:
    """Compare the ways, in turns, so that all see the same machine."""
    print("ms an INSERT: median (fastest tenth); the endpoint's with clickhouse-connect and with bare HTTP")
    print(f"{'rows':>6} {'owner':>14} {'endpoint':>14} {'bare':>14}")
    line = http.client.HTTPConnection("127.0.0.1", owner.port)
    for size in SIZES:
        batch = rows(size)
        ways: list[list[float]] = [[], [], []]
        for _ in range(rounds):
            ways[0] += owner.insert_times(size)
            ways[1] += insert_times(store, "there", batch)
            ways[2] += times(lambda: bare_insert(line, owner.token, batch), TURN)  # noqa: B023
        shown = [f"{share(way, 0.5):.2f} ({share(way, 0.1):.2f})" for way in ways]
        print(f"{size:>6} {shown[0]:>14} {shown[1]:>14} {shown[2]:>14}")


def share(found: list[float], part: float) -> float:
    """Return the time, in ms, that this part of the calls did not exceed."""
    return sorted(found)[int(len(found) * part)] * 1000


def results(owner: Owner, store: Store, gigabytes: float) -> None:
    """Stream a long result in each of several ways."""
    sql = LONG.format(rows=int(gigabytes * 1e9 / ROW_BYTES))
    print(f"{'result':>28} {'MB':>7} {'MB/s':>7} {'owner: MB before':>17} {'peak':>7}")
    for fmt in ("Native", "JSONEachRow", "TabSeparated", "JSON", "Parquet"):
        owner.forget_peak()
        before, size, began = owner.memory_mb("VmRSS"), 0, time.perf_counter()
        for chunk in store.export(sql, fmt):
            size += len(chunk)
        speed = size / 1e6 / (time.perf_counter() - began)
        print(f"{fmt:>28} {size / 1e6:>7.0f} {speed:>7.0f} {before:>17.0f} {owner.memory_mb('VmHWM'):>7.0f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What the way over HTTP costs")
    parser.add_argument("--rounds", type=int, default=30, help="turns of ten INSERTs for each size")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="how long the long results are")
    parser.add_argument("--own", help=argparse.SUPPRESS)
    parser.add_argument("--token", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.own:
        own(given.own, given.token)
        return
    with tempfile.TemporaryDirectory() as folder, Owner(folder) as owner:
        with open_store(f"http://default:{owner.token}@127.0.0.1:{owner.port}") as store:
            inserts(owner, store, given.rounds)
            results(owner, store, given.gigabytes)
            print(f"SELECT 1: {statistics.median(times(lambda: store.query('SELECT 1'), 500)) * 1000:.2f} ms")
        line = http.client.HTTPConnection("127.0.0.1", owner.port)

        def ping() -> None:
            line.request("GET", "/ping")
            line.getresponse().read()

        print(f"ping: {statistics.median(times(ping, 500)) * 1000:.2f} ms")
        print(f"load of the machine meanwhile: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
