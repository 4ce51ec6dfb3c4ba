"""Number spelling: the exchange's digits, as a plain decimal.

No exponent, no trailing zeros after the point, and no digit that the exchange did not send. A number
never passes through a float: `25329.000000000000000000000000000000` and `7.548E+4` keep their value
because they are handled as text.
"""

import re
from decimal import Decimal

from mexcflow.model import Undecodable

_PLAIN = re.compile(r"(?:0|-?[1-9][0-9]*|-?0(?=\.))(?:\.[0-9]*[1-9])?").fullmatch
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,9})?").fullmatch
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
