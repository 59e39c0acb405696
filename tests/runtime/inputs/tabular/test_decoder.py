"""Cells: numbers as the column has them, exactly, or the error of their row alone."""

import numpy as np
import pytest

from runtime.errors import InputError
from runtime.inputs.tabular.decoder import EMPTY, TabularDecoder
from runtime.manifest import Column, TabularInput


def decode(value: object, dtype: str) -> np.ndarray:
    decoder = TabularDecoder(TabularInput(name="row", columns=(Column(name="a", dtype=dtype),)))
    return decoder.stack([decoder.decode({"a": value}, subject="'#1'").values])["a"]


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("form", [int, str])
def test_whole_numbers_stay_exact(number, form):
    assert decode(form(number), "int64").tolist() == [[number]]


@pytest.mark.parametrize(("value", "expected"), [(True, 1), (" 3 ", 3), ("2.0", 2), (2.0, 2), ("1e3", 1000)])
def test_whole_numbers_come_in_any_form(value, expected):
    assert decode(value, "int64").tolist() == [[expected]]


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        pytest.param(10**400, "int64", "too large: expected int64, got 1000", id="whole"),
        pytest.param(10**400, "float64", "too large", id="float"),
        pytest.param(10**5000, "float64", "too large: expected float64, got int too long to show", id="long"),
        pytest.param(10**5000, "string", "not a string: expected text, got int too long to show", id="no text"),
        (1e19, "int64", r"too large: expected int64, got 1e\+19"),
        ("1e30", "int64", "too large"),
        (2**63, "int64", "too large: expected int64, got 9223372036854775808"),
        (-(2**63) - 1, "int64", "too large"),
        (1e300, "float32", r"too large: expected float32, got 1e\+300"),
        pytest.param("9" * 5000, "int64", "infinite", id="digits"),
        pytest.param([10**5000], "float64", "not a number: expected a float64, got list too long", id="list"),
        ("1_000", "int64", "not a number: expected a int64, got '1_000'"),
        ("1_000.5", "float64", "not a number"),
        ("caf\ud800", "string", "got half of one"),
    ],
)
def test_what_the_column_cannot_hold_is_named(value, dtype, message):
    with pytest.raises(InputError, match=f"^'#1': column 'a': .*{message}"):
        decode(value, dtype)


def test_the_texts_of_empty_cells_are_those_of_pandas():
    parsers = pytest.importorskip("pandas._libs.parsers")

    assert EMPTY == parsers.STR_NA_VALUES


@pytest.mark.parametrize("dtype", ["float64", "string"])
def test_the_values_of_pandas_for_empty_cells_are_empty(dtype):
    pandas = pytest.importorskip("pandas")
    decoder = TabularDecoder(TabularInput(name="row", columns=(Column(name="a", dtype=dtype, nullable=True),)))

    for empty in (pandas.NA, pandas.NaT, None):
        (value,) = decoder.decode({"a": empty}, subject="'#1'").values
        assert value == "" if dtype == "string" else np.isnan(value)


def test_a_path_that_no_system_has_is_named():
    decoder = TabularDecoder(TabularInput(name="row", columns=(Column(name="a", dtype="int64"),)))

    with pytest.raises(InputError, match="not a path: embedded null byte"):
        decoder.decode("a\0.json", subject="'#1'")
