"""Differences between two values, in words."""

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import msgspec

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

# In the order of a report: the parts that results depend on first.
PARTS: tuple[Part, ...] = Part.__args__  # type: ignore[attr-defined]

# Differences of one kind that are listed one by one; beyond them, they are counted.
LISTED = 10


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One difference: its path in words, and what each artifact has there; empty where one has nothing."""

    part: Part
    path: str
    first: str
    second: str


def values_of(part: Part, path: str, first: Any, second: Any) -> Iterable[Difference]:
    """Yield the innermost fields that differ; ``path`` says in words where they are."""
    if first == second:
        return
    if isinstance(first, dict) and isinstance(second, dict):
        for key in (*first, *(key for key in second if key not in first)):
            inner = f"{path}, {words(key)}" if path else words(key)
            yield from values_of(part, inner, first.get(key), second.get(key))
    elif _is_structured(first) and _is_structured(second) and len(first) == len(second):
        for number, values in enumerate(zip(first, second, strict=True), start=1):
            yield from values_of(part, f"{path} {number}".strip(), *values)
    else:
        yield Difference(part=part, path=path, first=show(first), second=show(second))


def _is_structured(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(entry, dict) for entry in value)


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
            return f"[{', '.join(show(entry) for entry in value)}]"
        case dict():
            return ", ".join(f"{words(key)} {show(entry)}" for key, entry in value.items())
    return str(value)


def words(name: str) -> str:
    """Return the name of a field for people."""
    return name.replace("_", " ")
