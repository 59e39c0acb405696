"""Values of options: from the text of the command line."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.manifest import Value


def read_keyword_arguments(pairs: Sequence[str]) -> dict[str, Any]:
    """Return ``key=value`` pairs as keyword arguments; a value that is not JSON is a string."""
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.isidentifier():
            raise ValueError(f"expected KEY=VALUE, got '{pair}'")
        try:
            arguments[key] = json.loads(text)
        except json.JSONDecodeError:
            arguments[key] = text
    return arguments


def read_size(text: str) -> int | tuple[int, int]:
    """Return ``256`` as a number and ``256x320`` as (height, width)."""
    parts = text.split("x")
    if len(parts) > 2 or not all(part.isdigit() and int(part) for part in parts):
        raise ValueError(f"expected a size or HEIGHTxWIDTH, got '{text}'")
    return int(parts[0]) if len(parts) == 1 else (int(parts[0]), int(parts[1]))


def read_numbers(text: str) -> tuple[float, ...]:
    """Return numbers that commas separate."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"expected numbers separated by commas, got '{text}'") from None


def read_lengths(text: str) -> dict[str, tuple[int, int]]:
    """Return the shortest and the longest length of ``NAME=LOW..HIGH,...``; without a name, of every dimension: ''."""
    lengths: dict[str, tuple[int, int]] = {}
    for part in text.split(","):
        name, _, limits = part.rpartition("=")
        low, _, high = (number.strip() for number in limits.partition(".."))
        if not low.isdecimal() or not high.isdecimal() or not 1 <= int(low) <= int(high):
            raise ValueError(f"expected LOW..HIGH or NAME=LOW..HIGH, such as 1..4096, got '{part}'")
        lengths[name.strip()] = (int(low), int(high))
    return lengths


def read_columns(text: str) -> tuple[str, ...]:
    """Return names that commas separate."""
    return tuple(text.split(","))


def read_values(text: str) -> tuple[Value, ...]:
    """Return the names and units of ``NAME=UNIT,...``; units may be left out."""
    pairs = (part.partition("=") for part in text.split(","))
    return tuple(Value(name=name.strip(), unit=unit.strip()) for name, _, unit in pairs)


def read_colors(text: str) -> tuple[tuple[int, int, int], ...]:
    """Return the RGB colors that the text names, or the lines of the file that it names."""
    from PIL import ImageColor

    path = Path(text)
    names = path.read_text(encoding="utf-8").splitlines() if path.is_file() else text.split(",")
    try:
        colors = [ImageColor.getcolor(name.strip(), "RGB") for name in names if name.strip()]
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(
            f"expected colors such as black or #ff8000 separated by commas, or a file with one per line: {error}"
        ) from None
    return tuple(colors)  # type: ignore[arg-type]  # three numbers, in this mode
