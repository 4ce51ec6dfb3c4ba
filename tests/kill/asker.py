"""Asks a data folder all the time what is in its tables, as a guest or, when it comes first, as the owner.

    python -m tests.kill.asker DATA ANSWERS

Each answer is a JSON line in ANSWERS; what goes wrong is one too. It lets go of the folder now and then and
comes again. SIGTERM and SIGINT end it in order.
"""

import json
import signal
import sys
import threading
from pathlib import Path
from random import Random
from typing import IO

from mexcflow.errors import MexcflowError
from mexcflow.store import Store, open_store
from tests.kill.frames import T_MS

_PAUSE_S = 0.03
_AGAIN_S = 0.1
_MOST_ROUNDS = 40
"""So often it asks at most before it lets go."""

_TABLES = "SELECT name FROM system.tables WHERE database = 'mexc_data' AND engine = 'StripeLog' ORDER BY name"
_WHAT_IS_THERE = f"""
SELECT sum(rows), countIf(rows != wanted), max(n)
FROM (
    SELECT toUnixTimestamp64Milli(ts) - {T_MS} AS n, count() AS rows,
           if(modulo(n, 37) = 0 OR modulo(n, 10) = 0, 1, 1 + modulo(n, 3)) AS wanted
    FROM mexc_data.%s GROUP BY n
)"""
"""Rows, frames of which not all rows are there (see `frames.numbered`), and the newest frame."""


def main() -> None:
    """Ask until told to stop."""
    data, answers = sys.argv[1:]
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    sys.stdout.write("asking\n")
    sys.stdout.flush()
    rng = Random()
    with Path(answers).open("a", buffering=1) as out:
        out.write("\n")  # whoever was here before may have been killed within a line
        while not stop.is_set():
            try:
                with open_store(data, create=False) as store:
                    for _ in range(rng.randint(1, _MOST_ROUNDS)):
                        _ask(store, out)
                        if stop.wait(_PAUSE_S):
                            break
            except MexcflowError as error:
                _write(out, {"error": type(error).__name__, "text": str(error)})
                stop.wait(_AGAIN_S)


def _ask(store: Store, out: IO[str]) -> None:
    for (table,) in store.query(_TABLES):
        rows, torn, newest = store.query(_WHAT_IS_THERE % table)[0]
        _write(out, {"table": table, "rows": rows, "torn": torn, "newest": newest, "owner": store.embedded})


def _write(out: IO[str], line: dict[str, object]) -> None:
    out.write(f"{json.dumps(line)}\n")


if __name__ == "__main__":
    main()
