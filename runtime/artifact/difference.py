"""Absolute differences between arrays."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def absolute_difference(actual: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.float64]:
    """Return the absolute differences between arrays of one shape, value by value.

    Equal infinities do not differ, and neither do two NaNs; a NaN differs infinitely from anything else, as do strings
    that are not equal.
    """
    if {"O", "U", "S"} & {actual.dtype.kind, expected.dtype.kind}:
        return np.where(actual.astype(str) == expected.astype(str), 0.0, math.inf)
    if actual.dtype == expected.dtype and np.array_equal(actual, expected):
        # The usual case, without copies of large images as float64.
        return np.zeros(actual.shape)
    first, second = actual.astype(np.float64), expected.astype(np.float64)
    equal = (first == second) | (np.isnan(first) & np.isnan(second))
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.nan_to_num(np.abs(first - second), nan=math.inf, posinf=math.inf)
    return np.where(equal, 0.0, difference)


def largest_difference(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest of the absolute differences: zero for empty arrays, infinite where the shapes differ."""
    if actual.shape != expected.shape:
        return math.inf
    return float(absolute_difference(actual, expected).max(initial=0.0))
