"""Options of an input's parts: those of a single input, for each part by its name."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import Field
from typing import Any

from exporter.errors import ExportError
from exporter.options.rules import Option, flag_of
from exporter.options.values import field_value

FLAG = "--part"

# What a part is stated with, where the option is not named: its transform.
_TRANSFORM = "preprocess"

# Other names of options, as the command line and Python have them.
_ALIASES = {"input": "inputs", "transform": _TRANSFORM}

_SWITCHES = {"true": True, "false": False}


def read_parts(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the options of each part of ``NAME.OPTION=VALUE`` texts, of which ``NAME=VALUE`` is the transform's."""
    parts: dict[str, dict[str, str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        name, dot, option = key.partition(".")
        if not equals or not name.isidentifier() or not value or (dot and not option):
            raise ValueError(f"expected NAME=TRANSFORM or NAME.OPTION=VALUE, got '{text}'")
        own = parts.setdefault(name, {})
        option = option or _TRANSFORM
        if option in own:
            raise ValueError(f"'{key}' twice: expected each option of a part once")
        own[option] = value
    return parts


def is_option_of_part(about: Field[Any]) -> bool:
    """Return whether a field is an option that states one input, so that each part may have it."""
    return "option" in about.metadata and is_of_part(about.name, about.metadata["option"])


def is_of_part(name: str, option: Option) -> bool:
    """Return whether an option states one input."""
    return name == "samples" or (bool(option.input_kinds) and name != "thorough")


def check_parts(given: Collection[str], options: Mapping[str, Option]) -> None:
    """Raise ExportError for options of a single input or of a variant beside parts.

    ``given`` are the names of the fields that the user set, ``options`` all fields that are options.
    """
    for name in given:
        flag = flag_of(name, options[name])
        if is_of_part(name, options[name]):
            raise ExportError(
                f"{flag}: states a single input, and this one has parts. Write it as {FLAG} "
                f"NAME.{flag.removeprefix('--')}=VALUE."
            )
        if name == "precision":
            raise ExportError(f"{flag}: no variant is made of a network whose input has parts. Leave it out.")


def check_several(parts: Collection[str]) -> None:
    """Raise ExportError for one part alone, which is no input of several."""
    if len(parts) == 1:
        name = next(iter(parts))
        raise ExportError(
            f"{FLAG}: '{name}' alone: expected two parts or more. Name the others, or write its options without "
            f"{FLAG} {name}."
        )


def values_of_part(name: str, given: Any, abouts: Mapping[str, Field[Any]]) -> dict[str, Any]:
    """Return the values of a part's options by field; ``given`` are they, or the transform alone.

    ``abouts`` are the fields that ``is_option_of_part`` names. Raises ExportError for an unknown option or a wrong
    value.
    """
    if not name.isidentifier():
        raise ExportError(
            f"{FLAG}: '{name}': not the name of a part: expected that of a forward's parameter. Rename it."
        )
    options = given if isinstance(given, Mapping) else {_TRANSFORM: given}
    values: dict[str, Any] = {}
    for key, value in options.items():
        field = str(key).replace("-", "_")
        field = _ALIASES.get(field, field)
        if field not in abouts:
            raise ExportError(
                f"{FLAG} {name}.{key}: no option of an input: expected one of "
                f"{', '.join(flag_of(option, abouts[option].metadata['option'])[2:] for option in abouts)}. Correct it."
            )
        about = abouts[field]
        try:
            values[field] = field_value(about, _described(name, _read(about.metadata["option"], value), field))
        except (ExportError, ValueError) as error:
            reason = str(error).removeprefix(f"export(): {field}: ")
            raise ExportError(f"{FLAG} {name}.{key}: {reason}") from None
    return values


def _described(name: str, value: Any, field: str) -> Any:
    """Return the description of an array, which has the part's name."""
    if field != "inputs" or not isinstance(value, str):
        return value
    own, equals, _ = value.partition("=")
    if equals and own.strip() != name:
        raise ValueError(f"expected the name '{name}' or none, got '{own}'. Correct it.")
    return value if equals else f"{name}={value}"


def _read(option: Option, value: Any) -> Any:
    """Return the value of a switch or a number that the command line has as text."""
    if not isinstance(value, str):
        return value
    if option.kind is bool:
        if value not in _SWITCHES:
            raise ValueError(f"expected true or false, got '{value}'. Correct it.")
        return _SWITCHES[value]
    if option.kind is int:
        if not value.isdecimal():
            raise ValueError(f"expected a whole number, got '{value}'. Correct it.")
        return int(value)
    return value
