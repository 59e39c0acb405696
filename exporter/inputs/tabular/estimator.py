"""Fitted transforms of table rows: scikit-learn estimators, or statistics from JSON."""

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.checkpoint.sklearn_files import PICKLES, SKOPS, check_scikit_learn, load_estimator
from exporter.errors import PreprocessingError
from exporter.object_path import is_reference, load_object
from runtime.errors import InputError
from runtime.inputs.encoding import decode_text

_STATISTICS = (".json",)

# The file name of a Hugging Face image processor, which is no table's.
_IMAGE_PROCESSOR = "preprocessor_config.json"

_PAIRS = (("mean", "std"), ("min", "max"))


@dataclass(frozen=True, kw_only=True)
class ColumnStatistics:
    """``(value - offset) / scale`` for each column, in float64: what many training scripts keep in a JSON file."""

    columns: tuple[str, ...]
    offset: tuple[float, ...]
    scale: tuple[float, ...]

    def transform(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the features for values [rows, columns]."""
        scaled: NDArray[np.float64] = (values - np.array(self.offset)) / np.array(self.scale)
        return scaled


@dataclass(frozen=True, kw_only=True)
class TabularTransform:
    """A fitted transform: scikit-learn's own object, untouched, or statistics.

    ``names`` are the columns that it was fitted on, in order; rows may lack those that it drops by name.
    """

    transformer: Any
    names: tuple[str, ...]
    origin: str

    def transform(self, rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
        """Return what the network takes for rows, as the training script had it: float32 [rows, features].

        Numbers are float64 and strings objects until then, as pandas reads them. Raises whatever the transform raises
        for a row that it does not take.
        """
        columns = {name: _column([row[name] for row in rows]) for name in self.names if name in rows[0]}
        if hasattr(self.transformer, "feature_names_in_"):
            pandas = _pandas(self.origin)
            table: Any = pandas.DataFrame({name: pandas.Series(column) for name, column in columns.items()})
        elif all(column.dtype.kind != "O" for column in columns.values()):
            table = np.stack(list(columns.values()), axis=1)
        else:
            table = np.empty((len(rows), len(columns)), dtype=object)
            for position, column in enumerate(columns.values()):
                table[:, position] = column
        with warnings.catch_warnings():
            # About missing names, unknown categories, logarithms of zero: the features that come out are checked.
            warnings.simplefilter("ignore")
            features = self.transformer.transform(table)
        dense = features.toarray() if hasattr(features, "toarray") else features
        return np.asarray(dense).astype(np.float32)


def is_table_transform(preprocess: object) -> bool:
    """Return whether ``preprocess`` is, or names, a transform of columns rather than of images."""
    if isinstance(preprocess, str):
        path = Path(preprocess)
        return path.name != _IMAGE_PROCESSOR and path.suffix in (*SKOPS, *PICKLES, *_STATISTICS)
    return hasattr(preprocess, "transform") and hasattr(preprocess, "n_features_in_")


def read_table_transform(preprocess: object, *, columns: Sequence[str], trust: bool) -> TabularTransform:
    """Return the fitted transform that ``preprocess`` is, or names.

    ``columns`` name what was fitted without names. Raises PreprocessingError when there is no such file, it would run
    code and ``trust`` is false, or it is not fitted.
    """
    origin = preprocess if isinstance(preprocess, str) else type(preprocess).__name__
    transformer: Any = preprocess
    if isinstance(preprocess, str):
        if is_reference(preprocess):
            transformer = load_object(preprocess, error=PreprocessingError)
        else:
            transformer = _read_file(Path(preprocess), columns=columns, trust=trust)
    if isinstance(transformer, ColumnStatistics):
        return TabularTransform(transformer=transformer, names=transformer.columns, origin=origin)
    return TabularTransform(transformer=transformer, names=_names(transformer, columns, origin), origin=origin)


def _read_file(path: Path, *, columns: Sequence[str], trust: bool) -> Any:
    if path.suffix not in _STATISTICS:
        return load_estimator(path, trust=trust)
    try:
        content = json.loads(decode_text(path.read_bytes(), f"'{path}'"))
    except InputError as error:
        raise PreprocessingError(str(error)) from error
    except FileNotFoundError:
        raise PreprocessingError(f"'{path}': no such file: expected statistics as JSON. Check the path.") from None
    except (OSError, ValueError) as error:
        raise PreprocessingError(f"'{path}': not JSON: {error}. Save the statistics as JSON.") from error
    return statistics_from_json(content, str(path), columns=columns)


def statistics_from_json(content: object, origin: str, *, columns: Sequence[str] = ()) -> ColumnStatistics:
    """Return the statistics that JSON holds, in any of three forms.

    ``{"age": {"mean": 40, "std": 9}, ...}``, ``{"mean": {"age": 40, ...}, "std": {...}}``, and ``{"columns": ["age",
    ...], "mean": [40, ...], "std": [...]}``; ``min`` and ``max`` stand instead of ``mean`` and ``std`` where values
    were brought to 0 to 1. ``columns`` name what two lists alone do not. Raises PreprocessingError for anything else.
    """
    numbers_of = _by_column(content, columns)
    if not numbers_of:
        raise PreprocessingError(
            f"'{origin}': no statistics: expected {{column: {{'mean': number, 'std': number}}}}, or 'columns', 'mean' "
            "and 'std' as lists of one length, with the names in --columns instead, if need be. Write it so."
        )
    offset, scale = [], []
    for name, numbers in numbers_of.items():
        if not isinstance(numbers, Mapping) or not any(set(numbers) == set(pair) for pair in _PAIRS):
            got = sorted(map(str, numbers)) if isinstance(numbers, Mapping) else repr(numbers)
            raise PreprocessingError(
                f"'{origin}': column '{name}': expected 'mean' and 'std', or 'min' and 'max', got {got}. Correct it."
            )
        values = [numbers[key] for key in next(pair for pair in _PAIRS if set(numbers) == set(pair))]
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
            raise PreprocessingError(f"'{origin}': column '{name}': expected finite numbers, got {values}. Correct it.")
        divisor = values[1] if "std" in numbers else values[1] - values[0]
        if divisor == 0:
            raise PreprocessingError(
                f"'{origin}': column '{name}': does not vary, so it would be divided by zero. Give it 'std': 1."
            )
        offset.append(float(values[0]))
        scale.append(float(divisor))
    return ColumnStatistics(columns=tuple(numbers_of), offset=tuple(offset), scale=tuple(scale))


def _by_column(content: object, columns: Sequence[str]) -> dict[str, Any]:
    """Return each column's own statistics, by name."""
    if not isinstance(content, Mapping):
        return {}
    pair = next((pair for pair in _PAIRS if all(key in content for key in pair)), None)
    if pair is None:
        return {str(name): numbers for name, numbers in content.items()}
    names = content.get("columns", list(columns))
    lists = [content[key] for key in pair]
    if isinstance(names, list) and all(isinstance(values, list) and len(values) == len(names) for values in lists):
        return {str(name): dict(zip(pair, values, strict=True)) for name, *values in zip(names, *lists, strict=True)}
    if all(isinstance(values, Mapping) for values in lists) and len({tuple(values) for values in lists}) == 1:
        return {str(name): {key: content[key][name] for key in pair} for name in lists[0]}
    return {}


def _names(transformer: Any, columns: Sequence[str], origin: str) -> tuple[str, ...]:
    if isinstance(transformer, Mapping) and any(hasattr(part, "transform") for part in transformer.values()):
        kinds = ", ".join(dict.fromkeys(type(part).__name__ for part in transformer.values()))
        raise PreprocessingError(
            f"'{origin}': a dictionary of {kinds}: expected one fitted transform of whole rows. Join them in the order "
            "of the network's features, fit that on the training table, and save it: ColumnTransformer([('city', "
            "OrdinalEncoder(), ['city']), ...]), where OrdinalEncoder gives the numbers of a LabelEncoder."
        )
    if not hasattr(transformer, "transform") or not hasattr(transformer, "n_features_in_"):
        raise PreprocessingError(
            f"'{origin}': not a fitted transform: expected a fitted scikit-learn transformer, Pipeline or "
            f"ColumnTransformer, got {type(transformer).__module__}.{type(transformer).__name__}. Fit it, and save it "
            "again."
        )
    check_scikit_learn(origin)
    fitted = [str(name) for name in getattr(transformer, "feature_names_in_", ())]
    if fitted and columns and list(columns) != fitted:
        raise PreprocessingError(
            f"'{origin}': was fitted with other columns: expected {', '.join(fitted)}, got {', '.join(columns)}. "
            "Leave out --columns."
        )
    names = fitted or list(columns) or [f"x{position}" for position in range(transformer.n_features_in_)]
    if len(names) != transformer.n_features_in_ or len(set(names)) != len(names):
        raise PreprocessingError(
            f"'{origin}': wrong columns: expected {transformer.n_features_in_} different names, got "
            f"{', '.join(names)}. Correct --columns."
        )
    return tuple(names)


def _column(values: Sequence[Any]) -> NDArray[Any]:
    """Return a column as pandas would have it: numbers as int64 or float64, the rest as objects."""
    if any(isinstance(value, str) for value in values) or all(value is None for value in values):
        column = np.empty(len(values), dtype=object)
        column[:] = [np.nan if value is None else value for value in values]
        return column
    numbers = np.array([np.nan if value is None else value for value in values])
    return numbers if numbers.dtype.kind in "if" else numbers.astype(np.float64)


def _pandas(origin: str) -> Any:
    try:
        import pandas
    except ImportError:
        raise PreprocessingError(
            f"'{origin}': was fitted on a table with named columns, which needs pandas. Run: pip install "
            "'truecopy[tabular]'."
        ) from None
    return pandas
