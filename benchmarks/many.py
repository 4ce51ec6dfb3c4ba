"""What many instances on one data folder cost: one `mexcflow engine`, fifty `mexcflow run`, one exchange.

    python benchmarks/many.py                  # 50 instances at 12 messages a second each, three minutes
    python benchmarks/many.py --instances 10 --rate 60 --seconds 30

CPU is user + system from /proc/PID/stat, of the engine and of all instances, for `--seconds` after a warm-up;
the exchange runs in a process of its own and is not counted. Memory is read at the end of that time: the
resident set, and of it what the process has for itself (USS) and its share of what it shares (PSS); Python
and the libraries are mapped once for all. In the end all stop in order, and each table has to have as many
rows as its instance has made.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from mexcflow.store import open_store

MEXCFLOW = [sys.executable, "-m", "mexcflow"]
MESSAGES_PER_S = 13.85
"""Of one made-up contract of the simulator at speed 1, on average."""
_START_S = 180.0
_AT_ONCE = 6
"""So many instances start at the same time."""
_TICKS = os.sysconf("SC_CLK_TCK")


class Memory(NamedTuple):
    """Of a process, in MB."""

    rss: float
    pss: float
    uss: float


class Process:
    """A command with its output in files."""

    def __init__(self, folder: Path, name: str, *arguments: str) -> None:
        self.name = name
        self.out = folder / f"{name}.out"
        self.log = folder / f"{name}.log"
        with self.out.open("wb") as out, self.log.open("wb") as log:
            self._process = subprocess.Popen([*MEXCFLOW, *arguments], cwd=folder, stdout=out, stderr=log)
        self.pid = self._process.pid

    def wait_for(self, text: str, path: Path) -> None:
        """Wait until it has said this."""
        until = time.monotonic() + _START_S
        while text not in path.read_text():
            if self._process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{self.name} did not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    def cpu_s(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self) -> Memory:
        """Return what it takes now."""
        kb = {"Rss": 0, "Pss": 0, "Private_Clean": 0, "Private_Dirty": 0}
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in kb:
                kb[name] = int(value.split()[0])
        uss = kb["Private_Clean"] + kb["Private_Dirty"]
        return Memory(kb["Rss"] / 1000, kb["Pss"] / 1000, uss / 1000)

    def threads(self) -> int:
        """How many threads it has."""
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def switches(self) -> int:
        """How often its threads have gone to sleep so far."""
        total = 0
        for status in Path(f"/proc/{self.pid}/task").glob("*/status"):
            lines = status.read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary"))
        return total

    def stop(self) -> None:
        """End it in order."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def wait(self) -> int:
        """Wait for its end."""
        return self._process.wait(120)

    def statistics(self) -> dict[str, Any]:
        """Return its newest statistics."""
        lines = self.out.read_text().splitlines()
        found: dict[str, Any] = (
            json.loads(lines[-1])["statistics"] if lines else {"frames": 0, "elapsed_s": 0}
        )
        return found


class Cluster:
    """All processes of one measurement."""

    def __init__(self, folder: Path, wanted: argparse.Namespace) -> None:
        self._folder = folder
        self.database = folder / "data"
        self._wanted = wanted
        symbols = [f"COIN{number:03}_USDT" for number in range(wanted.instances)]
        self.exchange = Process(
            folder, "exchange", "simulate", "--port", "0", "--symbols", ",".join(symbols),
            "--speed", str(wanted.rate / MESSAGES_PER_S), "--log-level", "warning",
        )  # fmt: skip
        self.exchange.wait_for("listening on ", self.exchange.out)
        url = self.exchange.out.read_text().split("listening on ")[1].split()[0]
        self.engine = Process(folder, "engine", "engine", "--database", str(self.database))
        self.engine.wait_for("answers on", self.engine.out)
        self.instances: list[Process] = []
        for number, symbol in enumerate(symbols):
            if number >= _AT_ONCE:
                earlier = self.instances[number - _AT_ONCE]
                earlier.wait_for("every subscription is acknowledged", earlier.log)
            self.instances.append(self._instance(symbol, url))
        for instance in self.instances:
            instance.wait_for("every subscription is acknowledged", instance.log)

    def _instance(self, symbol: str, url: str) -> Process:
        return Process(
            self._folder, symbol, "run", "--symbol", symbol, "--endpoint", url,
            "--database", str(self.database), "--log-format", "json", "--min-free", "50",
            "--flush-interval", str(self._wanted.flush_interval),
            "--stats-interval", str(self._wanted.stats_interval),
        )  # fmt: skip

    def stop(self) -> list[int]:
        """End all in order, the engine last; return the exit codes."""
        codes = []
        for instance in self.instances:
            instance.stop()
        codes += [instance.wait() for instance in self.instances]
        for last in (self.engine, self.exchange):
            last.stop()
            codes.append(last.wait())
        return codes


