"""Options of a regression's target: transforms that have names, and what they go with."""

from collections.abc import Mapping
from typing import Any

from exporter.errors import ExportError
from runtime.manifest import InverseFunction, InverseFunctionName

# Transforms of a target by name, and what undoes them.
TARGET_FUNCTIONS: Mapping[str, InverseFunctionName] = {"log": "exp", "log1p": "expm1", "sqrt": "square"}


def is_named_target(transform: Any) -> bool:
    """Return whether a target's transform, or the steps that undo it, is one of those that have names."""
    if isinstance(transform, tuple):
        return all(
            isinstance(step, InverseFunction) and step.function in TARGET_FUNCTIONS.values() for step in transform
        )
    return str(transform) in TARGET_FUNCTIONS


def check_target(transform: Any, *, scaled: bool) -> None:
    """Raise ExportError for a fitted transform of a target that is also ``scaled`` by options."""
    if scaled and transform is not None and not is_named_target(transform):
        raise ExportError(
            "--target-transform: a fitted transform cannot be combined with --target-mean and --target-std. Leave "
            "out one or the other."
        )
