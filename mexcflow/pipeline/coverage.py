"""Coverage: when a stream was listened to, when it was not, and why; a state machine without I/O or clock.

The insert thread tells it, in the journal's order, what the journal has: a connection, its end, a batch
that was stored. It answers with the intervals to write. One that is written again with the same beginning
replaces what was written before, so all of it may be replayed.

    first connection ─▶ listening ─disconnected─▶ outage ─connected─▶ listening ─▶ ...

Before the first connection of all there is no outage: nobody wanted to listen. An outage is written when
it begins, with `to` = `from`, so that it is known even if nothing ever comes again; one that has ended is
at least 1 ms long.

A clock may be set back. So no time is taken below the latest one seen, and two intervals of one channel
and state never begin in the same millisecond: the second would replace the first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import msgspec

from mexcflow.pipeline.sequence import Gap
from mexcflow.store.coverage import Interval, State

_UNRECORDED_END = "the end of the connection was not recorded"


class Heard(Protocol):
    """What a batch brought of a stream, by channel: see `decode.Batch`."""

    @property
    def first_ns(self) -> Mapping[str, int]:
        """Return the receive time of the first acknowledgement or data."""

    @property
    def last_ns(self) -> int:
        """Return the receive time of the last frame of any kind, 0 without one."""

    @property
    def messages(self) -> Mapping[str, int]:
        """Return the frames of market data."""

    @property
    def channel_rows(self) -> Mapping[str, int]:
        """Return the rows of market data."""

    @property
    def gaps(self) -> Sequence[Gap]:
        """Return the what came twice, in the wrong order, or not at all."""


class _Live(msgspec.Struct):
    """What is known of a channel that is listened to."""

    from_ms: int
    frames: int = 0
    rows: int = 0


class _Outage(msgspec.Struct):
    """An outage that has not ended; run and host are those of its beginning."""

    from_ms: int
    reason: str
    run: str
    host: str


class _State(msgspec.Struct):
    """Everything there is to go on from; times are Unix ms.

    `now_ms` is the latest time of all. `connected_ms` is when this connection stood, None without one;
    `alive_ms` is when the last frame of any kind came on it. `begun_ms` has the newest beginning of each
    state and channel.
    """

    now_ms: int = 0
    connected_ms: int | None = None
    alive_ms: int = 0
    run: str = ""
    host: str = ""
    outage: _Outage | None = None
    live: dict[str, _Live] = {}
    begun_ms: dict[str, int] = {}


class Coverage:
    """What is known of one stream; `state` is an earlier `checkpoint`, and it goes on exactly from there.

    `connected`, `disconnected` and `stored` return the intervals to write. Their times are Unix ns. `scope`:
    the channels that an outage is one of, where a connection has only some of the stream's.
    """

    def __init__(
        self,
        exchange: str,
        symbol: str,
        state: dict[str, Any] | None = None,
        *,
        scope: tuple[str, ...] = ("",),
    ) -> None:
        self._exchange = exchange
        self._symbol = symbol
        self._scope = scope
        self._state = msgspec.convert(state or {}, _State)

    def connected(self, at_ns: int, *, run: str, host: str) -> list[Interval]:
        """Take note that a connection stands: the outage before it, if there was one, has ended."""
        state = self._state
        intervals = []
        if state.connected_ms is not None:  # should not happen: each end is in the journal
            intervals = self.disconnected(at_ns, reason=_UNRECORDED_END, since_ns=state.alive_ms * 1_000_000)
        at_ms = self._advance(at_ns // 1_000_000)
        if state.outage:
            at_ms = self._advance(state.outage.from_ms + 1)
            intervals += self._outage_rows(state.outage, at_ms)
            state.outage = None
        state.connected_ms = state.alive_ms = at_ms
        state.run, state.host = run, host
        return intervals

    def disconnected(self, at_ns: int, *, reason: str, since_ns: int) -> list[Interval]:
        """Take note that the connection was found lost; since `since_ns` nothing had proved it alive.

        Without a connection it was an attempt to make one: the outage goes on, and its reason stays why
        it began.
        """
        state = self._state
        at_ms = self._advance(at_ns // 1_000_000)
        if state.connected_ms is None:
            return []
        silent_ms = max(0, at_ns // 1_000_000 - since_ns // 1_000_000)
        end_ms = max(at_ms - silent_ms, state.connected_ms, *[live.from_ms for live in state.live.values()])
        intervals = [self._live_row(channel, live, end_ms) for channel, live in state.live.items()]
        from_ms = self._begin(State.OUTAGE, "", end_ms)
        state.outage = _Outage(from_ms, reason, state.run, state.host)
        state.connected_ms = None
        state.live = {}
        return [*intervals, *self._outage_rows(state.outage, from_ms)]

    def stored(self, batch: Heard) -> list[Interval]:
        """Count a batch that the table has; what came twice or in the wrong order is returned."""
        state = self._state
        intervals = []
        times_ns = [*batch.first_ns.values(), *([batch.last_ns] if batch.last_ns else [])]
        if (
            times_ns and state.connected_ms is None
        ):  # should not happen: the journal writes down each beginning
            intervals = self.connected(min(times_ns), run=state.run, host=state.host)
        for channel, first_ns in batch.first_ns.items():
            if channel not in state.live:
                from_ms = self._begin(State.LIVE, channel, max(first_ns // 1_000_000, state.alive_ms))
                state.live[channel] = _Live(from_ms)
        for channel, live in state.live.items():
            live.frames += batch.messages.get(channel, 0)
            live.rows += batch.channel_rows.get(channel, 0)
        for at_ns in times_ns:
            state.alive_ms = self._advance(at_ns // 1_000_000)
        return intervals + [self._gap_row(gap) for gap in batch.gaps]

    def live(self) -> list[Interval]:
        """Return the intervals that still grow, as they stand."""
        live_now = self._state.live.items()
        return [self._live_row(channel, live, self._state.alive_ms) for channel, live in live_now]

    def checkpoint(self) -> dict[str, Any]:
        """Return a JSON-able state from which another `Coverage` goes on."""
        state: dict[str, Any] = msgspec.to_builtins(self._state)
        return state

    def _advance(self, at_ms: int) -> int:
        """Return a time that is not below the latest one seen."""
        self._state.now_ms = max(self._state.now_ms, at_ms)
        return self._state.now_ms

    def _begin(self, state: State, channel: str, at_ms: int) -> int:
        """Return when an interval begins: then, or 1 ms after the one that it would replace."""
        key = f"{state}/{channel}"
        from_ms = max(at_ms, self._state.begun_ms.get(key, -1) + 1)
        self._state.begun_ms[key] = from_ms
        if state is not State.GAP:
            self._advance(from_ms)
        return from_ms

    def _live_row(self, channel: str, live: _Live, to_ms: int) -> Interval:
        row = self._row(State.LIVE, channel, live.from_ms, max(live.from_ms, to_ms))
        return replace(row, frames=live.frames, rows=live.rows)

    def _outage_rows(self, outage: _Outage, to_ms: int) -> list[Interval]:
        rows = [self._row(State.OUTAGE, channel, outage.from_ms, to_ms) for channel in self._scope]
        return [replace(row, reason=outage.reason, run=outage.run, host=outage.host) for row in rows]

    def _gap_row(self, gap: Gap) -> Interval:
        since_ms = self._state.connected_ms or 0
        from_ms = self._begin(State.GAP, gap.channel, max(gap.from_ns // 1_000_000, since_ms))
        row = self._row(State.GAP, gap.channel, from_ms, max(from_ms, gap.to_ns // 1_000_000))
        return replace(row, reason=gap.reason)

    def _row(self, state: State, channel: str, from_ms: int, to_ms: int) -> Interval:
        now = self._state
        return Interval(
            exchange=self._exchange,
            symbol=self._symbol,
            channel=channel,
            from_ms=from_ms,
            to_ms=to_ms,
            state=state,
            reason="",
            frames=0,
            rows=0,
            run=now.run,
            host=now.host,
            updated_ms=now.now_ms,
        )
