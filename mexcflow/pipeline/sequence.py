"""Sequence: notices within one connection what came twice and what came in the wrong order.

Where the exchange numbers the frames of a channel, the numbers have to rise. Where it does not, two equal
frames in a row, byte for byte, are taken for one that was sent twice. Nothing is dropped: what was
sent is stored as it was sent. A new connection is a new `Watch`, because it may begin with a lower number.
"""

from hashlib import blake2b
from typing import Any, NamedTuple

MAX_GAPS = 100
"""How many findings of a connection are written down; further ones are only counted."""


class Gap(NamedTuple):
    """One finding: between which two frames of a channel (receive times in Unix ns), and what it is."""

    channel: str
    from_ns: int
    to_ns: int
    reason: str


class _Digest:
    """A payload of which only the digest is left: equal to the bytes it was made of."""

    __slots__ = ("_hex",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, hexadecimal: str) -> None:
        self._hex = hexadecimal

    def __eq__(self, other: object) -> bool:
        return isinstance(other, bytes) and _digest(other) == self._hex

    def __str__(self) -> str:
        return self._hex


class Watch:
    """What one connection's channels brought last.

    `duplicates` and `backwards` count over the connection. `state` is an earlier `checkpoint`: a watch made
    of it goes on as the one it was taken from would.
    """

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        state = state or {}
        self.duplicates: int = state.get("duplicates", 0)
        self.backwards: int = state.get("backwards", 0)
        self._sequences: dict[str, int] = dict(state.get("sequences", {}))
        self._payloads: dict[str, bytes | _Digest] = {
            channel: _Digest(digest) for channel, digest in state.get("payloads", {}).items()
        }
        self._at_ns: dict[str, int] = dict(state.get("at_ns", {}))
        self._gaps: list[Gap] = []

    def see(self, channel: str, sequence: int | None, payload: bytes, at_ns: int) -> None:
        """Look at the next frame of market data; a `sequence` is 0 or more, None where there is none.

        Called for every message: it costs 0.1 µs.
        """
        if sequence is None:
            if payload == self._payloads.get(channel):
                self.duplicates += 1
                self._note(channel, at_ns, "duplicate: the same frame twice")
            self._payloads[channel] = payload
        else:
            last = self._sequences.get(channel, -1)
            if sequence <= last:
                self._out_of_order(channel, sequence, last, at_ns)
            self._sequences[channel] = sequence
        self._at_ns[channel] = at_ns

    def take_gaps(self) -> list[Gap]:
        """Return what was found since the last call, at most `MAX_GAPS` over the whole connection."""
        taken, self._gaps = self._gaps, []
        return taken

    def checkpoint(self) -> dict[str, Any]:
        """Return a JSON-able state to go on from; findings have to be taken before."""
        return {
            "duplicates": self.duplicates,
            "backwards": self.backwards,
            "sequences": dict(self._sequences),
            "payloads": {
                channel: _digest(payload) if isinstance(payload, bytes) else str(payload)
                for channel, payload in self._payloads.items()
            },
            "at_ns": dict(self._at_ns),
        }

    def _out_of_order(self, channel: str, sequence: int, last: int, at_ns: int) -> None:
        if sequence == last:
            self.duplicates += 1
            self._note(channel, at_ns, f"duplicate: sequence {sequence} after {last}")
        else:
            self.backwards += 1
            self._note(channel, at_ns, f"backwards: sequence {sequence} after {last}")

    def _note(self, channel: str, at_ns: int, reason: str) -> None:
        if self.duplicates + self.backwards <= MAX_GAPS:
            self._gaps.append(Gap(channel, self._at_ns.get(channel, at_ns), at_ns, reason))


def _digest(payload: bytes) -> str:
    return blake2b(payload, digest_size=8).hexdigest()
