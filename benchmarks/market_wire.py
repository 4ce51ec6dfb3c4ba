# ruff: noqa: E501 - frames break where their parts end
"""The JSON of three exchanges for `market.py`, spelled as they spell it; only its size is used.

A quantity is in lots: thousandths of a BTC, on OKX hundredths of a contract of 0.01 BTC. A price is in ticks
of 0.1.
"""

import random
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

Levels = Sequence[Sequence[int]]
_NULL = "\\N"
_FUNDING_AT_S = 1_790_006_400


def decimals(number: int, places: int) -> str:
    """Spell a whole number of units of 10^-places."""
    return f"{number // 10**places}.{number % 10**places:0{places}d}"


def shortened(number: int, places: int) -> str:
    """Spell it without trailing zeros."""
    return decimals(number, places).rstrip("0").rstrip(".")


class Wire(Protocol):
    """How an exchange writes."""

    def price(self, ticks: int) -> str:
        """Spell a price."""

    def quantity(self, lots: int) -> str:
        """Spell a quantity."""

    def trades(self, ms: int, ticks: int, lots: list[int], side: str) -> tuple[int, list[str]]:
        """Return the bytes of a frame of trades, and from the id to base_quantity of each row."""

    def book(self, ms: int, sequence: int, sides: tuple[Levels, Levels]) -> int:
        """Return the bytes of a frame that brings the book to these levels."""

    def ticker(self, ms: int, values: dict[str, int]) -> tuple[int, str]:
        """Return the bytes of a frame, and the columns from last_price on."""

    def candle(self, ms: int, open_ms: int, values: list[int], closed: bool) -> tuple[int, str]:
        """Return the bytes of a frame, and the columns from interval to trades."""


