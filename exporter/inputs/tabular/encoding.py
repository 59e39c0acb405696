"""Converters of one-hot and ordinal encoders, by tables that the fitted step itself fills."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from exporter.inputs.tabular.skl2onnx_nodes import SklearnNodeBuilder


def encode_categories(writer: SklearnNodeBuilder) -> None:
    """Write a one-hot or ordinal encoder: for each column a table with one row per category, and one for other values.

    Rare categories that it puts together, a first one that it drops, and its own way with unknown ones come out as in
    training, because the fitted step fills the tables.
    """
    parts = []
    for column, (value, is_text) in enumerate(_columns(writer)):
        categories = writer.step.categories_[column].tolist()
        position = _text_position(writer, value, categories) if is_text else _number_position(writer, value, categories)
        features = writer.add("Gather", writer.constant(_table(writer.step, column)), position, axis=0)
        # The position is [batch, 1]: the gathered features have one more dimension.
        parts.append(writer.add("Squeeze", features, writer.constant([1], np.int64)))
    writer.finish(*parts)


def is_missing(value: Any) -> bool:
    """Return whether a category stands for an empty cell."""
    return value is None or (isinstance(value, float) and np.isnan(value))


def _columns(writer: SklearnNodeBuilder) -> list[tuple[str, bool]]:
    """Return each column, [batch, 1], and whether it has strings."""
    return [
        (writer.column(name, index), kind.startswith("String"))
        for (name, kind), width in zip(writer.inputs, writer.widths, strict=True)
        for index in range(width)
    ]


def _text_position(writer: SklearnNodeBuilder, value: str, categories: Sequence[Any]) -> str:
    keys = ["" if is_missing(category) else str(category) for category in categories]
    return writer.add(
        "LabelEncoder",
        value,
        keys_strings=keys,
        values_int64s=list(range(len(keys))),
        default_int64=len(keys),
    )


def _number_position(writer: SklearnNodeBuilder, value: str, categories: Sequence[Any]) -> str:
    number = writer.as_number(value)
    known_numbers = [[np.nan if is_missing(category) else category for category in categories]]
    same = writer.add("Equal", number, writer.constant(known_numbers))
    if any(map(is_missing, categories)):
        empty = writer.constant([list(map(is_missing, categories))], np.bool_)
        same = writer.add("Or", same, writer.add("And", writer.add("IsNaN", number), empty))
    hits = writer.add("Cast", same, to=onnx.TensorProto.INT64)
    known = writer.add("ReduceMax", hits, writer.constant([1], np.int64), keepdims=1)
    known = writer.add("Cast", known, to=onnx.TensorProto.BOOL)
    position = writer.add("ArgMax", hits, axis=1, keepdims=1)
    return writer.add("Where", known, position, writer.constant(len(categories), np.int64))


def _table(step: Any, column: int) -> NDArray[np.float64]:
    """Return the step's features for each category of a column, and in the last row for an unknown value."""
    counts = getattr(step, "_n_features_outs", [1] * len(step.categories_))
    features = slice(int(sum(counts[:column])), int(sum(counts[: column + 1])))
    categories = step.categories_[column].tolist()
    known = _transform(step, column, categories)[:, features]
    if step.handle_unknown == "error":  # the runtime refuses such a row before the graph sees it
        return np.concatenate([known, np.zeros((1, known.shape[1]))])
    return np.concatenate([known, _transform(step, column, [_unseen(categories)])[:, features]])


def _transform(step: Any, column: int, values: Sequence[Any]) -> NDArray[np.float64]:
    """Return the step's features for ``values`` in one column, with known values in the others."""
    rows = np.empty((len(values), len(step.categories_)), dtype=object)
    for index, known in enumerate(step.categories_):
        rows[:, index] = values if index == column else [known.tolist()[0]] * len(values)
    numbers = all(known.dtype.kind in "biuf" for known in step.categories_)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about names that the rows do not have, and about unknown values
        features = step.transform(rows.astype(np.float64) if numbers else rows)
    dense = features.toarray() if hasattr(features, "toarray") else features
    return np.asarray(dense, dtype=np.float64)


def _unseen(categories: Sequence[Any]) -> Any:
    numbers = [category for category in categories if not isinstance(category, str) and not is_missing(category)]
    return max(numbers) + 1 if numbers else "".join(map(str, categories)) + "?"
