"""What a message costs, from the socket to a stored row.

    python benchmarks/ingest.py                  # everything, about four minutes
    python benchmarks/ingest.py --only blast     # or paced, trickle
    python benchmarks/ingest.py --count 100000 --kind evolving

Each figure is measured in a process of its own, fed by a second one (`blaster.py`):

- `pipeline`: mexcflow as `run` wires it, into an embedded database in a temporary folder;
- `websocket-client`, `picows`: the floor, receive and `orjson.loads` and nothing else.

CPU is user + system of the whole process, engine threads included, from just before the first frame
until the last row is stored. Memory is the peak of the resident set, and of its anonymous part.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SUBSCRIBE = [b'{"method":"sub.deal","param":{}}', b'{"method":"sub.depth.full","param":{}}']
SETTLE_S = 1.8  # the blaster waits 2 s after the subscriptions


def cpu_s() -> float:
    """Return user and system time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def memory_kb(field: str) -> int:
    """Return a line of /proc/self/status in kB: VmHWM, RssAnon."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    return 0


class Anonymous(threading.Thread):
    """Watches the peak of anonymous memory, which the kernel does not keep."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_kb = 0

    def run(self) -> None:
        """Look once a second: looking costs CPU time, too."""
        while True:
            self.peak_kb = max(self.peak_kb, memory_kb("RssAnon"))
            time.sleep(1.0)


def report(count: int, started_cpu: float, started: float, **more: float) -> None:
    """Print this client's figures for the parent."""
    seconds = time.perf_counter() - started
    cpu = cpu_s() - started_cpu
    print(
        json.dumps(
            {
                "messages": count,
                "seconds": round(seconds, 3),
                "messages_per_s": round(count / seconds),
                "cpu_us_per_message": round(cpu / count * 1e6, 2),
                "core_percent": round(100 * cpu / seconds, 2),
                "peak_mb": round(memory_kb("VmHWM") / 1024),
                **more,
            }
        )
    )


def client_pipeline(url: str, count: int, flush_interval: float) -> None:
    """Run our own pipeline until so many frames are stored."""
    from mexcflow.config import Instance
    from mexcflow.pipeline.record import Recorder, Settings
    from mexcflow.store import open_store
    from mexcflow.store.sizes import table_files

    with tempfile.TemporaryDirectory(prefix="mexcflow-bench-") as folder:
        instance = Instance(symbol="BTC_USDT", endpoint=url, flush_interval=flush_interval).checked()
        recorder = Recorder(Settings(instance=instance, database=folder))
        anonymous = Anonymous()
        marks: dict[str, float] = {}

        def on_tick() -> None:
            snapshot = recorder.snapshot()
            now = time.perf_counter()
            if snapshot.total.acks == 3 and "settled" not in marks:
                marks["settled"] = now
            if "settled" in marks and "cpu" not in marks and now - marks["settled"] > 0.1:
                marks.update(cpu=cpu_s(), started=now)
                anonymous.start()
            if snapshot.total.rows >= count:
                recorder.stop()

        recorder.run(lambda _: None, on_tick)
        total = recorder.snapshot().total
        store = open_store(folder)
        files = table_files(store, "btc")
        store.close()
        report(
            count,
            marks["cpu"],
            marks["started"],
            peak_anonymous_mb=round(anonymous.peak_kb / 1024),
            rows=total.rows,
            inserts=total.inserts,
            dead_letters=total.dead_letters,
            bytes_per_row=round((files.data_bin_bytes + (files.index_mrk_bytes or 0)) / total.rows, 1),
        )


def client_websocket(url: str, count: int) -> None:
    """Receive and parse with websocket-client alone."""
    import orjson
    import websocket

    line = websocket.create_connection(url, skip_utf8_validation=True)
    for frame in SUBSCRIBE:
        line.send(frame)
    for _ in SUBSCRIBE:
        line.recv()
    time.sleep(SETTLE_S)
    started_cpu, started = cpu_s(), time.perf_counter()
    for _ in range(count):
        orjson.loads(line.recv_data()[1])
    report(count, started_cpu, started)


def client_picows(url: str, count: int) -> None:
    """Receive and parse with picows alone."""
    import orjson
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

    marks: dict[str, float] = {}

    class Listener(WSListener):
        seen = -len(SUBSCRIBE)

        def on_ws_connected(self, transport: WSTransport) -> None:
            for frame in SUBSCRIBE:
                transport.send(WSMsgType.TEXT, frame)

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            orjson.loads(frame.get_payload_as_memoryview())
            self.seen += 1
            if self.seen == 0:
                marks.update(cpu=cpu_s(), started=time.perf_counter() + SETTLE_S)
            elif self.seen == count:
                transport.disconnect()

    async def receive() -> None:
        transport, _ = await ws_connect(Listener, url)
        await transport.wait_disconnected()

    asyncio.run(receive())
    report(count, marks["cpu"], marks["started"])


CLIENTS = {
    "pipeline": client_pipeline,
    "websocket-client": client_websocket,
    "picows": client_picows,
}


def measure(client: str, *, count: int, rate: float, kind: str, flush_interval: float) -> dict[str, Any]:
    """Run one client against a blaster; each in its own process."""
    blaster = subprocess.Popen(
        [sys.executable, str(HERE / "blaster.py"), f"--count={count}", f"--rate={rate}", f"--kind={kind}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert blaster.stdout is not None
        url = blaster.stdout.readline().strip()
        command = [sys.executable, __file__, "--client", client, url, str(count), str(flush_interval)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return {"client": client, "rate": rate or "full speed", "kind": kind, **json.loads(done.stdout)}
    finally:
        blaster.kill()
        blaster.wait()


def show(figures: dict[str, Any]) -> None:
    """Print one line of figures."""
    keys = [key for key in figures if key not in ("client", "rate", "kind")]
    head = f"{figures['client']:<17} {figures['rate']!s:<11} {figures['kind']:<9}"
    print(head + "  ".join(f"{key}={figures[key]}" for key in keys), flush=True)


def main() -> None:
    """Measure what was asked for."""
    if sys.argv[1:2] == ["--client"]:
        client, url, count, flush_interval = sys.argv[2:6]
        extra = [float(flush_interval)] if client == "pipeline" else []
        CLIENTS[client](url, int(count), *extra)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=("blast", "paced", "trickle"))
    parser.add_argument("--count", type=int, default=300_000, help="messages of the blast")
    parser.add_argument("--kind", choices=("uniform", "evolving"), default="uniform")
    parser.add_argument("--flush-interval", type=float, default=1.0)
    parser.add_argument("--pipeline-only", action="store_true", help="leave the floors out")
    options = parser.parse_args()
    runs = {"blast": (options.count, 0.0), "paced": (20_000, 2000.0), "trickle": (720, 12.0)}
    for name, (count, rate) in runs.items():
        if options.only not in (None, name):
            continue
        clients = ["pipeline"] if options.pipeline_only or name == "trickle" else list(CLIENTS)
        for client in clients:
            show(
                measure(
                    client, count=count, rate=rate, kind=options.kind, flush_interval=options.flush_interval
                )
            )


if __name__ == "__main__":
    main()