def measure(cluster: Cluster, seconds: float) -> dict[str, Any]:
    """Watch all processes for so long."""
    processes = [cluster.engine, *cluster.instances, cluster.exchange]
    began = time.monotonic()
    before = [process.cpu_s() for process in processes]
    slept = [process.switches() for process in processes]
    counted = [instance.statistics() for instance in cluster.instances]
    time.sleep(seconds)
    took = time.monotonic() - began
    cpu = [100 * (process.cpu_s() - had) / took for process, had in zip(processes, before, strict=True)]
    wakes = [(process.switches() - had) / took for process, had in zip(processes, slept, strict=True)]
    rates = [_rate(had, one.statistics()) for had, one in zip(counted, cluster.instances, strict=True)]
    memories = [instance.memory() for instance in cluster.instances]
    return {
        "seconds": round(took, 1),
        "messages a second of an instance": round(statistics.mean(rates), 2),
        "cpu_percent": {
            "engine": round(cpu[0], 1),
            "an instance": round(statistics.mean(cpu[1:-1]), 2),
            "engine and instances": round(sum(cpu[:-1]), 1),
            "the exchange, not counted": round(cpu[-1], 1),
        },
        "switches_per_s": {"engine": round(wakes[0]), "an instance": round(statistics.mean(wakes[1:-1]), 1)},
        "an instance, median, MB": _megabytes(Memory(*map(statistics.median, zip(*memories, strict=True)))),
        "an instance, the largest, MB": _megabytes(Memory(*map(max, zip(*memories, strict=True)))),
        "engine, MB": _megabytes(cluster.engine.memory()),
        "threads": {"engine": cluster.engine.threads(), "an instance": cluster.instances[0].threads()},
    }


def _rate(before: dict[str, Any], after: dict[str, Any]) -> float:
    frames: int = after["frames"] - before["frames"]
    return frames / max(after["elapsed_s"] - before["elapsed_s"], 1e-9)


def _megabytes(memory: Memory) -> dict[str, float]:
    return {name: round(value, 1) for name, value in memory._asdict().items()}


def complete(cluster: Cluster) -> dict[str, Any]:
    """Compare each table with what its instance has counted."""
    made = {instance.name: instance.statistics() for instance in cluster.instances}
    wrong = []
    with open_store(str(cluster.database), create=False) as store:
        for name, last in made.items():
            rows = store.query(f"SELECT count() FROM mexc_data.{last['table']}")[0][0]
            if rows != last["rows"] or not last["final"] or last["backlog_frames"]:
                wrong.append(f"{name}: {rows} rows in the table, {last}")
    return {
        "frames": sum(last["frames"] for last in made.values()),
        "rows": sum(last["rows"] for last in made.values()),
        "inserts": sum(last["inserts"] for last in made.values()),
        "insert_ms": round(statistics.mean(last["insert_ms"]["mean"] or 0 for last in made.values()), 2),
        "errors": sum(last["errors"] for last in made.values()),
        "not complete": wrong,
    }


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description="What many instances on one data folder cost")
    parser.add_argument("--instances", type=int, default=50)
    parser.add_argument("--rate", type=float, default=12.0, help="messages a second of each, on average")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=20.0)
    parser.add_argument("--flush-interval", type=float, default=1.0)
    parser.add_argument("--stats-interval", type=float, default=15.0)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mexcflow-many-") as folder:
        cluster = Cluster(Path(folder), wanted)
        print(f"{wanted.instances} instances record", file=sys.stderr)
        time.sleep(wanted.warm_up)
        figures = measure(cluster, wanted.seconds)
        codes = cluster.stop()
        figures |= {"exit codes": sorted(set(codes)), **complete(cluster)}
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
