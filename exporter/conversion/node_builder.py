"""A list of ONNX nodes under construction, and what nodes read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


class NodeBuilder:
    """NodeBuilder and constants that belong together; every name starts with ``prefix``, so two lists never collide."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append a node with one output and return that output's name; an input ``""`` is left out."""
        name = output or f"{self.prefix}/{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def cast(self, value: str, kind: int) -> str:
        """Append a conversion to an ONNX element type."""
        return self.add("Cast", value, to=kind)

    def integer(self, value: int) -> str:
        """Return the name of an int64 scalar."""
        return self._constant(f"{self.prefix}/scalar_{value}", np.array(value, dtype=np.int64))

    def double(self, value: float) -> str:
        """Return the name of a float64 scalar."""
        return self._constant(f"{self.prefix}/double_{value!r}", np.array(value, dtype=np.float64))

    def doubles(self, values: Sequence[float], *, name: str) -> str:
        """Return the name of a float64 constant, [number of values]."""
        return self._constant(f"{self.prefix}/{name}", np.array(values, dtype=np.float64))

    def integers(self, *values: int) -> str:
        """Return the name of an int64 constant, [number of values]."""
        name = f"{self.prefix}/" + "_".join(str(value) for value in values)
        return self._constant(name, np.array(values, dtype=np.int64))

    def byte(self, value: int) -> str:
        """Return the name of a uint8 scalar."""
        return self._constant(f"{self.prefix}/byte_{value}", np.array(value, dtype=np.uint8))

    def int32s(self, values: Sequence[int], *, shape: Sequence[int], name: str) -> str:
        """Return the name of an int32 constant of ``shape``."""
        return self._constant(f"{self.prefix}/{name}", np.array(values, dtype=np.int32).reshape(shape))

    def floats(self, values: Sequence[float], *, shape: Sequence[int], name: str) -> str:
        """Return the name of a float32 constant of ``shape``."""
        return self._constant(f"{self.prefix}/{name}", np.array(values, dtype=np.float32).reshape(shape))

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Return the name of a constant of any type and shape."""
        return self._constant(f"{self.prefix}/{name}", value)

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants[name] = numpy_helper.from_array(value, name)
        return name


def outer_names(node: onnx.NodeProto) -> set[str]:
    """Return the names that a node's inner graphs take from outside."""
    names: set[str] = set()
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names |= set(inner.input) | outer_names(inner)
            names |= {value.name for value in graph.output}
    return names
