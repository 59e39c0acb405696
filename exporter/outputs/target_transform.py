"""Reader of a target transform: the steps that invert it."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.checkpoint.sklearn_files import load_estimator
from exporter.errors import PreprocessingError
from exporter.options.target import TARGET_FUNCTIONS
from exporter.options.task import TaskOptions
from exporter.outputs.target_inverse import apply_inverse
from runtime.manifest import Affine, InverseFunction, InverseFunctionName, InverseStep

# Functions of numpy, as the inverse function of a FunctionTransformer; arrays of any size.
_INVERSES: dict[Any, InverseFunctionName] = {np.exp: "exp", np.expm1: "expm1", np.square: "square"}

# Values that a network may give: around zero, as of a standardized target, and as large as logarithms are.
_PROBES = (0.0, 1.0, -1.0, 0.3, -0.4, 2.5, -2.2, 7.0, 12.0)


def read_target(target: str | Path | Any, *, trust: bool) -> tuple[InverseStep, ...]:
    """Return the steps that invert a target's transform, proven against its own ``inverse_transform``.

    ``target`` is a name of ``TARGET_FUNCTIONS``, a fitted scikit-learn transform, or a file with one: any whose inverse
    is affine in each value, a PowerTransformer, a FunctionTransformer with an inverse of numpy, or a Pipeline of these.
    Raises PreprocessingError for others.
    """
    if isinstance(target, str | Path) and str(target) in TARGET_FUNCTIONS:
        return (InverseFunction(function=TARGET_FUNCTIONS[str(target)]),)
    transformer = load_estimator(Path(target), trust=trust) if isinstance(target, str | Path) else target
    name = f"'{target}'" if isinstance(target, str | Path) else type(transformer).__name__
    count = getattr(transformer, "n_features_in_", 1)
    grid = np.array(_PROBES)[:, np.newaxis].repeat(count, axis=1)
    expected = _invert(transformer, grid, name)
    steps = _read(transformer, count, name)
    with np.errstate(all="ignore"):
        equal = np.allclose(apply_inverse(steps, grid), expected, rtol=1e-9, atol=1e-12, equal_nan=True)
    if not equal:
        raise PreprocessingError(
            f"{name}: its inverse cannot be reproduced: expected the numbers of its own inverse_transform, got others "
            f"for {type(transformer).__name__}. Apply it after the model, or train on a scaled target."
        )
    return steps


def read_target_option(options: TaskOptions, *, trust: bool) -> TaskOptions:
    """Return the options with their target transform read into the steps that undo it."""
    target = options.target_transform
    if target is None or isinstance(target, tuple):
        return options
    return replace(options, target_transform=read_target(target, trust=trust))


def _read(transformer: Any, count: int, name: str) -> tuple[InverseStep, ...]:
    """Return the steps that undo a transform, the last of a Pipeline first."""
    kind = type(transformer).__name__
    if hasattr(transformer, "steps"):
        inner = [part for _, part in reversed(transformer.steps) if part is not None and part != "passthrough"]
        return tuple(step for part in inner for step in _read(part, count, name))
    if kind == "PowerTransformer":
        curve = InverseFunction(function=transformer.method, lambdas=tuple(map(float, transformer.lambdas_)))
        return (*(_read(transformer._scaler, count, name) if transformer.standardize else ()), curve)
    if kind == "FunctionTransformer":
        if transformer.inverse_func in _INVERSES and not transformer.inv_kw_args:
            return (InverseFunction(function=_INVERSES[transformer.inverse_func]),)
        raise PreprocessingError(
            f"{name}: its inverse is Python: expected a FunctionTransformer with inverse_func of "
            f"{', '.join(f'numpy.{function.__name__}' for function in _INVERSES)}, got {transformer.inverse_func}. "
            "Use one of these where it is fitted, or apply it after the model."
        )
    return (_read_line(transformer, count, name),)


def _read_line(transformer: Any, count: int, name: str) -> Affine:
    """Return the affine step that the inverse of a scaler is, measured by calling it."""
    grid = np.array(_PROBES)[:, np.newaxis].repeat(count, axis=1)
    targets = _invert(transformer, grid, name)
    offset, scale = targets[0], targets[1] - targets[0]
    if not np.allclose(targets, offset + grid * scale, rtol=1e-9, atol=1e-12):
        raise PreprocessingError(
            f"{name}: its inverse is neither affine nor a power: expected a scaler, a PowerTransformer, a "
            f"FunctionTransformer of numpy, or a Pipeline of these, got {type(transformer).__name__}. Apply it after "
            "the model, or train on a target that is scaled otherwise."
        )
    return Affine(scale=_numbers(scale), offset=_numbers(offset))


def _invert(transformer: Any, grid: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # a power of a negative number is NaN, here as there
            return np.asarray(transformer.inverse_transform(grid.copy()), dtype=np.float64)
    except Exception as error:  # an object of any class
        raise PreprocessingError(
            f"{name}: not a target transform: its inverse_transform failed: {error}. Give the fitted transform."
        ) from error


def _numbers(values: Sequence[Any] | NDArray[Any]) -> tuple[float, ...]:
    return tuple(map(float, values))
