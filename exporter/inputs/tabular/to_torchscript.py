"""The transform of columns of numbers in torch: the ONNX nodes of the graph, one by one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from exporter.conversion.node_builder import NodeBuilder

# From a node's inputs and its attributes to its output; an axis is None where there is none.
Operator: TypeAlias = Callable[..., Tensor]

_DTYPES: Mapping[int, torch.dtype] = {
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.BOOL: torch.bool,
}


class ColumnsModule(nn.Module):
    """Columns [batch, 1] by position to a tuple of the network's input, float32 [batch, features].

    It is traced, and reads no value of a column. ``nodes`` are the graph's from ``columns`` to ``features``.
    """

    def __init__(self, nodes: NodeBuilder, columns: Sequence[str], *, features: str) -> None:
        super().__init__()
        self.columns = tuple(columns)
        self.features = features
        self.nodes = tuple(nodes.nodes)
        self.attributes = [
            {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute} for node in self.nodes
        ]
        self.constants = {
            name: torch.from_numpy(numpy_helper.to_array(value).copy()) for name, value in nodes.constants.items()
        }

    def forward(self, *columns: Tensor) -> tuple[Tensor]:
        """Return the features."""
        values: dict[str, Tensor] = {**self.constants, **dict(zip(self.columns, columns, strict=True))}
        for node, attributes in zip(self.nodes, self.attributes, strict=True):
            inputs = [values[name] for name in node.input if name]
            values[node.output[0]] = _OPERATORS[node.op_type](*inputs, **attributes)
        return (values[self.features],)


def unknown_operator(nodes: NodeBuilder) -> str:
    """Return the first operator of the nodes that has no form in torch; empty where all have one."""
    unknown = (node.op_type for node in nodes.nodes if node.domain or node.op_type not in _OPERATORS)
    return next((str(name) for name in unknown), "")


def _cast(values: Tensor, *, to: int) -> Tensor:
    return values.to(_DTYPES[to])


def _concat(*values: Tensor, axis: int) -> Tensor:
    return torch.cat(values, dim=axis)


def _divide(values: Tensor, divisor: Tensor) -> Tensor:
    # ONNX truncates whole numbers.
    return torch.div(values, divisor, rounding_mode=None if values.is_floating_point() else "trunc")


def _gather(values: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    position: Any = (*([slice(None)] * axis), indices)
    return values[position]


def _pad(values: Tensor, pads: Tensor, fill: Tensor) -> Tensor:
    before, after = pads.reshape(2, -1).tolist()
    last_first = [size for pair in zip(reversed(before), reversed(after), strict=True) for size in pair]
    return nn.functional.pad(values, last_first, value=float(fill))


def _reduced(function: Callable[..., Tensor]) -> Operator:
    def reduce(values: Tensor, axes: Tensor | None = None, *, keepdims: int = 1, **attributes: Any) -> Tensor:
        dimensions = attributes.get("axes") or (list(range(values.ndim)) if axes is None else axes.tolist())
        return function(values, dim=dimensions, keepdim=bool(keepdims))

    return reduce


def _largest(values: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    del select_last_index  # skl2onnx writes none
    return values.argmax(dim=axis, keepdim=bool(keepdims))


def _squeeze(values: Tensor, axes: Tensor) -> Tensor:
    return values.squeeze(tuple(axes.tolist()))


def _unsqueeze(values: Tensor, axes: Tensor) -> Tensor:
    for axis in sorted(axes.tolist()):
        values = values.unsqueeze(axis)
    return values


_OPERATORS: Mapping[str, Operator] = {
    "Abs": torch.abs,
    "Add": torch.add,
    "And": torch.logical_and,
    "ArgMax": _largest,
    "Cast": _cast,
    "Concat": _concat,
    "Div": _divide,
    "Equal": torch.eq,
    "Exp": torch.exp,
    "Gather": _gather,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Identity": torch.clone,
    "IsNaN": torch.isnan,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Log": torch.log,
    "MatMul": torch.matmul,
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "Pad": _pad,
    "Pow": torch.pow,
    "ReduceMax": _reduced(torch.amax),
    "ReduceSum": _reduced(torch.sum),
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sqrt": torch.sqrt,
    "Squeeze": _squeeze,
    "Sub": torch.sub,
    "Tanh": torch.tanh,
    "Unsqueeze": _unsqueeze,
    "Where": torch.where,
}
