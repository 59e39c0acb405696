"""A list of ONNX nodes under construction."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


class Nodes:
    """Nodes and constants that belong together; every name starts with ``prefix``, so two lists never collide."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append a node with one output and return that output's name; an input ``""`` is left out."""
        name = output or f"{self.prefix}/{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def integers(self, *values: int) -> str:
        """Return the name of an int64 constant, [number of values]."""
        name = f"{self.prefix}/" + "_".join(str(value) for value in values)
        return self._constant(name, np.array(values, dtype=np.int64))

    def floats(self, values: Sequence[float], *, shape: Sequence[int], name: str) -> str:
        """Return the name of a float32 constant of ``shape``."""
        return self._constant(f"{self.prefix}/{name}", np.array(values, dtype=np.float32).reshape(shape))

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants[name] = numpy_helper.from_array(value, name)
        return name
