"""Converter of steps that look categories up: each value's features are what the fitted step itself makes of it."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from exporter.inputs.tabular.skl2onnx_nodes import SklearnNodeBuilder


def encode_categories(writer: SklearnNodeBuilder) -> None:
    """Write a one-hot or ordinal encoder: for each column a table with a row a category, and one for other values.

    Rare categories that it puts together, a first one that it drops, and its own way with unknown ones come out as in
    training, because the tables are filled by asking it.
    """
    parts = []
    for column, (value, is_text) in enumerate(_columns(writer)):
        categories = writer.step.categories_[column].tolist()
        position = _place_text(writer, value, categories) if is_text else _place_number(writer, value, categories)
        found = writer.add("Gather", writer.constant(_table(writer.step, column)), position, axis=0)
        # The position is [batch, 1]: what is gathered has a dimension more.
        parts.append(writer.add("Squeeze", found, writer.constant([1], np.int64)))
    writer.finish(*parts)


def is_missing(value: Any) -> bool:
    """Return whether a category stands for an empty cell."""
    return value is None or (isinstance(value, float) and np.isnan(value))


def _columns(writer: SklearnNodeBuilder) -> list[tuple[str, bool]]:
    """Return each column, [batch, 1], and whether it has strings."""
    return [
        (writer.column(name, place), kind.startswith("String"))
        for (name, kind), width in zip(writer.inputs, writer.widths, strict=True)
        for place in range(width)
    ]


def _place_text(writer: SklearnNodeBuilder, value: str, categories: Sequence[Any]) -> str:
    keys = ["" if is_missing(one) else str(one) for one in categories]
    return writer.add(
        "LabelEncoder",
        value,
        keys_strings=keys,
        values_int64s=list(range(len(keys))),
        default_int64=len(keys),
    )


def _place_number(writer: SklearnNodeBuilder, value: str, categories: Sequence[Any]) -> str:
    number = writer.as_number(value)
    same = writer.add("Equal", number, writer.constant([[np.nan if is_missing(one) else one for one in categories]]))
    if any(map(is_missing, categories)):
        empty = writer.constant([list(map(is_missing, categories))], np.bool_)
        same = writer.add("Or", same, writer.add("And", writer.add("IsNaN", number), empty))
    hits = writer.add("Cast", same, to=onnx.TensorProto.INT64)
    known = writer.add("ReduceMax", hits, writer.constant([1], np.int64), keepdims=1)
    known = writer.add("Cast", known, to=onnx.TensorProto.BOOL)
    place = writer.add("ArgMax", hits, axis=1, keepdims=1)
    return writer.add("Where", known, place, writer.constant(len(categories), np.int64))


def _table(step: Any, column: int) -> NDArray[np.float64]:
    """Return what the step makes of each category of a column, and in the last row of an unknown value."""
    counts = getattr(step, "_n_features_outs", [1] * len(step.categories_))
    features = slice(int(sum(counts[:column])), int(sum(counts[: column + 1])))
    categories = step.categories_[column].tolist()
    known = _transform(step, column, categories)[:, features]
    if step.handle_unknown == "error":  # the runtime refuses such a row before the graph sees it
        return np.concatenate([known, np.zeros((1, known.shape[1]))])
    return np.concatenate([known, _transform(step, column, [_unseen(categories)])[:, features]])


def _transform(step: Any, column: int, values: Sequence[Any]) -> NDArray[np.float64]:
    """Return what the step makes of ``values`` in one column, with known values in the others."""
    rows = np.empty((len(values), len(step.categories_)), dtype=object)
    for place, known in enumerate(step.categories_):
        rows[:, place] = values if place == column else [known.tolist()[0]] * len(values)
    numbers = all(known.dtype.kind in "biuf" for known in step.categories_)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that the rows have not, and of unknown values
        found = step.transform(rows.astype(np.float64) if numbers else rows)
    dense: NDArray[np.float64] = np.asarray(found.toarray() if hasattr(found, "toarray") else found, dtype=np.float64)
    return dense


def _unseen(categories: Sequence[Any]) -> Any:
    numbers = [one for one in categories if not isinstance(one, str) and not is_missing(one)]
    return max(numbers) + 1 if numbers else "".join(str(one) for one in categories) + "?"
