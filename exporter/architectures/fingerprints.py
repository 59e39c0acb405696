"""The index of fingerprints: which tensors each known architecture has, and the shapes that its head and stem may take.

Made by ``scripts/make-fingerprints`` from the libraries' own constructors; needs no torch to read. Keys that end in
``num_batches_tracked`` are left out, as old checkpoints lack them and they say nothing.
"""

import lzma
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

INDEX_NAME = "fingerprints.json.xz"

# A length that depends on the number of classes or input channels: '4c+4', 'c', '3i'.
_VARIABLE = re.compile(r"(\d+)([ci])\+(\d+)")

Template: TypeAlias = tuple[str, ...]


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """One architecture: ``tensors`` are places in the index's list, as differences; ``traits`` are hashes.

    Traits say what shapes cannot: two architectures with the same tensors differ in those whose hashes differ.
    """

    arguments: dict[str, Any]
    tensors: list[int]
    traits: dict[str, str]


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """Every known architecture by reference; ``tensors`` are lines of key and shape, ``made_with`` library versions."""

    made_with: dict[str, str]
    tensors: list[str]
    architectures: dict[str, Architecture]


@dataclass(frozen=True, kw_only=True)
class Table:
    """The index, laid out for matching: rows are architectures, ``rows[starts[n]:starts[n + 1]]`` their tensors."""

    index: Index
    names: tuple[str, ...]
    keys: tuple[str, ...]
    templates: tuple[Template, ...]
    rows: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]


def index_to_bytes(index: Index) -> bytes:
    """Return the index as it is shipped; equal indexes give equal bytes."""
    return lzma.compress(msgspec.json.encode(index, order="deterministic"), preset=9 | lzma.PRESET_EXTREME)


@cache
def read_table() -> Table:
    """Return the shipped index."""
    data = (files("exporter.architectures") / INDEX_NAME).read_bytes()
    return to_table(msgspec.json.decode(lzma.decompress(data), type=Index))


def to_table(index: Index) -> Table:
    """Return an index laid out for matching."""
    lines = [line.partition(" ") for line in index.tensors]
    lengths = [len(architecture.tensors) for architecture in index.architectures.values()]
    rows = [np.cumsum(architecture.tensors, dtype=np.int64) for architecture in index.architectures.values()]
    return Table(
        index=index,
        names=tuple(index.architectures),
        keys=tuple(key for key, _, _ in lines),
        templates=tuple(tuple(shape.split(",")) if shape else () for _, _, shape in lines),
        rows=np.concatenate(rows) if rows else np.zeros(0, np.int64),
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


def line_of(key: str, shape: tuple[int, ...]) -> str:
    """Return a tensor as a line of the index."""
    return f"{key} {','.join(map(str, shape))}"


def is_variable(template: Template) -> bool:
    """Return whether a shape depends on the number of classes or input channels."""
    return any("c" in length or "i" in length for length in template)


def solve(template: Template, shape: tuple[int, ...]) -> dict[str, int] | None:
    """Return the values of 'c' (classes) and 'i' (input channels) that make ``template`` the shape, or None."""
    if len(template) != len(shape):
        return None
    values: dict[str, int] = {}
    for length, actual in zip(template, shape, strict=True):
        variable = _VARIABLE.fullmatch(length)
        if variable is None:
            if int(length) != actual:
                return None
            continue
        factor, name, constant = int(variable[1]), variable[2], int(variable[3])
        value, rest = divmod(actual - constant, factor)
        if rest or value < 1 or values.setdefault(name, value) != value:
            return None
    return values
