"""Outputs of a batch: split into entries, and joined again."""

import numpy as np
import pytest

from runtime.errors import InputError
from runtime.manifest import Items, Raw, Regress, TensorLeaf, Value
from runtime.outputs.registry import open_interpreter

RAW = Raw(structure=Items(items=(TensorLeaf(output="x"), TensorLeaf(output="shared"))))
ONE = Regress(values=(Value(name="price"),))


@pytest.mark.parametrize(
    ("task", "outputs", "batched"),
    [
        (RAW, {"x": np.arange(6.0).reshape(3, 2), "shared": np.arange(4.0)}, {"x"}),
        (ONE, {"values": np.arange(6.0).reshape(3, 2)}, {"values"}),
    ],
)
def test_join_is_the_inverse_of_split(task, outputs, batched):
    interpreter = open_interpreter(task)

    entries = interpreter.split(outputs, batched=frozenset(batched), count=3)
    joined = interpreter.join(entries, names=list(outputs), batched=frozenset(batched))

    assert joined.keys() == outputs.keys()
    for name, array in outputs.items():
        np.testing.assert_array_equal(joined[name], array)


@pytest.mark.parametrize(
    ("task", "entries"),
    [(RAW, [{"x": np.zeros(1)}, {"x": np.zeros(2)}]), (ONE, [np.zeros(1), np.zeros(2)])],
)
def test_rows_of_other_shapes_are_an_error_of_the_request(task, entries):
    with pytest.raises(InputError, match="output 'x': rows differ in shape"):
        open_interpreter(task).join(entries, names=["x"], batched=frozenset({"x"}))
