"""The scaling of a regression's target, undone after the network."""

from pathlib import Path
from typing import Any

import numpy as np

from exporter.errors import PreprocessingError
from exporter.preprocessing.tables.reading import load_estimator


def read_target(target: Path | Any, *, trust: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the deviation of a fitted target transform: what its inverse adds and multiplies with.

    ``target`` is a scikit-learn scaler or a file with one. It is asked rather than read: any transform whose inverse is
    a line a value is taken. Raises PreprocessingError for others.
    """
    transformer = load_estimator(target, trust=trust) if isinstance(target, Path) else target
    name = f"'{target}'" if isinstance(target, Path) else type(transformer).__name__
    count = getattr(transformer, "n_features_in_", 1)
    grid = np.array([0.0, 1.0, -1.0, 2.5, 100.0])[:, np.newaxis].repeat(count, axis=1)
    try:
        found = np.asarray(transformer.inverse_transform(grid), dtype=np.float64)
    except Exception as error:  # an object of any class
        raise PreprocessingError(
            f"{name}: not a target transform: its inverse_transform failed: {error}. Give the fitted scaler."
        ) from error
    offset, scale = found[0], found[1] - found[0]
    if not np.allclose(found, offset + grid * scale, rtol=1e-9, atol=1e-12):
        raise PreprocessingError(
            f"{name}: its inverse is not a line: expected y * scale + offset, got {type(transformer).__name__}. Apply "
            "it after the model, or train on a scaled target."
        )
    return tuple(map(float, offset)), tuple(map(float, scale))
