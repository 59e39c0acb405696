"""What a fitted transform knows of its columns: which are strings, which categories, and how numbers are spread."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from exporter.inputs.tabular.estimator import ColumnStatistics, TabularTransform

# How far random rows are from the middle, in deviations: a uniform distribution of the same width.
_HALF_WIDTH = 12**-0.5


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One column: its type, the categories of strings or whole numbers, and the middle and spread of numbers.

    ``strict`` says that the transform refuses other categories.
    """

    name: str
    dtype: str
    categories: tuple[Any, ...] = ()
    strict: bool = False
    center: float = 0.0
    spread: float = 1.0


def profile_columns(reading: TabularTransform) -> tuple[Profile, ...]:
    """Return what the transform's parts tell about each column that it uses, in their order."""
    transformer = reading.transformer
    if isinstance(transformer, ColumnStatistics):
        return tuple(
            Profile(name=name, dtype="float64", center=offset, spread=abs(scale))
            for name, offset, scale in zip(transformer.columns, transformer.offset, transformer.scale, strict=True)
        )
    categories: dict[int, tuple[Any, ...]] = {}
    strict: set[int] = set()
    spreads: dict[int, tuple[float, float]] = {}
    strings: set[int] = set()
    seen: set[int] = set()
    for leaf, columns in _leaves(transformer, list(range(len(reading.names)))):
        seen |= set(columns)
        for place, column in enumerate(columns):
            if hasattr(leaf, "categories_") and len(leaf.categories_) == len(columns):
                found = leaf.categories_[place]
                values = tuple(value for value in found.tolist() if not _is_missing(value))
                categories.setdefault(column, values)
                if any(isinstance(value, str) for value in values):
                    strings.add(column)
                if getattr(leaf, "handle_unknown", "error") == "error":
                    strict.add(column)
            elif getattr(leaf, "statistics_", None) is not None and isinstance(leaf.statistics_[place], str):
                strings.add(column)
            elif (spread := _spread(leaf, place, len(columns))) is not None:
                if hasattr(leaf, "statistics_"):
                    spreads.setdefault(column, spread)
                else:  # a scaler knows more than what fills in empty cells
                    spreads[column] = spread
    profiles = []
    for column, name in enumerate(reading.names):
        if hasattr(transformer, "feature_names_in_") and column not in seen:
            continue  # dropped by name: scikit-learn does not ask for it either
        whole = bool(categories.get(column)) and all(isinstance(value, int) for value in categories[column])
        dtype = "string" if column in strings else "int64" if whole else "float64"
        center, width = spreads.get(column, (0.0, 1.0))
        profiles.append(
            Profile(
                name=name,
                dtype=dtype,
                categories=categories.get(column, ()),
                strict=column in strict,
                center=center,
                spread=width,
            )
        )
    return tuple(profiles)


def _leaves(part: Any, columns: Sequence[int]) -> Iterator[tuple[Any, Sequence[int]]]:
    """Give the transform's innermost parts with the columns that each sees, in the order of execution."""
    if hasattr(part, "transformers_"):  # ColumnTransformer
        for name, inner, _ in part.transformers_:
            # Names, numbers, slices, masks and callables: scikit-learn resolves them all, and keeps the result here.
            places = part._transformer_to_input_indices.get(name, [])
            if not isinstance(inner, str):
                yield from _leaves(inner, [columns[place] for place in places])
    elif hasattr(part, "steps"):  # Pipeline
        for _, inner in part.steps:
            if inner is None or isinstance(inner, str):
                continue
            if getattr(inner, "n_features_in_", len(columns)) != len(columns):
                return  # an earlier step made other columns of these
            yield from _leaves(inner, columns)
            if not _keeps_columns(inner, len(columns)):
                return
    elif hasattr(part, "transformer_list"):  # FeatureUnion
        for _, inner in part.transformer_list:
            if not isinstance(inner, str):
                yield from _leaves(inner, columns)
    else:
        yield part, columns


def _keeps_columns(part: Any, count: int) -> bool:
    """Return whether a step gives its columns one by one, so that those after it are the same ones."""
    return (
        not hasattr(part, "transformers_")
        and not hasattr(part, "categories_")
        and (getattr(part, "n_features_in_", count) == count)
    )


def _spread(leaf: Any, place: int, count: int) -> tuple[float, float] | None:
    """Return the middle and the deviation of a number column, as a scaler has fitted them."""

    def value(name: str) -> float | None:
        numbers = getattr(leaf, name, None)
        return float(numbers[place]) if numbers is not None and np.shape(numbers) == (count,) else None

    if (low := value("data_min_")) is not None and (high := value("data_max_")) is not None:
        return (low + high) / 2, (high - low) * _HALF_WIDTH or 1.0
    if (curve := _curve(leaf, place, count)) is not None:
        return float(curve[len(curve) // 2]), float(curve[-1] - curve[0]) * _HALF_WIDTH or 1.0
    if hasattr(leaf, "lambdas_") and len(leaf.lambdas_) == count and leaf.standardize:
        # Where the transformed values have their middle, and one deviation beside it.
        middle, beside = leaf.inverse_transform(np.array([[0.0], [1.0]]) * np.ones(count))[:, place]
        return float(middle), float(beside - middle) if np.isfinite(beside) else 1.0
    middle = value("mean_") if value("mean_") is not None else value("center_")
    if middle is None and value("statistics_") is not None:
        middle = value("statistics_")
        return None if middle is None or np.isnan(middle) else (middle, abs(middle) or 1.0)
    size = value("scale_") or value("max_abs_")
    if middle is None and size is None:
        return None
    return middle or 0.0, size or 1.0


def _curve(leaf: Any, place: int, count: int) -> Any:
    """Return the quantiles, edges of bins or knots of a column, in their order, where a step has such."""
    if getattr(leaf, "quantiles_", None) is not None:
        return leaf.quantiles_[:, place]
    if getattr(leaf, "bin_edges_", None) is not None:
        return leaf.bin_edges_[place]
    splines = getattr(leaf, "bsplines_", None)
    return splines[place].t[leaf.degree : -leaf.degree] if splines is not None and len(splines) == count else None


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))
