"""A process that has a store open and does what it is told, a line of JSON at a time.

`Worker(folder)` starts one; `worker.insert("x")`, `worker.query("SELECT 1")` ask it, and raise `Failed` with
the name of the error that it met. As a program it is the process itself.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class Failed(Exception):
    """The worker met this error: its name and its text."""


class Worker:
    """Another process with the store of this location open; `embedded` says whether it is the owner."""

    def __init__(self, location: object, **options: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.worker", json.dumps({"location": str(location), **options})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        self.pid = self.process.pid

    def wait_until_open(self) -> "Worker":
        self._answer()
        return self

    @property
    def embedded(self) -> bool:
        return self.ask("embedded")

    def insert(self, *texts: str, table: str = "btc") -> None:
        self.ask("insert", table, list(texts))

    def query(self, sql: str) -> list[Any]:
        return self.ask("query", sql)

    def ask(self, *what: object) -> Any:
        self.tell(*what)
        return self._answer()

    def tell(self, *what: object) -> None:
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def _answer(self) -> Any:
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise Failed(answer["error"], answer["text"])
        return answer["result"]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def close(self) -> int:
        self.process.stdin.close()
        return self.process.wait(30)

    def __enter__(self) -> "Worker":
        return self.wait_until_open()

    def __exit__(self, *_: object) -> None:
        self.kill()


def main() -> None:
    from mexcflow.errors import MexcflowError
    from mexcflow.store import ensure_table, open_store
    from mexcflow.store.owner import Listen

    options = json.loads(sys.argv[1])
    listen = Listen(port=options.get("port", 0))

    def told(done: Any) -> None:
        sys.stdout.write(json.dumps(done) + "\n")
        sys.stdout.flush()

    try:
        store = open_store(options["location"], listen=listen)
    except MexcflowError as error:
        told({"error": type(error).__name__, "text": str(error)})
        return
    told({"result": "open"})
    with store:
        for line in sys.stdin:
            verb, *rest = json.loads(line)
            try:
                if verb == "insert":
                    store.insert_rows(rest[0], [(1_790_000_000_000, "d", text) for text in rest[1]])
                    result: Any = None
                elif verb == "query":
                    result = [list(row) for row in store.query(rest[0])]
                elif verb == "table":
                    result = ensure_table(store, rest[0]).created
                elif verb == "url":
                    result = store.address.url if store.address else ""
                else:
                    result = store.embedded
                told({"result": result})
            except MexcflowError as error:
                told({"error": type(error).__name__, "text": str(error)})


if __name__ == "__main__":
    main()
