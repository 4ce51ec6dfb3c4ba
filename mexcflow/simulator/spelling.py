"""How a wire spells numbers: exact decimal text from whole ticks, and odd spellings of the same value.

No float ever touches a price: a price is a whole number of ticks of 10**-scale.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count

Spell = Callable[[str], str]
"""Takes a plain decimal and returns another text of the same value."""

_EIGHT = Decimal("0.00000001")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def plain(ticks: int, scale: int) -> str:
    """`ticks` of 10**-scale without trailing zeros: (775259, 1) is 77525.9, (775940, 1) is 77594."""
    return fixed(ticks, scale).rstrip("0").rstrip(".") if scale else str(ticks)


def fixed(ticks: int, scale: int) -> str:
    """`ticks` of 10**-scale with all its decimals: (50, 4) is 0.0050."""
    if not scale:
        return str(ticks)
    whole, part = divmod(abs(ticks), 10**scale)
    return f"{'-' if ticks < 0 else ''}{whole}.{part:0{scale}d}"


def shortest(value: Decimal) -> str:
    """Return a decimal without exponent and trailing zeros: 1E+3 is 1000, 0.040 is 0.04."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def eight_decimals(value: Decimal) -> str:
    """Return a decimal with eight decimals, as exchanges write quantities of coins: 0.02460000."""
    return format(value.quantize(_EIGHT), "f")


def iso_us(at_ms: int, seed: int = 0) -> str:
    """Return Unix ms as ISO time, less some µs that are made up of `seed`: 2026-09-02T07:44:10.104422Z."""
    at = _EPOCH + timedelta(milliseconds=at_ms, microseconds=-(seed * 7919 % 1000))
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _exponent(text: str) -> str:
    return f"{Decimal(text).normalize():E}"


def _small_exponent(text: str) -> str:
    return _exponent(text).lower()


def _trailing_zero(text: str) -> str:
    return f"{text}0" if "." in text else f"{text}.0"


def _long_tail(text: str) -> str:
    return f"{text}{'0' * 25}" if "." in text else f"{text}.{'0' * 30}"


class OddSpelling:
    """Spell numbers in turn as MEXC was seen to: 7.548E+4, 1.2e-7, 0.080550, 25329.000…000, and plainly.

    Source: captured frames of 2025 and 2026, see PROTOCOLS 1.7. The value never changes.
    """

    _WAYS: tuple[Spell, ...] = (_exponent, _trailing_zero, str, _small_exponent, _long_tail, str, _exponent)

    def __init__(self) -> None:
        self._turn = count()

    def __call__(self, text: str) -> str:
        """Spell the plain decimal `text` in the way whose turn it is."""
        return self._WAYS[next(self._turn) % len(self._WAYS)](text)
