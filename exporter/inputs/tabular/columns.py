"""Profiles of the columns of a fitted transform: types, categories, and the spread of numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from exporter.inputs.tabular.encoding import is_missing
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


def profile_columns(transform: TabularTransform) -> tuple[Profile, ...]:
    """Return what the transform's parts know of each column that it uses, in their order."""
    transformer = transform.transformer
    if isinstance(transformer, ColumnStatistics):
        return tuple(
            Profile(name=name, dtype="float64", center=offset, spread=abs(scale))
            for name, offset, scale in zip(transformer.columns, transformer.offset, transformer.scale, strict=True)
        )
    facts = _ColumnFacts()
    for leaf, columns in _leaves(transformer, list(range(len(transform.names)))):
        facts.add(leaf, columns)
    by_name = hasattr(transformer, "feature_names_in_")
    return tuple(
        facts.profile(column, name)
        for column, name in enumerate(transform.names)
        if not by_name or column in facts.seen  # scikit-learn does not ask for columns that it drops by name either
    )


@dataclass(kw_only=True)
class _ColumnFacts:
    """What the parts of a transform that were looked at know of the columns, by index.

    ``strict`` are columns whose unknown categories the transform refuses; ``spreads`` the middle and deviation.
    """

    seen: set[int] = field(default_factory=set)
    strings: set[int] = field(default_factory=set)
    strict: set[int] = field(default_factory=set)
    categories: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    spreads: dict[int, tuple[float, float]] = field(default_factory=dict)

    def add(self, leaf: Any, columns: Sequence[int]) -> None:
        """Add what one innermost part knows of its columns."""
        self.seen |= set(columns)
        for position, column in enumerate(columns):
            if hasattr(leaf, "categories_") and len(leaf.categories_) == len(columns):
                self._add_categories(leaf, position, column)
            elif getattr(leaf, "statistics_", None) is not None and isinstance(leaf.statistics_[position], str):
                self.strings.add(column)
            elif (spread := _spread(leaf, position, len(columns))) is not None:
                if hasattr(leaf, "statistics_"):
                    self.spreads.setdefault(column, spread)
                else:  # a scaler knows more than an imputer
                    self.spreads[column] = spread

    def profile(self, column: int, name: str) -> Profile:
        """Return the profile of a column."""
        categories = self.categories.get(column, ())
        integers = bool(categories) and all(isinstance(value, int) for value in categories)
        center, spread = self.spreads.get(column, (0.0, 1.0))
        return Profile(
            name=name,
            dtype="string" if column in self.strings else "int64" if integers else "float64",
            categories=categories,
            strict=column in self.strict,
            center=center,
            spread=spread,
        )

    def _add_categories(self, leaf: Any, position: int, column: int) -> None:
        values = tuple(value for value in leaf.categories_[position].tolist() if not is_missing(value))
        self.categories.setdefault(column, values)
        if any(isinstance(value, str) for value in values):
            self.strings.add(column)
        if getattr(leaf, "handle_unknown", "error") == "error":
            self.strict.add(column)


def _leaves(part: Any, columns: Sequence[int]) -> Iterator[tuple[Any, Sequence[int]]]:
    """Give the transform's innermost parts with the columns that each sees, in the order of execution."""
    if hasattr(part, "transformers_"):  # ColumnTransformer
        for name, inner, _ in part.transformers_:
            # Names, numbers, slices, masks and callables: scikit-learn resolves them all, and keeps the result here.
            positions = part._transformer_to_input_indices.get(name, [])
            if not isinstance(inner, str):
                yield from _leaves(inner, [columns[position] for position in positions])
    elif hasattr(part, "steps"):  # Pipeline
        yield from _leaves_of_pipeline(part, columns)
    elif hasattr(part, "transformer_list"):  # FeatureUnion
        for _, inner in part.transformer_list:
            if not isinstance(inner, str):
                yield from _leaves(inner, columns)
    else:
        yield part, columns


def _leaves_of_pipeline(pipeline: Any, columns: Sequence[int]) -> Iterator[tuple[Any, Sequence[int]]]:
    """Give the innermost parts of a Pipeline's steps, as long as these see the columns themselves."""
    for _, inner in pipeline.steps:
        if inner is None or isinstance(inner, str):
            continue
        if getattr(inner, "n_features_in_", len(columns)) != len(columns):
            return  # an earlier step made other columns of these
        yield from _leaves(inner, columns)
        if not _keeps_columns(inner, len(columns)):
            return


def _keeps_columns(part: Any, count: int) -> bool:
    """Return whether a step gives its columns one by one, so that those after it are the same ones."""
    return (
        not hasattr(part, "transformers_")
        and not hasattr(part, "categories_")
        and (getattr(part, "n_features_in_", count) == count)
    )


def _spread(leaf: Any, position: int, count: int) -> tuple[float, float] | None:
    """Return the middle and the deviation of a number column, as a scaler has fitted them."""

    def value(name: str) -> float | None:
        numbers = getattr(leaf, name, None)
        return float(numbers[position]) if numbers is not None and np.shape(numbers) == (count,) else None

    if (low := value("data_min_")) is not None and (high := value("data_max_")) is not None:
        return (low + high) / 2, (high - low) * _HALF_WIDTH or 1.0
    if (curve := _curve(leaf, position, count)) is not None:
        return float(curve[len(curve) // 2]), float(curve[-1] - curve[0]) * _HALF_WIDTH or 1.0
    if hasattr(leaf, "lambdas_") and len(leaf.lambdas_) == count and leaf.standardize:
        # Where the transformed values have their middle, and one deviation above it.
        middle, above = leaf.inverse_transform(np.array([[0.0], [1.0]]) * np.ones(count))[:, position]
        return float(middle), float(above - middle) if np.isfinite(above) else 1.0
    middle = value("mean_") if value("mean_") is not None else value("center_")
    if middle is None and value("statistics_") is not None:
        middle = value("statistics_")
        return None if middle is None or np.isnan(middle) else (middle, abs(middle) or 1.0)
    size = value("scale_") or value("max_abs_")
    if middle is None and size is None:
        return None
    return middle or 0.0, size or 1.0


def _curve(leaf: Any, position: int, count: int) -> Any:
    """Return the quantiles, edges of bins or knots of a column, in their order, where a step has such."""
    if getattr(leaf, "quantiles_", None) is not None:
        return leaf.quantiles_[:, position]
    if getattr(leaf, "bin_edges_", None) is not None:
        return leaf.bin_edges_[position]
    splines = getattr(leaf, "bsplines_", None)
    return splines[position].t[leaf.degree : -leaf.degree] if splines is not None and len(splines) == count else None
