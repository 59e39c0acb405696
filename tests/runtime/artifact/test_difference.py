"""Largest differences: the same for every check that compares arrays."""

import math

import numpy as np
import pytest

from runtime.artifact.difference import largest_difference


@pytest.mark.parametrize(
    ("actual", "expected", "difference"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.5),
        ([math.inf, -math.inf, math.nan], [math.inf, -math.inf, math.nan], 0.0),
        ([math.inf], [-math.inf], math.inf),
        ([math.inf], [1.0], math.inf),
        ([math.nan], [1.0], math.inf),
        ([1.0], [math.nan], math.inf),
        ([[]], [[]], 0.0),
        ([1.0], [[1.0]], math.inf),
        ([True, False], [True, True], 1.0),
        (["a", "b"], ["a", "b"], 0.0),
        (["a", "b"], ["a", "c"], math.inf),
        ([1.7e308], [-1.7e308], math.inf),
    ],
)
def test_the_largest_difference(actual, expected, difference):
    assert largest_difference(np.array(actual), np.array(expected)) == difference


def test_the_difference_of_bytes_does_not_wrap_around():
    assert largest_difference(np.array([0], np.uint8), np.array([255], np.uint8)) == 255.0
