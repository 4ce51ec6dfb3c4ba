"""A recorded stream read back from its journal: the market data, verbatim, with the times it came in.

What else the journal holds (acknowledgements, pongs, the exchange's errors, our own records) is left
out: whoever plays it again answers for itself. A stream is read as it is asked for, never held.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mexcflow.errors import Misuse
from mexcflow.exchanges import REGISTRY, TYPED, find_exchange
from mexcflow.journal import Kind as RecordKind
from mexcflow.journal import read_stream
from mexcflow.model import Frame, Kind, Wanted
from mexcflow.pipeline.decode import read_frame
from mexcflow.pipeline.parts import connection_folders
from mexcflow.pipeline.typed_decode import read_typed

_MARKET_DATA = (Kind.DATA, Kind.SKIPPED, Kind.DEAD_LETTER)
_HINT = "Give the folder of one stream, e.g. data/journal/mexc/BTC_USDT"


class _Head(msgspec.Struct):
    exchange: str
    symbol: str


@dataclass(frozen=True)
class Archive:
    """What is kept of one stream: its journal's folder, or the raw archive inside."""

    folder: Path
    exchange: str
    symbol: str

    def market_data(self) -> Iterator[tuple[int, bytes]]:
        """Yield each message that is no answer to a request, with its receive time (Unix ns), in order."""
        kind_of = self._reader()
        for record in read_stream(self.folder):
            if record.kind is RecordKind.FRAME and kind_of(record.payload) in _MARKET_DATA:
                yield record.at_ns, record.payload

    def _reader(self) -> Callable[[bytes], Kind]:
        """Return what tells the kind of a message."""
        find_exchange(self.exchange, where=str(self.folder))
        if self.exchange in TYPED:
            kind = TYPED[self.exchange]
            typed = kind(Wanted(symbols=tuple(self.symbol.split(",")), channels=kind.channels))
            return lambda payload: read_typed(typed, payload).kind
        exchange = REGISTRY[self.exchange](self.symbol, ())
        return lambda payload: read_frame(exchange, Frame(0, payload)).kind


def open_archive(folder: Path) -> Archive:
    """Look into a stream's folder; `Misuse` if it is none, or has nothing in it that could be played."""
    if connections := connection_folders(folder):
        named = ", ".join(str(one) for one in connections)
        raise Misuse(f"{folder}: each of its connections has a journal", hint=f"Give one of them: {named}")
    heads = (record for record in read_stream(folder) if record.kind is RecordKind.SEGMENT)
    first = next(heads, None)
    if first is None:
        raise Misuse(f"{folder}: a journal without a readable head", hint=_HINT)
    head = msgspec.json.decode(first.payload, type=_Head)
    archive = Archive(folder, head.exchange, head.symbol)
    if next(archive.market_data(), None) is None:
        raise Misuse(f"{folder}: no market data in it", hint="Nothing had come when its recording ended")
    return archive
