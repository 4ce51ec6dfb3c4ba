"""How a simulator is set up, and what its connections share while it runs."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mexcflow.config import DEFAULT_EXCHANGE
from mexcflow.errors import Misuse
from mexcflow.simulator.exchange import Message
from mexcflow.simulator.exchanges import find
from mexcflow.simulator.faults import Faults, check_positive

LATE_S = 1.0
"""Who is so far behind its time (machine or client too slow) goes on from now, without a rush."""

Recording = Callable[[], Iterator[tuple[int, bytes]]]
"""Begins a recording anew: each message with the time (Unix ns) it was received at, in order."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything a simulator can be told; wrong values are `Misuse`.

    exchange: whose protocol is spoken.
    host, port: where to listen; port 0 is any free one.
    seed, speed, symbols: of the generated market; `symbols` are known besides the three usual ones.
    ping_timeout_s: a connection without a heartbeat for that long is cut. None: as the exchange does it.
    server_ping_s: how often an exchange that sends websocket pings sends them. None: as it does.
    clock_ahead_ms: how far the exchange's clock is ahead of ours; see `ms_before_a_minute_ends`.
    frames: recorded frames to play instead of the generated market, one stream for all.
    recording: the same with the times of the frames, read as they are played: it may be long. It keeps
        its own pace, `speed` times as fast; speed 0 is as fast as the client reads.
    max_pause_s: pauses of a recording (recorded seconds) are cut down to this; inf keeps them.
    loop, rate: play again and again; frames a second, evenly (None: frames as fast as the client reads,
        a recording at its own pace).
    generate: False sends nothing but what is asked for.
    keep_sent: keep what was sent, and to whom, for tests; it grows for ever.
    outbox_messages: a client further behind is cut; 20,000 are minutes of three contracts.
    """

    exchange: str = DEFAULT_EXCHANGE
    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 1
    speed: float = 1.0
    symbols: tuple[str, ...] = ()
    ping_timeout_s: float | None = None
    server_ping_s: float | None = None
    clock_ahead_ms: int = 0
    frames: tuple[Message, ...] | None = None
    recording: Recording | None = None
    max_pause_s: float = 10.0
    loop: bool = False
    rate: float | None = None
    generate: bool = True
    keep_sent: bool = False
    outbox_messages: int = 20_000
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        find(self.exchange)
        if not 0 <= self.port <= 65535:
            raise Misuse(f"there is no port {self.port}", hint="Give 0 (any free one) to 65535")
        if self.recording is None or self.speed != 0:
            check_positive("speed", self.speed)
        check_positive("ping timeout", self.ping_timeout_s)
        check_positive("server ping", self.server_ping_s)
        check_positive("rate", self.rate)
        if self.max_pause_s != math.inf:
            check_positive("max pause", self.max_pause_s)
        if self.frames is not None and self.recording is not None:
            raise Misuse("frames and a recording cannot both be played", hint="Give one of them")
        if self.frames is None and self.recording is None and (self.loop or self.rate is not None):
            raise Misuse("loop and rate are for recorded frames", hint="Give the frames, too")
        if self.frames == ():
            raise Misuse("there is no frame to play", hint="Give at least one")

    def now_ms(self) -> int:
        """Return what time the exchange's clock shows (Unix ms)."""
        return time.time_ns() // 1_000_000 + self.clock_ahead_ms


@dataclass
class Shared:
    """What all connections of a simulator share: switches, and what went through.

    A switch counts how many times it is thrown at the moment, so that two users do not undo each other.
    """

    silence: int = 0
    no_pongs: int = 0
    no_acks: int = 0
    connections: int = 0
    received: list[bytes] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    sent_to: list[tuple[str, list[bytes]]] = field(default_factory=list)
    lost: list[bytes] = field(default_factory=list)
    to_lose: list[str] = field(default_factory=list)
    garbage: list[bytes] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)
    bans: list[tuple[int, float | None]] = field(default_factory=list)
    """HTTP status and `Retry-After`; the last one counts."""

    def loses(self, stream: str) -> bool:
        """Whether this event of the stream ('Depth BTCUSDT') is one that was asked to be lost."""
        for place, start in enumerate(self.to_lose):
            if stream.startswith(start):
                del self.to_lose[place]
                return True
        return False
