"""Frames for the benchmarks: MEXC's wire shape, 4 % ticker, 73 % deal, 23 % depth of 20 levels a side.

`evolving` changes about 5 of the 40 levels a snapshot, as a real book does; `uniform` draws every
quantity anew, which no compression can do much about: the worst case.
"""

import random
from collections.abc import Iterator

START_MS = 1_790_000_000_000
LEVELS = 20
MIX = (("ticker", 4), ("deal", 73), ("depth", 23))


def price(tenths: int) -> str:
    """Spell a price of so many tenths as the exchange does: whole ones without a point."""
    return str(tenths // 10) if tenths % 10 == 0 else f"{tenths // 10}.{tenths % 10}"


class Generator:
    """One symbol's frames, the same for the same seed."""

    def __init__(self, *, kind: str = "uniform", seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._uniform = kind == "uniform"
        self._mid = 840_000
        self._version = 41_770_000_000
        self._trade = 16_005_000_000
        self._levels = {side: [self._quantity() for _ in range(LEVELS)] for side in ("asks", "bids")}

    def frames(self, count: int, *, interval_ms: float = 1.0) -> Iterator[bytes]:
        """Yield so many frames, event times `interval_ms` apart."""
        names = [name for name, _ in MIX]
        weights = [weight for _, weight in MIX]
        for number in range(count):
            now_ms = START_MS + int(number * interval_ms)
            self._mid += self._random.choice((-1, 0, 0, 1))
            kind = self._random.choices(names, weights)[0]
            yield getattr(self, f"_{kind}")(now_ms).encode()

    def _quantity(self) -> int:
        return self._random.randint(1, 120_000)

    def _deal(self, now_ms: int) -> str:
        self._trade += 1
        side = self._random.randint(1, 2)
        quantity = self._random.randint(1, 3000)
        return (
            f'{{"symbol":"BTC_USDT","data":[{{"p":{price(self._mid + side)},"v":{quantity},'
            f'"T":{side},"O":3,"M":1,"t":{now_ms},"i":"{self._trade}","cts":"{now_ms}"}}],'
            f'"channel":"push.deal","ts":{now_ms}}}'
        )

    def _depth(self, now_ms: int) -> str:
        changed = range(LEVELS * 2) if self._uniform else self._random.sample(range(LEVELS * 2), 5)
        for level in changed:
            self._levels["asks" if level < LEVELS else "bids"][level % LEVELS] = self._quantity()
        self._version += 3
        sides = {
            name: ",".join(
                f"[{price(self._mid + sign * (n + 1))},{quantity},{quantity % 9 + 1}]"
                for n, quantity in enumerate(self._levels[name])
            )
            for name, sign in (("asks", 1), ("bids", -1))
        }
        return (
            f'{{"symbol":"BTC_USDT","data":{{"cts":{now_ms},"asks":[{sides["asks"]}],"bids":[{sides["bids"]}],'
            f'"version":{self._version}}},"channel":"push.depth.full","ts":{now_ms}}}'
        )

    def _ticker(self, now_ms: int) -> str:
        last = price(self._mid)
        return (
            f'{{"symbol":"BTC_USDT","data":{{"symbol":"BTC_USDT","lastPrice":{last},"riseFallRate":0.005,'
            f'"fairPrice":{price(self._mid + 3)},"indexPrice":{price(self._mid + 7)},"volume24":334936305,'
            f'"amount24":3911566311.58808,"maxBidPrice":92482.7,"minAskPrice":76122.2,"lower24Price":82852,'
            f'"high24Price":85590.1,"timestamp":{now_ms},"bid1":{last},"ask1":{last},"holdVol":82912997,'
            f'"riseFallValue":582.4,"fundingRate":0.000094,"zone":"UTC+8",'
            f'"riseFallRates":[0.0050,0.0124,0.0708,0.1323,0.2105,0.9657],'
            f'"riseFallRatesOfTimezone":[0.0025,-0.0057,0.0050]}},"channel":"push.ticker","ts":{now_ms}}}'
        )


def as_websocket(payload: bytes) -> bytes:
    """Return a text message as a server sends it: one unmasked frame."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    return b"\x81\x7e" + size.to_bytes(2, "big") + payload
