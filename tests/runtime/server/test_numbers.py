"""Whole numbers from headers, forms, JSON and gRPC are read by one rule."""

import pytest

from runtime.errors import InputError
from runtime.server.numbers import whole_number


@pytest.mark.parametrize("value", [0, 7, 2**63])
def test_integers_of_zero_or_more_are_taken(value):
    assert whole_number(value, "x") == value


@pytest.mark.parametrize("value", [-1, True, 1.0, "1", None, [1], {"a": 1}])
def test_other_values_are_refused(value):
    with pytest.raises(InputError, match=r"^x: expected a whole number, got "):
        whole_number(value, "x")


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("0042", 42), ("9" * 15, 10**15 - 1)])
def test_decimal_digits_are_taken_from_text(text, number):
    assert whole_number(text, "x", from_text=True) == number


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "1e3", " 1", "٣", "9" * 16, "x" * 1000, 5])
def test_other_texts_are_refused(text):
    with pytest.raises(InputError) as caught:
        whole_number(text, "x", from_text=True)

    assert len(str(caught.value)) < 120
