"""Proxy check: how quickly, and how reliably, an exchange is reached through each proxy.

An attempt has three steps, each on a connection of its own:

- connect: to the proxy, through it to the exchange, TLS included; without a proxy, to the exchange;
- ping: one REST request, whole;
- stream: the websocket, until the first subscription is acknowledged or data comes.

After a ban no further attempt is made: who goes on asking is banned for longer.
"""

import statistics
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from mexcflow.config import Instance
from mexcflow.errors import Banned, BannedByProxy, ConnectionLost, MexcflowError
from mexcflow.exchanges import REGISTRY, TYPED, find_exchange
from mexcflow.model import Frame, Kind, Reading, TypedReading, Wanted
from mexcflow.pipeline.address import redacted
from mexcflow.pipeline.connect import open_line, reach
from mexcflow.pipeline.decode import read_frame
from mexcflow.pipeline.dial import TIMEOUT_S
from mexcflow.pipeline.plan import plan
from mexcflow.pipeline.rest import at_endpoint, fetch
from mexcflow.pipeline.typed_decode import read_typed

STEPS = ("connect", "ping", "stream")
DIRECT = "direct"
_THREADS = 8
_OK = 200


@dataclass
class Way:
    """One proxy ("" for none) to the exchange of one instance; `used_by` are the files that name it."""

    proxy: str
    instance: Instance
    used_by: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Step:
    """How often one step succeeded, and how long it took then."""

    succeeded: int
    min_ms: float | None = None
    median_ms: float | None = None
    max_ms: float | None = None


@dataclass(frozen=True)
class Checked:
    """What came of one way; `proxy` is without its password, or 'direct'."""

    proxy: str
    exchange: str
    symbol: str
    used_by: list[str]
    attempts: int
    succeeded: int
    steps: dict[str, Step]
    reasons: list[str]

    @property
    def ok(self) -> bool:
        """Whether every attempt succeeded."""
        return self.succeeded == self.attempts


def ways_of(instances: Iterable[Instance], *, direct: bool) -> list[Way]:
    """Return each proxy of the instances once, and if wanted the direct line, for each exchange."""
    found: dict[tuple[str, str, str], Way] = {}
    for instance in instances:
        for proxy in (*instance.all_proxies, *([""] if direct else [])):
            way = found.setdefault((proxy, instance.exchange, instance.endpoint), Way(proxy, instance))
            if instance.source:
                way.used_by.append(instance.symbol)
    return list(found.values())


def check(
    ways: Sequence[Way],
    *,
    count: int = 3,
    timeout_s: float = TIMEOUT_S,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Checked]:
    """Try each way `count` times, several ways at once; `timeout_s` is for each part of a step."""
    ended = 0
    lock = threading.Lock()

    def one(way: Way) -> Checked:
        nonlocal ended
        checked = _check_one(way, count, timeout_s)
        with lock:
            ended += 1
            progress(f"{ended} of {len(ways)} checked")
        return checked

    progress(f"0 of {len(ways)} checked")
    with ThreadPoolExecutor(min(_THREADS, len(ways))) as pool:
        return list(pool.map(one, ways))


def _check_one(way: Way, count: int, timeout_s: float) -> Checked:
    took: dict[str, list[float]] = {step: [] for step in STEPS}
    reasons: dict[str, None] = {}  # each one once, in order
    succeeded, attempts = 0, 0
    banned = False
    while attempts < count and not banned:
        attempts += 1
        errors = _attempt(way, timeout_s, took)
        succeeded += not errors
        reasons |= dict.fromkeys(error.what for error in errors)
        banned = any(isinstance(error, Banned | BannedByProxy) for error in errors)
    if banned and attempts < count:
        reasons[f"no further attempt: {attempts} of {count}"] = None
    return Checked(
        proxy=redacted(way.proxy) or DIRECT,
        exchange=way.instance.exchange,
        symbol=way.instance.symbol,
        used_by=way.used_by,
        attempts=attempts,
        succeeded=succeeded,
        steps={step: _summary(took[step]) for step in STEPS},
        reasons=list(reasons),
    )


def _attempt(way: Way, timeout_s: float, took: dict[str, list[float]]) -> list[MexcflowError]:
    """Take the three steps, note how long each took, and return what went wrong."""
    errors: list[MexcflowError] = []
    for step, take in {"connect": _connect, "ping": _ping, "stream": _stream}.items():
        started = time.perf_counter()
        try:
            take(way, timeout_s)
        except MexcflowError as error:
            errors.append(error)
            if step == "connect" or isinstance(error, Banned | BannedByProxy):
                break
        else:
            took[step].append((time.perf_counter() - started) * 1000)
    return errors


def _connect(way: Way, timeout_s: float) -> None:
    reach(_url(way), way.proxy, timeout_s=timeout_s).close()


def _ping(way: Way, timeout_s: float) -> None:
    ping_url = find_exchange(way.instance.exchange, where="exchange").ping_url
    url = at_endpoint(ping_url, way.instance.endpoint)
    answer = fetch(url, proxy=way.proxy, timeout_s=timeout_s)
    if answer.status != _OK:
        raise ConnectionLost(f"{url}: HTTP {answer.status}")


def _stream(way: Way, timeout_s: float) -> None:
    frames, read = _conversation(way.instance)
    line = open_line(_url(way), way.proxy, timeout_s=timeout_s)
    try:
        for frame in frames:
            line.transmit(frame)
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            for payload in line.read():
                reading = read(payload)
                if reading.kind in (Kind.ACK, Kind.DATA):
                    return
                if reading.kind is Kind.ERROR:
                    raise ConnectionLost(f"the exchange says: {reading.text}")
        raise ConnectionLost(f"neither acknowledgement nor data within {timeout_s:g} s")
    finally:
        line.shutdown()


def _conversation(instance: Instance) -> tuple[list[bytes], Callable[[bytes], Reading | TypedReading]]:
    """Return what is sent over the first of an instance's connections, and what reads the answers."""
    if instance.exchange in TYPED:
        kind = TYPED[instance.exchange]
        channels = instance.channels or kind.channels
        typed = kind(Wanted(symbols=instance.all_symbols[:1], channels=channels))
        requests = typed.requests(plan(typed)[0].topics, 1)
        return [request.payload for request in requests], lambda payload: read_typed(typed, payload)
    exchange = REGISTRY[instance.exchange](instance.symbol, instance.channels)
    frames = list(exchange.subscriptions().values())
    return frames, lambda payload: read_frame(exchange, Frame(0, payload))


def _url(way: Way) -> str:
    instance = way.instance
    if instance.exchange in TYPED:
        kind = TYPED[instance.exchange]
        typed = kind(Wanted(symbols=instance.all_symbols[:1], channels=instance.channels or kind.channels))
        return plan(typed, instance.endpoint)[0].url
    return instance.endpoint or REGISTRY[instance.exchange].url


def _summary(took: list[float]) -> Step:
    if not took:
        return Step(0)
    shortest, middle, longest = (round(ms, 3) for ms in (min(took), statistics.median(took), max(took)))
    return Step(len(took), shortest, middle, longest)
