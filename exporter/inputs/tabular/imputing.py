"""Converters of imputers: replacements of empty cells, in the column's own type."""

from typing import Any

import numpy as np

from exporter.inputs.tabular.encoding import is_missing
from exporter.inputs.tabular.skl2onnx_nodes import SklearnNodeBuilder


def calculate_shape(operator: Any) -> None:
    """Declare as many columns as an imputer takes, less those without any value, plus its indicators."""
    from skl2onnx.common import data_types

    step = operator.raw_operator
    kept = sum(not is_missing(value) for value in step.statistics_)
    width = kept + (len(step.indicator_.features_) if step.add_indicator else 0)
    text = isinstance(operator.inputs[0].type, data_types.StringTensorType)
    operator.outputs[0].type = (data_types.StringTensorType if text else data_types.DoubleTensorType)([None, width])


def fill_in(writer: SklearnNodeBuilder) -> None:
    """Write an imputer as a comparison and Where, and its indicators as 0 and 1 behind them."""
    step = writer.step
    kept = [index for index, value in enumerate(step.statistics_) if not is_missing(value)]
    filling = [step.statistics_[index] for index in kept]
    text = any(kind.startswith("String") for _, kind in writer.inputs)
    if text and (step.add_indicator or len({kind for _, kind in writer.inputs}) > 1):
        raise ValueError("text is supported without add_indicator, and beside other text alone")
    values = writer.joined() if text else writer.numbers()
    missing = _missing(writer, values, step.missing_values, text=text)
    constant = writer.texts([list(map(str, filling))]) if text else writer.constant([list(map(float, filling))])
    filled = writer.add("Where", writer.columns(missing, kept), constant, writer.columns(values, kept))
    if step.add_indicator:
        indicators = writer.as_number(writer.columns(missing, step.indicator_.features_.tolist()))
        writer.finish(filled, indicators)
    else:
        writer.finish(filled)


def indicate(writer: SklearnNodeBuilder) -> None:
    """Write a MissingIndicator of numbers: 1 where a cell is empty."""
    step = writer.step
    missing = _missing(writer, writer.numbers(), step.missing_values, text=False)
    writer.finish(writer.as_number(writer.columns(missing, step.features_.tolist())))


def _missing(writer: SklearnNodeBuilder, values: str, marker: Any, *, text: bool) -> str:
    """Return which cells are empty, bool [batch, columns]: NaN, an empty string, or the number that stands for it."""
    if text:
        # The graph gets an empty string for whatever pandas has in an empty cell.
        if not (is_missing(marker) or marker == ""):
            raise ValueError(f"missing_values={marker!r} of text is not supported: expected empty cells")
        return writer.add("Equal", values, writer.texts([[""]]))
    if is_missing(marker):
        return writer.add("IsNaN", values)
    if isinstance(marker, int | float | np.number):
        return writer.add("Equal", values, writer.constant(float(marker)))
    raise ValueError(f"missing_values={marker!r} of numbers is not supported: expected NaN or a number")
