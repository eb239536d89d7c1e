"""Amounts: decimal strings outside, exact integers inside."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core.contracts.amount import Amount

AMOUNTS = st.builds(Amount, st.integers(0, 10**20), st.integers(0, 12))


def exact(amount: Amount) -> Fraction:
    return Fraction(amount.value, 10**amount.scale)


@given(AMOUNTS)
def test_writing_and_reading_gives_the_same_amount(amount: Amount) -> None:
    assert Amount.parse(str(amount)) == amount
    assert Fraction(Decimal(str(amount))) == exact(amount)


@given(st.integers(0, 10**9), st.integers(0, 9), st.integers(0, 6))
def test_equal_numbers_are_equal_objects(value: int, scale: int, zeros: int) -> None:
    padded = Amount(value * 10**zeros, scale + zeros)

    assert padded == Amount(value, scale)
    assert hash(padded) == hash(Amount(value, scale))


@given(AMOUNTS, AMOUNTS)
def test_sums_differences_and_order_are_those_of_the_numbers(a: Amount, b: Amount) -> None:
    assert exact(a + b) == exact(a) + exact(b)
    assert (a + b) - b == a
    assert (a < b) == (exact(a) < exact(b))
    assert (a == b) == (exact(a) == exact(b))
    if a < b:
        with pytest.raises(ValueError, match="never negative"):
            a - b


@given(AMOUNTS, st.integers(0, 10**6))
def test_quanta_count_exactly_or_not_at_all(quantum: Amount, times: int) -> None:
    if not quantum:
        with pytest.raises(ValueError, match="never zero"):
            Amount(times).quanta(quantum)
        return
    amount = quantum.times(times)

    assert amount.quanta(quantum) == times
    assert exact(amount) == exact(quantum) * times
    finer = Amount(1, max(amount.scale, quantum.scale) + 1)
    assert (amount + finer).quanta(quantum) is None


@pytest.mark.parametrize(
    ("text", "amount"),
    [("2.0", Amount(2)), ("0.25", Amount(25, 2)), (" 7 ", Amount(7)), ("007", Amount(7))],
)
def test_plain_decimals_are_read(text: str, amount: Amount) -> None:
    assert Amount.parse(text) == amount


@pytest.mark.parametrize(
    "text", ["", ".5", "5.", "-1", "+1", "1e3", "nan", "inf", "0x1", "1_000", "1,5", "٣", "9" * 31]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        Amount.parse(text)


@given(st.integers(0, 10**6), st.sampled_from("kmgtpe"), st.sampled_from(["", "b", "i", "ib"]))
def test_sizes_are_binary_in_every_spelling(number: int, unit: str, ending: str) -> None:
    factor = 1 << (10 * ("kmgtpe".index(unit) + 1))

    for text in (f"{number}{unit}{ending}", f"{number} {(unit + ending).upper()}"):
        assert Amount.parse_size(text) == Amount(number * factor)


@pytest.mark.parametrize("text", ["", "g", "1x", "1 i", "1ii", "-1g", "0.1", "1.0000001k", "1gg"])
def test_what_is_no_whole_number_of_bytes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        Amount.parse_size(text)


@pytest.mark.parametrize(("value", "scale"), [(-1, 0), (1, -1)])
def test_an_amount_is_never_negative(value: int, scale: int) -> None:
    with pytest.raises(ValueError, match="never negative"):
        Amount(value, scale)
