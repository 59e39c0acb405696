"""Builder of ONNX nodes inside skl2onnx: it names nodes and keeps their types in float64."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

_ML_DOMAIN = "ai.onnx.ml"


class SklearnNodeBuilder:
    """Nodes and constants of one fitted step.

    ``inputs`` are the names of its inputs, [batch, columns] each, and skl2onnx's names of their types; ``widths`` their
    numbers of columns.
    """

    def __init__(self, scope: Any, operator: Any, container: Any) -> None:
        self._scope = scope
        self._container = container
        self.step = operator.raw_operator
        self.inputs = tuple((value.full_name, type(value.type).__name__) for value in operator.inputs)
        self.widths = tuple(int(value.type.shape[1]) for value in operator.inputs)
        self.output: str = operator.outputs[0].full_name

    def numbers(self) -> str:
        """Return all inputs joined, float64 [batch, columns]."""
        parts = [
            name if kind.startswith("Double") else self.add("Cast", name, to=onnx.TensorProto.DOUBLE)
            for name, kind in self.inputs
        ]
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=1)

    def joined(self) -> str:
        """Return all inputs joined as they are, [batch, columns]."""
        names = [name for name, _ in self.inputs]
        return names[0] if len(names) == 1 else self.add("Concat", *names, axis=1)

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append a node with one output and return that output's name."""
        name = output or self._scope.get_unique_variable_name(operator.lower())
        domain = _ML_DOMAIN if operator == "LabelEncoder" else ""
        unique = self._scope.get_unique_operator_name(operator)
        self._container.add_node(operator, list(inputs), name, op_domain=domain, name=unique, **attributes)
        return name

    def constant(self, value: Any, dtype: type[Any] = np.float64) -> str:
        """Return the name of a constant."""
        array: NDArray[Any] = np.asarray(value, dtype=dtype)
        name: str = self._scope.get_unique_variable_name("constant")
        tensor = numpy_helper.from_array(array, name)
        self._container.add_initializer(name, tensor.data_type, list(array.shape), array.ravel().tolist())
        return name

    def texts(self, rows: Sequence[Sequence[str]]) -> str:
        """Return the name of a constant of strings, [rows, columns]."""
        name: str = self._scope.get_unique_variable_name("texts")
        shape = [len(rows), len(rows[0])]
        self._container.add_initializer(
            name, onnx.TensorProto.STRING, shape, [value.encode() for row in rows for value in row]
        )
        return name

    def calculate(self, formula: str, *operands: str | float) -> str:
        """Return an operator's result on tensors and float64 numbers."""
        return self.add(
            formula, *(operand if isinstance(operand, str) else self.constant(operand) for operand in operands)
        )

    def column(self, values: str, index: int) -> str:
        """Return one column of [batch, columns], [batch, 1]."""
        return self.add("Gather", values, self.constant([index], np.int64), axis=1)

    def columns(self, values: str, indices: Sequence[int]) -> str:
        """Return some columns of [batch, columns]."""
        return self.add("Gather", values, self.constant(list(indices), np.int64), axis=1)

    def as_number(self, truth: str) -> str:
        """Return bools as 0 and 1 in float64."""
        return self.add("Cast", truth, to=onnx.TensorProto.DOUBLE)

    def keep_missing(self, values: str, result: str) -> str:
        """Return ``result``, and NaN where ``values`` are NaN."""
        return self.add("Where", self.add("IsNaN", values), values, result)

    def finish(self, *parts: str) -> None:
        """Write the step's output: its parts, joined along the columns."""
        if len(parts) == 1:
            self.add("Identity", parts[0], output=self.output)
        else:
            self.add("Concat", *parts, output=self.output, axis=1)