class _Padded:
    """Prices and quantities with a fixed number of digits."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._id = 3_466_782_974

    def price(self, ticks: int) -> str:
        """Spell a price."""
        return f"{decimals(ticks, 1)}0"

    def quantity(self, lots: int) -> str:
        """Spell a quantity."""
        return decimals(lots, 3)

    def _levels(self, levels: Levels) -> str:
        return ",".join(f'["{self.price(ticks)}","{self.quantity(lots)}"]' for ticks, lots in levels)

    def _prices(self, values: list[int]) -> list[str]:
        return [self.price(ticks) for ticks in values[:4]]


class Binance(_Padded):
    """USD-M futures, in combined streams."""

    def trades(self, ms: int, ticks: int, lots: list[int], side: str) -> tuple[int, list[str]]:
        """Return the bytes of a frame of trades, and from the id to base_quantity of each row."""
        self._id += 1
        price, quantity, fills = self.price(ticks), self.quantity(sum(lots)), self._id * 2
        frame = (
            f'{{"stream":"btcusdt@aggTrade","data":{{"e":"aggTrade","E":{ms + 150},"a":{self._id},"s":"BTCUSDT",'
            f'"p":"{price}","q":"{quantity}","nq":"{quantity}","f":{fills},"l":{fills + len(lots)},'
            f'"T":{ms},"m":{"true" if side == "sell" else "false"},"st":1}}}}'
        )
        return len(frame), [f"{self._id}\t{price}\t{quantity}\t{quantity}"]

    def book(self, ms: int, sequence: int, sides: tuple[Levels, Levels]) -> int:
        """Return the bytes of a frame that brings the book to these levels."""
        frame = (
            f'{{"stream":"btcusdt@depth20@100ms","data":{{"e":"depthUpdate","E":{ms},"T":{ms - 2},"s":"BTCUSDT",'
            f'"ps":"BTCUSDT","U":{sequence * 1000},"u":{sequence * 1000},"pu":{sequence * 1000},'
            f'"b":[{self._levels(sides[0])}],"a":[{self._levels(sides[1])}],"st":1}}}}'
        )
        return len(frame)

    def ticker(self, ms: int, values: dict[str, int]) -> tuple[int, str]:
        """Return the bytes of a frame, and the columns from last_price on."""
        mark, index = decimals(values["mark"], 5) + "107", decimals(values["index"], 5) + "304"
        frame = (
            f'{{"stream":"btcusdt@markPrice@1s","data":{{"e":"markPriceUpdate","E":{ms},"s":"BTCUSDT","p":"{mark}",'
            f'"ap":"{mark}","P":"{mark}","i":"{index}","r":"0.00000801","T":1790553600000,"st":1}}}}'
        )
        return len(frame), f"{_NULL}\t{mark}\t{index}\t{_NULL}\t0.00000801\t{_FUNDING_AT_S}"

    def candle(self, ms: int, open_ms: int, values: list[int], closed: bool) -> tuple[int, str]:
        """Return the bytes of a frame, and the columns from interval to trades."""
        first, high, low, last = self._prices(values)
        volume, quote = self.quantity(values[4]), decimals(values[4] * values[3] * 10, 5)
        frame = (
            f'{{"stream":"btcusdt@kline_1m","data":{{"e":"kline","E":{ms},"s":"BTCUSDT","k":{{"t":{open_ms}, '
            f'"T":{open_ms + 59_999}, "s":"BTCUSDT", "i":"1m", "f":8123343290, "L":8123344784, "o":"{first}", '
            f'"c":"{last}", "h":"{high}", "l":"{low}", "v":"{volume}", "n":{values[5]}, "x":false, "q":"{quote}", '
            f'"V":"56.811", "Q":"4803302.95620", "B":"0"}}}}}}'
        )
        columns = (first, high, low, last, volume, quote, values[5])
        return len(frame), "\t".join(("1m", str(open_ms // 1000), *map(str, columns)))


class Bybit(_Padded):
    """Linear; a book's frame holds what changed, a ticker's too."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._shown: list[dict[int, int]] = [{}, {}]
        self._said: dict[str, int] = {}

    def trades(self, ms: int, ticks: int, lots: list[int], side: str) -> tuple[int, list[str]]:
        """Return the bytes of a frame of trades, and from the id to base_quantity of each row."""
        price = self.price(ticks)
        ids = [self._uuid() for _ in lots]
        items = ",".join(
            f'{{"T":{ms},"s":"BTCUSDT","S":"{side}","v":"{self.quantity(lot)}","p":"{price}","L":"ZeroMinusTick",'
            f'"i":"{trade}","BT":false,"RPI":false,"seq":549792210006}}'
            for trade, lot in zip(ids, lots, strict=True)
        )
        frame = f'{{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":{ms + 1},"data":[{items}]}}'
        quantities = [self.quantity(lot) for lot in lots]
        return len(frame), [f"{i}\t{price}\t{q}\t{q}" for i, q in zip(ids, quantities, strict=True)]

    def _uuid(self) -> str:
        digits = f"{self._rng.getrandbits(128):032x}"
        return "-".join((digits[:8], digits[8:12], "5" + digits[13:16], digits[16:20], digits[20:]))

    def book(self, ms: int, sequence: int, sides: tuple[Levels, Levels]) -> int:
        """Return the bytes of a frame that brings the book to these levels."""
        changes = []
        for number, side in enumerate(sides):
            before, now = self._shown[number], {level[0]: level[1] for level in side}
            changed = [[ticks, lots] for ticks, lots in now.items() if before.get(ticks) != lots]
            gone = [f'["{self.price(ticks)}","0"]' for ticks in before if ticks not in now]
            changes.append(",".join([*gone, *([self._levels(changed)] if changed else [])]))
            self._shown[number] = now
        frame = (
            f'{{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":{ms},"data":{{"s":"BTCUSDT","b":[{changes[0]}],'
            f'"a":[{changes[1]}],"u":{sequence // 1000},"seq":546137962186}},"cts":{ms}}}'
        )
        return len(frame)

    def ticker(self, ms: int, values: dict[str, int]) -> tuple[int, str]:
        """Return the bytes of a frame, and the columns from last_price on."""
        last, mark = self.price(values["last"]), decimals(values["mark"] // 1000, 2)
        index, interest = decimals(values["index"] // 1000, 2), decimals(values["interest"], 3)
        named = {"lastPrice": last, "markPrice": mark, "indexPrice": index, "openInterest": interest}
        new = ",".join(
            f'"{name}":"{value}"' for name, value in named.items() if self._said.get(name) != value
        )
        self._said = dict(named)
        frame = (
            f'{{"topic":"tickers.BTCUSDT","type":"delta","data":{{"symbol":"BTCUSDT",{new}}},"cs":764144450620,'
            f'"ts":{ms}}}'
        )
        return len(frame), f"{last}\t{mark}\t{index}\t{interest}\t0.00005013\t{_FUNDING_AT_S}"

    def candle(self, ms: int, open_ms: int, values: list[int], closed: bool) -> tuple[int, str]:
        """Return the bytes of a frame, and the columns from interval to trades."""
        first, high, low, last = self._prices(values)
        volume, quote = self.quantity(values[4]), decimals(values[4] * values[3], 4)
        frame = (
            f'{{"topic":"kline.1.BTCUSDT","data":[{{"start":{open_ms},"end":{open_ms + 59_999},"interval":"1",'
            f'"open":"{first}","close":"{last}","high":"{high}","low":"{low}","volume":"{volume}",'
            f'"turnover":"{quote}","confirm":false,"timestamp":{ms}}}],"ts":{ms},"type":"snapshot"}}'
        )
        return len(frame), "\t".join(
            ("1m", str(open_ms // 1000), first, high, low, last, volume, quote, _NULL)
        )


class Okx:
    """Swap: contracts of 0.01 BTC, numbers without trailing zeros; the ticker comes in four channels."""

    _SYMBOL: ClassVar[str] = "BTC-USDT-SWAP"

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._id = 2_701_364_977

    def price(self, ticks: int) -> str:
        """Spell a price."""
        return shortened(ticks, 1)

    def quantity(self, lots: int) -> str:
        """Spell a quantity."""
        return shortened(lots, 2)

    def trades(self, ms: int, ticks: int, lots: list[int], side: str) -> tuple[int, list[str]]:
        """Return the bytes of a frame of trades, and from the id to base_quantity of each row."""
        self._id += len(lots)
        price, quantity = self.price(ticks), self.quantity(sum(lots))
        frame = (
            f'{{"arg":{{"channel":"trades","instId":"{self._SYMBOL}"}},"data":[{{"instId":"{self._SYMBOL}",'
            f'"tradeId":"{self._id}","px":"{price}","sz":"{quantity}","side":"{side}","ts":"{ms}",'
            f'"count":"{len(lots)}","source":"0","seqId":323647402789}}]}}'
        )
        return len(frame), [f"{self._id}\t{price}\t{quantity}\t{shortened(sum(lots), 4)}"]

    def book(self, ms: int, sequence: int, sides: tuple[Levels, Levels]) -> int:
        """Return the bytes of a frame that brings the book to these levels."""
        bids, asks = (
            ",".join(
                f'["{self.price(ticks)}","{self.quantity(lots)}","0","{1 + lots % 9}"]'
                for ticks, lots in side
            )
            for side in sides
        )
        frame = (
            f'{{"arg":{{"channel":"books5","instId":"{self._SYMBOL}"}},"data":[{{"asks":[{asks}],"bids":[{bids}],'
            f'"instId":"{self._SYMBOL}","ts":"{ms}","seqId":{sequence}}}]}}'
        )
        return len(frame)

    def ticker(self, ms: int, values: dict[str, int]) -> tuple[int, str]:
        """Return the bytes of a frame, and the columns from last_price on."""
        last, mark = self.price(values["last"]), self.price(values["mark"] // 10_000)
        index, interest = self.price(values["index"] // 10_000), self.quantity(values["interest"])
        if self._rng.random() < 0.5:
            data = f'"markPx":"{mark}","ts":"{ms}"'
        else:
            data = (
                f'"last":"{last}","lastSz":"0.14","askPx":"{last}","askSz":"134.19","bidPx":"{last}",'
                f'"bidSz":"332.86","open24h":"83591.6","high24h":"84758.8","low24h":"83493.1",'
                f'"sodUtc0":"84454.4","sodUtc8":"84305.5","volCcy24h":"63964.2314","vol24h":"6396423.14","ts":"{ms}"'
            )
        frame = (
            f'{{"arg":{{"channel":"tickers","instId":"{self._SYMBOL}"}},"data":[{{"instType":"SWAP",'
            f'"instId":"{self._SYMBOL}",{data}}}]}}'
        )
        return len(frame), f"{last}\t{mark}\t{index}\t{interest}\t0.0001534702159002\t{_FUNDING_AT_S}"

    def candle(self, ms: int, open_ms: int, values: list[int], closed: bool) -> tuple[int, str]:
        """Return the bytes of a frame, and the columns from interval to trades."""
        first, high, low, last = (self.price(ticks) for ticks in values[:4])
        contracts, volume = self.quantity(values[4]), shortened(values[4], 4)
        quote = shortened(values[4] * values[3], 5)
        frame = (
            f'{{"arg":{{"channel":"candle1m","instId":"{self._SYMBOL}"}},"data":[["{open_ms}","{first}","{high}",'
            f'"{low}","{last}","{contracts}","{volume}","{quote}","0"]]}}'
        )
        return len(frame), "\t".join(
            ("1m", str(open_ms // 1000), first, high, low, last, volume, quote, _NULL)
        )


WIRES: dict[str, Callable[[random.Random], Wire]] = {"binance": Binance, "bybit": Bybit, "okx": Okx}
"""By the exchange's name."""
