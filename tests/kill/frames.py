"""Numbered frames: what was delivered of them, and whether a table holds exactly that."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mexcflow.exchanges.mexc import Mexc
from mexcflow.model import Frame, Row
from mexcflow.pipeline.decode import read_frame

T_MS = 1_790_000_000_000
"""Event time of frame 0; that of frame n is n ms later, in each of its rows."""

SYMBOL = "BTC_USDT"
"""Of which the frames are, unless told otherwise."""

_DEAL = b'{"p":%d.%d,"v":%d,"T":%d,"O":3,"M":1,"t":%d}'
_DEALS = b'{"symbol":"%b","data":[%b],"channel":"push.deal","ts":%d}'
_DEPTH = (
    b'{"symbol":"%b","data":{"asks":[[%d.5,7,1],[%d,40,2]],"bids":[[%d,3,1]],"version":%d},'
    b'"channel":"push.depth.full","ts":%d}'
)
_TICKER = (
    b'{"symbol":"%b","data":{"lastPrice":%d,"fairPrice":%d.1,"indexPrice":%d.3,"holdVol":%d,'
    b'"fundingRate":0.0001},"channel":"push.ticker","ts":%d}'
)


def numbered(number: int, symbol: str = SYMBOL) -> bytes:
    """Return frame n: deals, one to three of them, now and then a depth or a ticker."""
    ms, of = T_MS + number, symbol.encode()
    if number % 37 == 0:
        return _TICKER % (of, number, number, number, number, ms)
    if number % 10 == 0:
        return _DEPTH % (of, number, number + 1, number, number, ms)
    deals = [_DEAL % (number, at + 1, number % 97 + 1, 1 + number % 2, ms) for at in range(1 + number % 3)]
    return _DEALS % (of, b",".join(deals), ms)


def without_end(symbol: str = SYMBOL, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield all numbered frames from `start` on, as a recording."""
    return ((0, numbered(number, symbol)) for number in itertools.count(start))


@dataclass(frozen=True)
class Delivery:
    """Whole messages that `recv` had returned on one connection, and of these those of its last call.

    Between that call and the journal lie microseconds in which a kill may fall; of `last` only a
    beginning need be there. Of a connection that was not killed everything is `sure`.
    """

    sure: Sequence[bytes]
    last: Sequence[bytes] = ()


def delivery(messages: Sequence[bytes], *, before: int, total: int) -> Delivery:
    """Cut what was sent on a connection to what arrived: `total` bytes, `before` of them by the last but one.

    Half a message does not count.
    """
    ends = list(itertools.accumulate(map(_wire_bytes, messages)))
    assert total <= (ends[-1] if ends else 0), "more bytes came in than were sent"
    whole, sure = (sum(end <= limit for end in ends) for limit in (total, before))
    return Delivery(messages[:sure], messages[sure:whole])


def _wire_bytes(message: bytes) -> int:
    """Return the length of an unmasked websocket frame."""
    size = len(message)
    return size + (2 if size < 126 else 4 if size < 65536 else 10)


@dataclass(frozen=True)
class Verdict:
    """What a table lacks and what it has too often; `spared` kills took a part of the last recv with them."""

    rows: int
    lost: Sequence[Row]
    doubled: Sequence[Row]
    in_order: bool
    spared: int

    @property
    def exact(self) -> bool:
        """Whether the table is, row for row and in order, what was delivered."""
        return self.in_order and not self.lost and not self.doubled


def judge(stored: Sequence[Row], deliveries: Sequence[Delivery], symbol: str = SYMBOL) -> Verdict:
    """Compare a table with what was delivered, connection by connection."""
    at = spared = 0
    in_order = True
    sure: list[Row] = []
    last: list[Row] = []
    for one in deliveries:
        rows = rows_of(one.sure, symbol)
        in_order = in_order and list(stored[at : at + len(rows)]) == rows
        at += len(rows)
        sure += rows
        last += rows_of(one.last, symbol)
        for message in one.last:
            rows = rows_of([message], symbol)
            if list(stored[at : at + len(rows)]) != rows:
                spared += 1
                break
            at += len(rows)
    have = Counter(stored)
    return Verdict(
        rows=len(stored),
        lost=list((Counter(sure) - have).elements()),
        doubled=list((have - Counter(sure + last)).elements()),
        in_order=in_order and at == len(stored),
        spared=spared,
    )


def rows_of(messages: Sequence[bytes], symbol: str = SYMBOL) -> list[Row]:
    """Return what messages decode to: nothing for acknowledgements."""
    exchange = Mexc(symbol, ("ticker", "deal", "depth"))
    return [row for message in messages for row in read_frame(exchange, Frame(0, message)).rows]
