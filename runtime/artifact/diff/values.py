"""What one difference is, and how two values, whatever they hold, are set against each other in words."""

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

Part: TypeAlias = Literal[
    "task",
    "inputs",
    "preprocessing",
    "outputs",
    "labels",
    "weights",
    "graph",
    "files",
    "golden",
    "calibration",
    "parity",
    "source",
    "tools",
]

# In the order of a report: what answers depend on first.
PARTS: tuple[Part, ...] = Part.__args__  # type: ignore[attr-defined]

# Differences of one kind that are listed one by one; beyond them, they are counted.
LISTED = 10


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that differs: where, and what each of the two has; empty where one has nothing."""

    part: Part
    place: str
    first: str
    second: str


def values_of(part: Part, place: str, first: Any, second: Any) -> Iterable[Difference]:
    """Give the innermost fields that differ; ``place`` says in words where they are."""
    if first == second:
        return
    if isinstance(first, dict) and isinstance(second, dict):
        for key in (*first, *(key for key in second if key not in first)):
            inner = f"{place}, {words(key)}" if place else words(key)
            yield from values_of(part, inner, first.get(key), second.get(key))
    elif _is_structured(first) and _is_structured(second) and len(first) == len(second):
        for row, (one, other) in enumerate(zip(first, second, strict=True), start=1):
            yield from values_of(part, f"{place} {row}".strip(), one, other)
    else:
        yield Difference(part=part, place=place, first=show(first), second=show(second))


def _is_structured(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(one, dict) for one in value)


def builtins_of(value: Any) -> Any:
    """Return a struct as dictionaries, lists and numbers."""
    return msgspec.json.decode(msgspec.json.encode(value))


def show(value: Any) -> str:
    """Return a value for people; nothing is empty."""
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.9g}"
        case list() | tuple():
            return f"[{', '.join(show(one) for one in value)}]"
        case dict():
            return ", ".join(f"{words(key)} {show(one)}" for key, one in value.items())
    return str(value)


def largest(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the largest difference; infinite where one is NaN and the other not."""
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(one.astype(np.float64) - other.astype(np.float64))
    alike = (one == other) | (np.isnan(one) & np.isnan(other)) if one.dtype.kind == "f" else one == other
    return float(np.where(alike, 0.0, np.where(np.isnan(difference), np.inf, difference)).max())


def words(name: str) -> str:
    """Return the name of a field for people."""
    return name.replace("_", " ")
