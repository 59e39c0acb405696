"""ONNX node builder, with formulas over the values between nodes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


class NodeBuilder:
    """Nodes and constants of one part of a graph; every name starts with ``prefix``, so two parts never collide."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append a node with one output and return that output's name; an input ``""`` is left out."""
        name = output or f"{self.prefix}/{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def apply(self, operator: str, *operands: "Operand", output: str | None = None, **attributes: Any) -> "Value":
        """Append a node with one output and return that output as a value."""
        inputs = [self._name_of(operand) for operand in operands]
        return Value(self, self.add(operator, *inputs, output=output, **attributes))

    def value(self, name: str) -> "Value":
        """Return the value of this name: a graph input, a constant, a node's output, or one of an outer graph."""
        return Value(self, name)

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

    def _name_of(self, operand: "Operand") -> str:
        if isinstance(operand, Value):
            return operand.name
        if isinstance(operand, float):
            return self.double(operand)
        return self.integers(operand) if isinstance(operand, int) else operand

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        # A step that is there twice has two constants of one name.
        taken = self.constants.get(name)
        if taken is not None and not _holds(taken, value):
            return self._constant(f"{name}_again", value)
        self.constants[name] = numpy_helper.from_array(value, name)
        return name


def _holds(constant: onnx.TensorProto, value: NDArray[Any]) -> bool:
    held = numpy_helper.to_array(constant)
    return held.dtype == value.dtype and held.shape == value.shape and bool(np.array_equal(held, value))


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of a graph under construction; an operator applied to it appends the node to ``nodes``.

    The other operand is a value, the name of one, or a number: a Python float is a float64 scalar, a Python int an
    int64 tensor [1]. ``//`` truncates towards zero, as ONNX's ``Div`` of integers does.
    """

    nodes: NodeBuilder
    name: str

    def __add__(self, other: "Operand") -> "Value":
        return self.nodes.apply("Add", self, other)

    def __radd__(self, other: "Operand") -> "Value":
        return self.nodes.apply("Add", other, self)

    def __sub__(self, other: "Operand") -> "Value":
        return self.nodes.apply("Sub", self, other)

    def __rsub__(self, other: "Operand") -> "Value":
        return self.nodes.apply("Sub", other, self)

    def __mul__(self, other: "Operand") -> "Value":
        return self.nodes.apply("Mul", self, other)

    def __rmul__(self, other: "Operand") -> "Value":
        return self.nodes.apply("Mul", other, self)

    def __truediv__(self, other: "Operand") -> "Value":
        return self.nodes.apply("Div", self, other)

    def __floordiv__(self, other: "Operand") -> "Value":
        return self.nodes.apply("Div", self, other)

    def __mod__(self, other: "Operand") -> "Value":
        return self.nodes.apply("Mod", self, other)

    def __abs__(self) -> "Value":
        return self.nodes.apply("Abs", self)

    def __and__(self, other: "Value") -> "Value":
        return self.nodes.apply("And", self, other)

    def __or__(self, other: "Value") -> "Value":
        return self.nodes.apply("Or", self, other)

    def __lt__(self, other: "Operand") -> "Value":
        return self.nodes.apply("Less", self, other)

    def __le__(self, other: "Operand") -> "Value":
        return self.nodes.apply("LessOrEqual", self, other)

    def __gt__(self, other: "Operand") -> "Value":
        return self.nodes.apply("Greater", self, other)

    def __ge__(self, other: "Operand") -> "Value":
        return self.nodes.apply("GreaterOrEqual", self, other)

    def within(self, nodes: NodeBuilder) -> "Value":
        """Return the same tensor as a graph inside this one sees it, whose nodes are ``nodes``."""
        return Value(nodes, self.name)

    def equals(self, other: "Operand") -> "Value":
        """Return where two values are equal."""
        return self.nodes.apply("Equal", self, other)

    def at_least(self, lowest: "Operand") -> "Value":
        """Return the larger of two values, element by element."""
        return self.nodes.apply("Max", self, lowest)

    def at_most(self, highest: "Operand") -> "Value":
        """Return the smaller of two values, element by element."""
        return self.nodes.apply("Min", self, highest)

    def where(self, yes: "Operand", no: "Operand") -> "Value":
        """Return ``yes`` where this boolean value is true and ``no`` elsewhere."""
        return self.nodes.apply("Where", self, yes, no)

    def floor(self) -> "Value":
        """Return the largest whole numbers that are not larger."""
        return self.nodes.apply("Floor", self)

    def cast(self, kind: int) -> "Value":
        """Return the value as an ONNX element type."""
        return self.nodes.apply("Cast", self, to=kind)

    def sizes(self, start: int, end: int) -> "Value":
        """Return the sizes of the axes from ``start`` to before ``end``, int64 [end - start]."""
        return self.nodes.apply("Shape", self, start=start, end=end)

    def scalar(self) -> "Value":
        """Return a value of one element without its axes."""
        return self.nodes.apply("Squeeze", self)


# A str is the name of a value.
Operand: TypeAlias = Value | str | int | float


def all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield every node of a model, those of its functions and of inner graphs included, in no order."""
    pending = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while pending:
        node = pending.pop()
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                pending += graph.node


def outer_names(node: onnx.NodeProto) -> set[str]:
    """Return the names that a node's inner graphs take from outside."""
    names: set[str] = set()
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names |= set(inner.input) | outer_names(inner)
            names |= {value.name for value in graph.output}
    return names
