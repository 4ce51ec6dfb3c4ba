"""Runs the command as it is, and writes down what `recv` gave it where SIGKILL cannot reach: shared memory.

    python tests/kill/target.py WITNESS run --symbol BTC_USDT ...

WITNESS is a file of `WITNESS_BYTES` zeros. It is mapped shared, so every number written to it stays with the
kernel however this process ends. Only `Line._fill` is looked at, from outside: nothing is changed.

64-bit words: first the number of connections, then for each a block of `BLOCK` words: the local port, the
number of recv calls that brought bytes, and the total of bytes after each of the last `RING` of them (that
of call n in word n modulo `RING`). The total is written before the number of calls, and each is one store,
so a kill between the two leaves the call out, whose bytes nobody has seen yet.
"""

import mmap
import sys
import threading
from pathlib import Path

RING = 6
BLOCK = 2 + RING
CONNECTIONS = 60
WITNESS_BYTES = 8 * (1 + CONNECTIONS * BLOCK)


class Witness:
    """The shared numbers."""

    def __init__(self, path: str) -> None:
        with Path(path).open("r+b") as file:
            self._words = memoryview(mmap.mmap(file.fileno(), WITNESS_BYTES)).cast("Q")
        self._new = threading.Lock()
        self._lines: dict[object, list[int]] = {}
        """Of each line its block, its calls and their total; several may be read at the same time."""

    def saw(self, line, size: int) -> None:
        """Write down that a recv of this line has brought so many bytes."""
        seen = self._lines.get(line) or self._begin(line)
        at, calls, total = seen[0], seen[1] + 1, seen[2] + size
        seen[1:] = calls, total
        self._words[at + 2 + calls % RING] = total
        self._words[at + 1] = calls

    def _begin(self, line) -> list[int]:
        with self._new:
            at = 1 + len(self._lines) * BLOCK
            self._lines[line] = seen = [at, 0, 0]
            self._words[at] = line.sock.getsockname()[1]
            self._words[0] = len(self._lines)
        return seen


def watch(witness: Witness) -> None:
    """Let the witness see what each `Line._fill` adds to the line's buffer."""
    from mexcflow.pipeline.connect import Line

    fill = Line._fill

    def watched(line: Line) -> None:
        had = len(line._buffer) - line._at
        fill(line)
        witness.saw(line, len(line._buffer) - line._at - had)

    Line._fill = watched


if __name__ == "__main__":
    path, sys.argv[1:] = sys.argv[1], sys.argv[2:]
    sys.argv[0] = "mexcflow"
    watch(Witness(path))

    from mexcflow.cli.main import main

    main()
