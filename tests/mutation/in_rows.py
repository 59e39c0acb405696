"""Faults of rows."""

import math
from typing import Any

import numpy as np
import onnx
from mutation.planting import (
    Planting,
    change_constant,
    fault,
    insert_after,
    nodes_of,
    set_attribute,
)
from onnx import TensorProto, helper

from runtime.inputs.tabular import decoder as rows


def node_named(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    """Return one node by its name."""
    (node,) = [node for node in model.graph.node if node.name == name]
    return node


@fault("arithmetic", subject="row")
def columns_swapped(planting: Planting) -> None:
    """Two columns of numbers change places: a CSV with another order, read by position."""

    def change(model: onnx.ModelProto) -> None:
        node = node_named(model, "columns/Concat")
        salary, age, debt = node.input
        node.input[:] = [salary, debt, age]

    planting.assembled(change)


@fault("arithmetic", subject="row")
def features_in_another_order(planting: Planting) -> None:
    """The words' features come first, where training had them last."""

    def change(model: onnx.ModelProto) -> None:
        node = node_named(model, "columns/Concat1")
        node.input[:] = list(reversed(node.input))

    planting.assembled(change)


@fault("arithmetic", subject="row")
def empty_cells_as_zero(planting: Planting) -> None:
    """fillna(0) in the service, the mean in training."""
    planting.assembled(lambda model: change_constant(model, "columns/constant", np.zeros_like))


@fault("arithmetic", subject="row")
def empty_words_as_another(planting: Planting) -> None:
    """The most frequent word of today's table, not of training's."""
    planting.assembled(
        lambda model: change_constant(model, "columns/texts1", lambda _: np.array([["Bern"]], dtype=object))
    )


@fault("arithmetic", subject="row")
def numbers_in_float32(planting: Planting) -> None:
    """Salaries around a million with a deviation of 3 lose their digits before they are scaled."""

    def cast(given: str, wanted: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("Cast", [given], ["columns/short"], to=TensorProto.FLOAT),
            helper.make_node("Cast", ["columns/short"], [wanted], to=TensorProto.DOUBLE),
        ]

    planting.assembled(lambda model: insert_after(model, "columns/merged_columns", cast))


@fault("arithmetic", subject="row")
def deviation_of_the_sample(planting: Planting) -> None:
    """pandas' std() divides by n - 1, scikit-learn's scaler by n."""
    planting.assembled(
        lambda model: change_constant(model, "columns/Di_Divcst", lambda array: array * math.sqrt(200 / 199))
    )


@fault("arithmetic", subject="row")
def mean_not_subtracted(planting: Planting) -> None:
    """StandardScaler(with_mean=False) in the rewritten pipeline, for a column whose mean is not far from zero."""

    def change(array: Any) -> Any:
        array[1:] = 0.0
        return array

    planting.assembled(lambda model: change_constant(model, "columns/Su_Subcst", change))


@fault("arithmetic", subject="row")
def words_in_order_of_frequency(planting: Planting) -> None:
    """The one-hot columns of pandas' value_counts, not of scikit-learn's sorted categories."""
    planting.assembled(
        lambda model: set_attribute(nodes_of(model, "LabelEncoder")[0], "keys_strings", ["Oslo", "Rome", "Bern"])
    )


@fault("arithmetic", subject="row")
def unknown_word_as_the_first(planting: Planting) -> None:
    """A lookup's default of 0 makes every unknown city Bern; training ignored unknown ones."""
    planting.assembled(lambda model: set_attribute(nodes_of(model, "LabelEncoder")[0], "default_int64", 0))


@fault("decode", "arithmetic", "end to end", subject="row")
def words_in_lower_case(planting: Planting) -> None:
    """The service's input schema lower-cases strings, and no city is known any more."""
    read = rows.TabularDecoder._string

    def lowered(decoder: Any, column: Any, value: Any, subject: str) -> str:
        return read(decoder, column, value, subject).lower()

    planting.host(rows.TabularDecoder, "_string", lowered)


@fault("decode", "arithmetic", "end to end", subject="row")
def empty_cells_read_as_zero(planting: Planting) -> None:
    """The reader turns empty cells into 0 before the imputer sees them."""
    read = rows.TabularDecoder._value

    def zero(decoder: Any, column: Any, value: Any, subject: str) -> Any:
        found = read(decoder, column, value, subject)
        return 0.0 if isinstance(found, float) and math.isnan(found) else found

    planting.host(rows.TabularDecoder, "_value", zero)
