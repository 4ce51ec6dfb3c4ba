"""Number spelling: any spelling keeps its value, exactly."""

import json
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mexcflow.exchanges.mexc import Mexc
from mexcflow.exchanges.numbers import plain, with_decimals
from mexcflow.model import Undecodable

PLAIN = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?")


@st.composite
def json_numbers(draw: st.DrawFn, *, signed: bool = True) -> str:
    """Draw a number in any spelling that JSON allows."""
    sign = draw(st.sampled_from(["", "-"])) if signed else ""
    whole = draw(st.one_of(st.just("0"), st.from_regex(r"[1-9][0-9]{0,24}", fullmatch=True)))
    fraction = draw(st.one_of(st.just(""), st.from_regex(r"\.[0-9]{1,32}", fullmatch=True)))
    exponent = draw(st.one_of(st.just(""), st.from_regex(r"[eE][+-]?[0-4]?[0-9]", fullmatch=True)))
    return sign + whole + fraction + exponent


@given(json_numbers())
def test_any_spelling_keeps_its_value_and_comes_out_plain(number):
    spelled = plain(number)
    assert Decimal(spelled) == Decimal(number)
    assert PLAIN.fullmatch(spelled)


@given(json_numbers())
def test_no_digit_is_added_that_was_not_sent(number):
    digits = re.sub(r"[eE].*", "", number)
    sent = digits.replace(".", "").replace("-", "").strip("0")
    assert plain(number).replace(".", "").replace("-", "").strip("0") == sent


@given(st.lists(st.tuples(json_numbers(signed=False), json_numbers(signed=False)), max_size=20))
def test_any_spelling_keeps_its_value_through_a_whole_book(levels):
    side = ",".join(f"[{price},{amount},1]" for price, amount in levels)
    frame = (
        f'{{"symbol":"X_USDT","data":{{"asks":[{side}],"bids":[]}},'
        f'"channel":"push.depth.full","ts":1790000000000}}'
    )
    ((_, _, m),) = Mexc("X_USDT", ("depth",)).read(frame.encode()).rows
    numbers = re.findall(r"[^\[\],|]+", m)
    assert all(PLAIN.fullmatch(number) for number in numbers)
    pairs = list(zip(numbers[0::2], numbers[1::2], strict=True))
    assert [(Decimal(p), Decimal(a)) for p, a in pairs] == [(Decimal(p), Decimal(a)) for p, a in levels]
    assert m == "|" + ",".join(f"[{price},{amount}]" for price, amount in pairs)


@given(json_numbers(signed=False), json_numbers(signed=False))
def test_any_spelling_keeps_its_value_through_a_deal(price, amount):
    frame = (
        f'{{"symbol":"X_USDT","data":[{{"p":{price},"v":{amount},"T":1,"t":1790000000000}}],'
        f'"channel":"push.deal"}}'
    )
    ((_, _, m),) = Mexc("X_USDT", ("deal",)).read(frame.encode()).rows
    assert m == f"{plain(price)}|{plain(amount)}|1"


@pytest.mark.parametrize(
    ("number", "spelled"),
    [
        ("84055", "84055"),
        ("0.080550", "0.08055"),
        ("7.548E+4", "75480"),
        ("1.2e-7", "0.00000012"),
        ("25329.000000000000000000000000000000", "25329"),
        ("-0.0", "0"),
        ("0", "0"),
        ("-0", "0"),
        ("0e5", "0"),
        ("-0.5", "-0.5"),
        ("100", "100"),
        ("1.066397E3", "1066.397"),
    ],
)
def test_the_spellings_seen_on_the_wire(number, spelled):
    assert plain(number) == spelled
    json.loads(spelled)


@pytest.mark.parametrize(
    "number",
    [
        "",
        "x",
        "1.2.3",
        "01",
        "1e",
        ".5",
        "5.",
        "+1",
        "1_000",
        " 1",
        "NaN",
        "Infinity",
        "٣",
        "1e101",
        "1e-101",
    ],
)
def test_what_is_no_number_is_refused(number):
    with pytest.raises(Undecodable):
        plain(number)


@pytest.mark.parametrize(
    ("number", "padded"),
    [
        ("0.0001", "0.00010000"),
        ("0", "0.00000000"),
        ("-0.000045", "-0.00004500"),
        ("1.123456789", "1.123456789"),
    ],
)
def test_padding_adds_zeros_and_never_cuts(number, padded):
    assert with_decimals(number, 8) == padded
