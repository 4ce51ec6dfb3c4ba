"""Number spelling: the exchange's digits, as a plain decimal.

No exponent, no trailing zeros after the point, and no digit that the exchange did not send. A number
never passes through a float: `25329.000000000000000000000000000000` and `7.548E+4` keep their value
because they are handled as text.
"""

import re
from decimal import Context, Decimal
from functools import lru_cache

from mexcflow.model import Undecodable

_EXACT = Context(prec=80)
_PLAIN = re.compile(r"(?:0|-?[1-9][0-9]*|-?0(?=\.))(?:\.[0-9]*[1-9])?").fullmatch
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,9})?").fullmatch
_MAX_WHOLE, _MAX_FRACTION = 20, 18
_SHORT = 19
"""As many characters cannot have more than 18 digits behind the point, and not more than 20 before it."""
_MAX_MAGNITUDE = 100
"""Powers of ten beyond which an exponent is taken for damage: 1e400 would be 401 characters."""


def plain(number: str) -> str:
    """Return a JSON number as a plain decimal of the same value; `Undecodable` when it is no number."""
    if _PLAIN(number):
        return number
    if not _JSON_NUMBER(number):
        raise Undecodable(f"not a number: {number[:40]}")
    value = Decimal(number)
    if value.is_zero():
        return "0"
    if abs(value.adjusted()) > _MAX_MAGNITUDE:
        raise Undecodable(f"a number beyond all measure: {number[:40]}")
    spelled = format(value, "f")
    return spelled.rstrip("0").rstrip(".") if "." in spelled else spelled


def with_decimals(number: str, decimals: int) -> str:
    """Return a plain decimal padded with zeros to `decimals` places; longer ones keep all their digits."""
    whole, _, fraction = number.partition(".")
    return f"{whole}.{fraction.ljust(decimals, '0')}"


def exact(number: str) -> str:
    """Return a number as text that a Decimal(38, 18) column takes without losing a digit.

    Raises `Undecodable` for what is no number, or has more than 20 digits before the point or 18 behind it.
    """
    if len(number) <= _SHORT and number.isascii() and number.replace(".", "", 1).isdigit():
        return number if number[-1] != "." and number[0] != "." else plain(number)
    spelled = plain(number)
    whole, _, fraction = spelled.lstrip("-").partition(".")
    if len(whole) > _MAX_WHOLE or len(fraction) > _MAX_FRACTION:
        raise Undecodable(f"more digits than a Decimal(38, 18) holds: {number[:60]}")
    return spelled


def exact_or_none(number: str | None) -> str | None:
    """Return what `exact` does, and None for a field that is empty or not there."""
    return exact(number) if number else None


@lru_cache(maxsize=4096)
def times(number: str, factor: str) -> str:
    """Return the product of two plain decimals, exact, as one that `exact` takes.

    Quantities come again and again: of those that did the product is remembered, which saves 1 µs.
    """
    if factor == "1":
        return number
    return exact(format(_EXACT.multiply(Decimal(number), Decimal(factor)), "f"))
