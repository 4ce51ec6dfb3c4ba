"""What can go wrong on request, and what it does to one line's stream of frames.

Every `..._every_s` counts from the opening of each connection, in seconds of real time (`speed` does not
change it), except `refuse_every_s`, which counts from the start of the server.
"""

import math
from dataclasses import dataclass, fields

from mexcflow.errors import Misuse


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Which faults happen, and how often; None and False mean never.

    drop_every_s: the connection is cut, without a close frame.
    lifetime_s: the connection ends of age: what the exchange says before, then a close frame.
    stall_after_s: no more market data, while pongs are still answered.
    half_frame_every_s: half of a websocket message, then the cut.
    garbage_every_s: one message that cannot be decoded, a different one each time.
    exponents: numbers spelled as 7.548E+4, 0.080550 or 25329.000000, of the same value.
    duplicate_every_s: one frame is sent twice.
    out_of_order_every_s: one frame changes places with the next one of its stream.
    lose_every_s: one frame is never sent, and nothing shows it but what is numbered.
    refuse_every_s, refuse_for_s: all connections are cut and new ones refused for that long.
    http_status, retry_after_s: every request, for a websocket or not, is answered with this HTTP status,
        and with a `Retry-After`.
    no_pongs, no_acks: pings and requests take effect, but are not answered (errors still are).
    """

    drop_every_s: float | None = None
    lifetime_s: float | None = None
    stall_after_s: float | None = None
    half_frame_every_s: float | None = None
    garbage_every_s: float | None = None
    exponents: bool = False
    duplicate_every_s: float | None = None
    out_of_order_every_s: float | None = None
    lose_every_s: float | None = None
    refuse_every_s: float | None = None
    refuse_for_s: float | None = None
    http_status: int | None = None
    retry_after_s: float | None = None
    no_pongs: bool = False
    no_acks: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name.endswith("_s"):
                name = field.name.removesuffix("_s").replace("_", " ")
                check_positive(name, getattr(self, field.name))
        if (self.refuse_every_s is None) != (self.refuse_for_s is None):
            raise Misuse("refuse every and refuse for go together", hint="Give both, in seconds")
        if self.http_status is not None and not 400 <= self.http_status <= 599:
            raise Misuse(f"HTTP status: {self.http_status} is no error", hint="Give 400 to 599")
        if self.retry_after_s is not None and self.http_status is None:
            raise Misuse("retry after goes with an HTTP status", hint="Give both")


def check_positive(name: str, value: float | None) -> None:
    """Refuse zero, negative numbers and numbers that are none; `name` is what the user knows it by."""
    if value is not None and not (math.isfinite(value) and value > 0):
        raise Misuse(f"{name}: {value:g} is not possible", hint="Give a number above 0")


class _Alarm:
    """Rings once each `every_s` seconds from `start_s`; never, if that is None."""

    def __init__(self, every_s: float | None, start_s: float) -> None:
        self._every_s = every_s
        self._next_s = math.inf if every_s is None else start_s + every_s

    def rings(self, now_s: float) -> bool:
        if now_s < self._next_s or self._every_s is None:
            return False
        self._next_s = now_s + self._every_s
        return True


class Disturber:
    """Stalls, loses, doubles and swaps the frames of one line; times are seconds of any steady clock.

    `lost` is where lost frames are noted.
    """

    def __init__(self, faults: Faults, opened_s: float, lost: list[bytes] | None = None) -> None:
        self._lost = lost
        self._lose = _Alarm(faults.lose_every_s, opened_s)
        self._stall_s = math.inf if faults.stall_after_s is None else opened_s + faults.stall_after_s
        self._duplicate = _Alarm(faults.duplicate_every_s, opened_s)
        self._swap = _Alarm(faults.out_of_order_every_s, opened_s)
        self._held: tuple[str, bytes] | None = None

    def stalled(self, now_s: float) -> bool:
        """Whether market data has ended for good."""
        return now_s >= self._stall_s

    def pass_on(self, stream: str, frame: bytes, now_s: float) -> tuple[bytes, ...]:
        """Return what to send instead of `frame`, in order; `stream` names what belongs together."""
        if self.stalled(now_s):
            return ()
        if self._lose.rings(now_s):
            if self._lost is not None:
                self._lost.append(frame)
            return ()
        if self._held is None and self._swap.rings(now_s):
            self._held = (stream, frame)
            return ()
        frames: tuple[bytes, ...] = (frame,)
        if self._held is not None and self._held[0] == stream:
            frames, self._held = (frame, self._held[1]), None
        return (*frames, frames[-1]) if self._duplicate.rings(now_s) else frames
