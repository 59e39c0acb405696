"""Values of options: from the text of the command line, and from Python."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any, get_args

import msgspec

from exporter.errors import ExportError
from exporter.options.rules import Option, choices_of
from runtime.errors import InputError
from runtime.manifest import Value

# Other names of options in Python, where objects are passed that the command line names.
_ALIASES = {"transform": "preprocess"}


def values_of(keywords: Mapping[str, Any], *owners: Any) -> list[dict[str, Any]]:
    """Return the values of keyword arguments, apart for each of the dataclasses ``owners``; None is not given.

    Raises ExportError for a name that none of them has, and for a value that an option does not have.
    """
    known = [{about.name: about for about in fields(owner)} for owner in owners]
    names = [*_ALIASES, *(name for abouts in known for name in abouts)]
    keywords = _without_aliases(keywords)
    for name in keywords:
        if name not in names:
            close = get_close_matches(name, names, n=1)
            advice = f"Did you mean '{close[0]}'?" if close else "See help(truecopy.ExportOptions)."
            raise ExportError(f"export(): unknown option '{name}'. {advice}")
    given = {name: value for name, value in keywords.items() if value is not None}
    return [{name: field_value(abouts[name], given[name]) for name in given if name in abouts} for abouts in known]


def _without_aliases(keywords: Mapping[str, Any]) -> dict[str, Any]:
    for alias, name in _ALIASES.items():
        if alias in keywords and name in keywords:
            raise ExportError(f"export(): {alias} and {name}: are the same option. Leave out one of them.")
    return {_ALIASES.get(name, name): value for name, value in keywords.items()}


def checkpoint_path(checkpoint: Any) -> Path:
    """Return the path of a checkpoint; raise ExportError where a Python caller passed something else."""
    if not isinstance(checkpoint, str | PathLike):
        raise ExportError(
            f"export(): checkpoint: expected the path of a file or folder, got {type(checkpoint).__name__}. Save "
            "the weights with torch.save(model.state_dict(), PATH), and pass the path."
        )
    return Path(checkpoint)


def field_value(about: Field[Any], value: Any) -> Any:
    """Return the value of a Python caller as the field ``about`` has it.

    Paths may be strings, sequences lists or arrays, one number or one name stands for a sequence of one, and a text is
    read as on the command line. Raises ExportError for any other type, and for a value that the option does not have.
    """
    option: Option | None = about.metadata.get("option")
    if option is None:
        owner: Any = about.default_factory
        if isinstance(owner, type) and not isinstance(value, owner):
            raise ExportError(
                f"export(): {about.name}: expected {owner.__name__}, got {type(value).__name__}. Correct it, or pass "
                "its fields by name."
            )
        return value
    try:
        value = _convert(option, about.type, value)
    except ValueError as error:  # msgspec's are as well
        raise ExportError(f"export(): {about.name}: {_reason(error)}. Correct it.") from None
    choices = choices_of(option)
    if choices and str(value) not in choices:
        raise ExportError(
            f"export(): {about.name}: expected one of {', '.join(choices)}, got '{value}'. Pass one of these."
        )
    if option.minimum is not None and value < option.minimum:
        raise ExportError(f"export(): {about.name}: expected {option.minimum:g} or more, got {value:g}. Correct it.")
    return value


def _convert(option: Option, field_type: Any, value: Any) -> Any:
    if option.kind is Path:
        names = isinstance(value, list | tuple) and tuple[str, ...] in get_args(field_type)
        return msgspec.convert(value, tuple[str, ...]) if names else _path(value)
    if option.kind is str and option.read is not None and isinstance(value, str):
        return option.read(value)
    if hasattr(value, "tolist"):
        value = value.tolist()
    if (option.kind in (list[str], list[Path]) and isinstance(value, str | PathLike)) or (
        option.read is read_numbers and isinstance(value, int | float)
    ):
        value = (value,)
    if option.kind == list[Path] and isinstance(value, Sequence):
        return tuple(map(_path, value))
    try:
        return msgspec.convert(value, field_type)
    except TypeError:  # the type of the field is not data alone, but a callable as well
        return tuple(value) if isinstance(value, list) else value


def _path(value: Any) -> Path:
    if not isinstance(value, str | PathLike):
        raise ValueError(f"expected a path, got {type(value).__name__}")
    return Path(value)


def _reason(error: ValueError) -> str:
    """Return why a value is wrong, with Python's words for the types that msgspec names as JSON does."""
    words = {"array": "list", "object": "dict"}

    def spell(types: re.Match[str]) -> str:
        names = [words.get(name, name) for name in types[1].split(" | ") if name != "null"]
        return " or ".join(names)

    text = re.sub(r"`([a-z |]+)`", spell, str(error)).replace(" - at `$", " at `")
    return text[:1].lower() + text[1:]


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
    return tuple(name.strip() for name in text.split(","))


def read_values(text: str) -> tuple[Value, ...]:
    """Return the names and units of ``NAME=UNIT,...``; units may be left out."""
    pairs = (part.partition("=") for part in text.split(","))
    return tuple(Value(name=name.strip(), unit=unit.strip()) for name, _, unit in pairs)


def read_colors(text: str) -> tuple[tuple[int, int, int], ...]:
    """Return the RGB colors that the text names, or the lines of the file that it names."""
    from PIL import ImageColor

    from runtime.inputs.encoding import text_lines  # 'export --help' does without numpy

    path = Path(text)
    try:
        names = text_lines(path) if path.is_file() else text.split(",")
        colors = [ImageColor.getcolor(name.strip(), "RGB") for name in names if name.strip()]
    except (ValueError, InputError) as error:
        raise ValueError(
            f"expected colors such as black or #ff8000 separated by commas, or a file with one per line: {error}"
        ) from None
    return tuple(colors)  # type: ignore[arg-type]  # three numbers, in this mode
