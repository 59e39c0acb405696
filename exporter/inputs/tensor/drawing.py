"""Random arrays: continuous numbers, and whole ones in the range of what they index."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from runtime.manifest import TensorInput

KINDS = ("normal", "uniform", "large", "small")

# Small whole numbers, such as counts, prices and zeros: where '//', '%', rounding and sorting decide.
WHOLE = "whole"

# Numbers beyond an embedding, or whatever else a whole number indexes: what takes this one is no index.
_NO_INDEX = 2**20

# Arrays of at most so many columns may hold indices of different ranges.
_COLUMNS = 64

# The length of named dimensions where a range is searched, and another one for networks that do not take the first.
_TRIED_LENGTHS = (16, 64)

# Whole numbers that index nothing.
_FREE = 10

# Why the eager network refuses arrays by name, without a batch dimension; empty where it takes them.
Refusal: TypeAlias = Callable[[Mapping[str, NDArray[Any]]], str]

# What torch says of an index that is too large: nn.Embedding and indexing, gather, one_hot.
_INDEX_ERROR = re.compile(r"\bindex\b|\bindices\b|out of (?:range|bounds)|num_classes", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How inputs are drawn.

    ``limits`` has, by the name of an input with indices, how many values each column of its last dimension may have, 0
    where it may have any; one entry stands for all columns. ``not_negative`` says which of them refuse -1.
    """

    specs: tuple[TensorInput, ...]
    limits: Mapping[str, tuple[int, ...]]
    not_negative: Mapping[str, tuple[bool, ...]]

    def draw(
        self, generator: np.random.Generator, lengths: Mapping[str, int], kind: str, row: int
    ) -> dict[str, NDArray[Any]]:
        """Return the arrays of one input; the first rows have the first and last values of indices."""
        return {spec.name: self._array(spec, generator, lengths, kind, row) for spec in self.specs}

    def _array(
        self, spec: TensorInput, generator: np.random.Generator, lengths: Mapping[str, int], kind: str, row: int
    ) -> NDArray[Any]:
        array = _random(generator, shape_of(spec, lengths), np.dtype(spec.dtype), kind)
        if spec.name not in self.limits:
            return array
        limits = np.broadcast_to(np.array(self.limits[spec.name]), array.shape[-1:] or (1,))
        highest = np.maximum(limits, 1) - 1
        indices = generator.integers(0, highest, array.shape or (1,), endpoint=True)
        if row < len(KINDS):
            indices = {"large": highest, "small": 0 * highest}.get(kind, indices)
        return np.where(limits, indices, array).reshape(array.shape).astype(spec.dtype)


def find_drawing(specs: Sequence[TensorInput], names: Sequence[str], refusal: Refusal) -> Drawing:
    """Return how inputs are drawn: whole numbers from the range that the eager network takes, found by trying.

    Floating-point numbers are indices where the network says that they are out of range.
    """
    limits: dict[str, tuple[int, ...]] = {}
    not_negative: dict[str, tuple[bool, ...]] = {}
    numbers = [spec for spec in specs if np.dtype(spec.dtype).kind in "iuf"]
    for length in _TRIED_LENGTHS if names else _TRIED_LENGTHS[:1]:
        base = {spec.name: np.zeros(shape_of(spec, dict.fromkeys(names, length)), spec.dtype) for spec in specs}
        if refusal(base):
            continue
        for spec in numbers:
            found, signs = _limits_of(spec, base, refusal)
            if any(found):
                limits[spec.name] = found
            if any(signs):
                not_negative[spec.name] = signs
        break
    return Drawing(specs=tuple(specs), limits=limits, not_negative=not_negative)


def shape_of(spec: TensorInput, lengths: Mapping[str, int]) -> tuple[int, ...]:
    """Return the shape of one input, without the batch."""
    return tuple(lengths[part] if isinstance(part, str) else part for part in spec.shape[1:])


def _limits_of(
    spec: TensorInput, base: Mapping[str, NDArray[Any]], refusal: Refusal
) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Return how many values each column takes, 0 where it takes any, and which columns refuse -1."""
    dtype = np.dtype(spec.dtype)
    is_float = dtype.kind == "f"
    # float16 has whole numbers up to 2048.
    largest = int(min(_NO_INDEX, 2 ** (np.finfo(dtype).nmant + 1) if is_float else np.iinfo(dtype).max))

    def refusal_of(column: Any, value: int) -> str:
        array = base[spec.name].copy()
        array[column] = value
        return refusal({**base, spec.name: array})

    refused = refusal_of(..., largest)
    if not refused or (is_float and not _INDEX_ERROR.search(refused)):
        return (), ()
    width = spec.shape[-1]
    by_column = len(spec.shape) > 1 and isinstance(width, int) and width <= _COLUMNS
    columns = [(..., index) for index in range(int(width))] if by_column else [...]
    limits = tuple(_limit(partial(refusal_of, column), largest) for column in columns)
    refuses = [
        dtype.kind != "u" and limit > 0 and bool(refusal_of(column, -1))
        for column, limit in zip(columns, limits, strict=True)
    ]
    return limits, tuple(refuses)


def _limit(refusal_of: Callable[[int], str], largest: int) -> int:
    """Return how many values from 0 on are taken, where ``largest`` is not; 0 where it is."""
    if not refusal_of(largest):
        return 0
    low, high = 0, 1
    while high < largest and not refusal_of(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if refusal_of(middle) else (middle, high)
    return low + 1


def _random(generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any], kind: str) -> NDArray[Any]:
    """Return an array of ``dtype``: numbers of either sign, positive ones below 1, ten times or a tenth as large.

    Whole numbers are three times as large before they are rounded.
    """
    if dtype.kind == "b":
        return generator.random(shape) < 0.5
    if dtype.kind == "u":
        return generator.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    if dtype.kind == "i":
        return generator.integers(0, _FREE, shape).astype(dtype)
    values = generator.random(shape) if kind == "uniform" else generator.standard_normal(shape)
    values = values * {"large": 10.0, "small": 0.1, WHOLE: 3.0}.get(kind, 1.0)
    return (np.round(values) if kind == WHOLE else values).astype(dtype)
