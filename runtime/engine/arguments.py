"""Types of the arguments of Python callers, checked where they come in."""

from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from typing import Any

from runtime.errors import InputError

_TEXTS = ("precision", "device", "plan")
_NUMBERS = ("workers", "threads", "batch", "max_pixels")

# Numbers that may be left out.
_OPTIONAL = ("workers", "threads", "batch")


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise InputError for a setting of a model that is of another type, or no positive number."""
    for name in _TEXTS:
        value = settings[name]
        if not isinstance(value, str):
            raise InputError(f"{name}: expected text, got {type(value).__name__}. Pass a str, such as str(...).")
    for name in _NUMBERS:
        if settings[name] is not None or name not in _OPTIONAL:
            check_number(name, settings[name])


def check_number(name: str, value: Any, *, least: float = 1) -> None:
    """Raise InputError unless ``value`` is a number of at least ``least``."""
    check_is_number(name, value)
    if not value >= least:  # NaN is not, either
        raise InputError(f"{name}: expected at least {least}, got {value}. Use {least} or more.")


def check_is_number(name: str, value: object) -> None:
    """Raise InputError unless ``value`` is a number, of Python or of numpy."""
    if not isinstance(value, Real):
        raise InputError(f"{name}: expected a number, got {type(value).__name__}. Pass an int or a float.")


def check_arrays(arrays: object) -> None:
    """Raise InputError unless ``arrays`` are arrays by name."""
    if not isinstance(arrays, Mapping):
        raise InputError(
            f"inputs: expected arrays by name, got {type(arrays).__name__}. Pass a dictionary of the graph's names."
        )
    for name, array in arrays.items():
        if not hasattr(array, "shape") or not hasattr(array, "dtype"):
            raise InputError(f"input '{name}': expected an array, got {type(array).__name__}. Pass numpy.asarray(...).")


def named_pairs(named: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yield pairs of a name and an input; raises InputError for anything else."""
    for pair in named:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(
                f"inputs: expected pairs of a name and an input, got {type(pair).__name__}. Pass (name, input), or "
                "a list of inputs to predict()."
            )
        yield pair[0], pair[1]
