"""What a trade and a book cost, from the socket to a stored row: mexcflow beside other collectors.

    python benchmarks/collectors.py                       # mexcflow and the floor, about two minutes
    python benchmarks/collectors.py --cryptofeed /path/to/python --ccxt /path/to/python
    python benchmarks/collectors.py --kind depth20 --count 20000 --repeat 1

The frames are Binance's aggTrade and depth20 (`market_frames.py`), sent at full speed by a process of their
own (`blaster.py`). Each client is a process of its own, too, and they take turns, so that a machine whose
speed changes is the same to all of them:

- `floor`: websocket-client and `orjson.loads`, nothing stored;
- `mexcflow`: a recording as `run` wires it, into an embedded database in a temporary folder;
- `cryptofeed`, `ccxt.pro`: into the same tables of the same engine, in batches (`other_collectors.py`), with
  an interpreter that has them. They are no dependency of anything here.

CPU is user + system of the whole process, engine threads included, until the last row is stored.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ingest import SETTLE_S, cpu_s

HERE = Path(__file__).resolve().parent
COUNTS = {"aggTrade": 200_000, "depth20": 40_000}
_CHANNELS = {"aggTrade": "trade", "depth20": "book"}
_WHOLE = {
    "aggTrade": "SELECT count(), uniqExact(trade_id) FROM market_data.trades",
    "depth20": (
        "SELECT count(), uniqExactIf(sequence, length(`bids.price`) = 20 AND length(`asks.quantity`) = 20) "
        "FROM market_data.books"
    ),
}


def report(frames: int, cpu: float, seconds: float, *, stored: int = 0) -> None:
    """Print this client's figures for the parent."""
    print(json.dumps({"us": cpu / frames * 1e6, "per_s": frames / seconds, "stored": stored}))


def client_floor(url: str, kind: str, count: int) -> None:
    """Receive and parse with websocket-client alone."""
    import orjson
    import websocket

    line = websocket.create_connection(url, skip_utf8_validation=True)
    line.send(b'{"method":"SUBSCRIBE","params":["btcusdt@%b"],"id":1}' % kind.encode())
    line.recv()
    time.sleep(SETTLE_S)
    started_cpu, started = cpu_s(), time.perf_counter()
    for _ in range(count):
        orjson.loads(line.recv_data()[1])
    report(count, cpu_s() - started_cpu, time.perf_counter() - started)


def client_mexcflow(url: str, kind: str, count: int) -> None:
    """Record until so many rows are stored, and look whether they are all there, once each."""
    from mexcflow.config import Instance
    from mexcflow.pipeline.record import Recorder, Settings
    from mexcflow.store import open_store

    with tempfile.TemporaryDirectory(prefix="mexcflow-bench-") as folder:
        endpoint = url.removesuffix("/edge")
        instance = Instance(
            symbol="BTCUSDT", exchange="binance", channels=(_CHANNELS[kind],), endpoint=endpoint
        ).checked()
        recorder = Recorder(Settings(instance=instance, database=folder))
        marks: dict[str, float] = {}

        def on_tick() -> None:
            total, now = recorder.snapshot().total, time.perf_counter()
            if total.acks and "settled" not in marks:
                marks["settled"] = now
            if "settled" in marks and "cpu" not in marks and now - marks["settled"] > 0.1:
                marks.update(cpu=cpu_s(), started=now)
            if total.rows + total.dead_letters >= count:
                recorder.stop()

        recorder.run(lambda _: None, on_tick)
        marks.update(cpu=cpu_s() - marks["cpu"], seconds=time.perf_counter() - marks["started"])
        store = open_store(folder)
        rows, whole = store.query(_WHOLE[kind])[0]
        store.close()
        report(count, marks["cpu"], marks["seconds"], stored=rows if rows == whole else -1)


CLIENTS = {"floor": client_floor, "mexcflow": client_mexcflow}


def measure(client: str, python: str, kind: str, count: int) -> dict[str, Any]:
    """Run one client against a blaster; each in its own process."""
    blaster = subprocess.Popen(
        [sys.executable, str(HERE / "blaster.py"), f"--count={count}", f"--kind={kind}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert blaster.stdout is not None
        url = blaster.stdout.readline().strip()
        script = __file__ if client in CLIENTS else str(HERE / "other_collectors.py")
        command = [python, script, "--client", client, url, kind, str(count)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return figures
    finally:
        blaster.kill()
        blaster.wait()


def installed(python: str, module: str) -> bool:
    """Say whether an interpreter has what a client needs."""
    code = f"import {module}, chdb, clickhouse_connect"
    try:
        return not subprocess.run([python, "-c", code], capture_output=True, check=False).returncode
    except OSError:
        return False


def show(kind: str, count: int, client: str, figures: list[dict[str, Any]], floor_us: float) -> None:
    """Print a client's medians, and what it lost."""
    us = [one["us"] for one in figures]
    median = statistics.median(us)
    per_s = statistics.median(one["per_s"] for one in figures)
    stored = [one["stored"] for one in figures]
    kept = "" if client == "floor" else f"  stored {min(stored)} of {count}"
    if kept and min(stored) != count:
        kept += "  INCOMPLETE"
    print(
        f"{kind:<9} {client:<11} {median:6.1f} µs a frame ({min(us):.1f} to {max(us):.1f}), "
        f"{median / floor_us:5.2f} x floor, {per_s:8.0f} a second{kept}",
        flush=True,
    )


def main() -> None:
    """Measure what was asked for."""
    if sys.argv[1:2] == ["--client"]:
        client, url, kind, count = sys.argv[2:6]
        CLIENTS[client](url, kind, int(count))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kind", choices=tuple(COUNTS), action="append")
    parser.add_argument("--count", type=int, help="frames; 200,000 trades, 40,000 books")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--cryptofeed", metavar="PYTHON", help="an interpreter with cryptofeed 3")
    parser.add_argument("--ccxt", metavar="PYTHON", help="an interpreter with ccxt; trades only")
    options = parser.parse_args()
    others = {"cryptofeed": options.cryptofeed, "ccxt": options.ccxt}
    for module, python in others.items():
        if not (python and installed(python, module)):
            print(f"{module}: left out, {python or 'no interpreter given'}", flush=True)
            others[module] = None
    for kind in options.kind or COUNTS:
        count = options.count or COUNTS[kind]
        clients = {"floor": sys.executable, "mexcflow": sys.executable}
        if others["cryptofeed"]:
            clients["cryptofeed"] = others["cryptofeed"]
        if others["ccxt"] and kind == "aggTrade":
            clients["ccxt.pro"] = others["ccxt"]
        figures: dict[str, list[dict[str, Any]]] = {client: [] for client in clients}
        for _ in range(options.repeat):
            for client, python in clients.items():
                figures[client].append(measure(client, python, kind, count))
        floor_us = statistics.median(one["us"] for one in figures["floor"])
        for client, of_client in figures.items():
            show(kind, count, client, of_client, floor_us)


if __name__ == "__main__":
    main()
