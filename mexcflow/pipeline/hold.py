"""Hold: one process records a symbol of an exchange with typed tables, and who else wants to is told.

Two runs may share a symbol without sharing an instance ('BTCUSDT' and 'BTCUSDT,ETHUSDT'), and each book would
be there twice. So each symbol has a lock, beside that of the instance's folder, which `status` looks at.
"""

import contextlib
import os
from pathlib import Path
from urllib.parse import quote

from mexcflow.errors import Misuse, StreamInUse
from mexcflow.journal import Files, Lock, Stream, discard, holder
from mexcflow.pipeline.parts import connection_folders

_SYMBOLS = ".symbols"
_LONGEST_NAME = 200


class Hold:
    """Holds an instance's folder and its symbols until closed; raises `StreamInUse`."""

    def __init__(self, folder: Path, symbols: tuple[str, ...], stream: Stream) -> None:
        self._folder = folder
        self._files = Files()
        text = f"PID {os.getpid()} on {stream.host}, run {stream.run}"
        with contextlib.ExitStack() as stack:
            self._instance = Lock(folder, text, self._files)
            stack.callback(self.close)
            self._symbols: list[tuple[Path, Lock]] = []
            for symbol in symbols:
                name = quote(symbol, safe="").replace(".", "%2E")  # '..' would be another folder
                if len(name) > _LONGEST_NAME:
                    raise Misuse(f"there can be no symbol {symbol[:40]!r}...", hint="Is it spelt right?")
                place = folder.parent / _SYMBOLS / name
                try:
                    self._symbols.append((place, Lock(place, text, self._files)))
                except StreamInUse as error:
                    who = holder(place) or "it has ended just now"
                    raise StreamInUse(
                        f"{symbol} of {stream.exchange} is recorded already: {who}", hint=error.hint
                    ) from error
            stack.pop_all()

    def close(self) -> None:
        """Let go; an instance that never recorded anything leaves nothing behind."""
        for place, lock in self._symbols:
            discard(place, self._files)
            lock.release()
        if not connection_folders(self._folder):
            discard(self._folder, self._files)
        self._instance.release()
