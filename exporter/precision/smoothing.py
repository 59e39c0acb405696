"""Smoothing of activations: channels with large values hand them over to the weights that they meet."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from exporter.conversion.node_builder import outer_names
from exporter.precision.data import Arrays
from exporter.precision.graphs import NetworkGraph, with_outputs
from runtime.engine.session import open_session

Array: TypeAlias = NDArray[Any]

# Behind the name of an activation: what its channels are multiplied with, and the product.
_FACTORS, _SMOOTHED = "_smoothing", "_smoothed"

# Channels without values, and weights of zeros, have nothing to hand over.
_SMALLEST = 1e-5


@dataclass(frozen=True, kw_only=True)
class _Products:
    """Matrix products of one activation: the nodes, and for each the axis of its weight that meets the channels."""

    activation: str
    nodes: Sequence[onnx.NodeProto]
    axes: Sequence[int]


def measure_channels(network: onnx.ModelProto, inputs: Sequence[Arrays]) -> dict[str, Array]:
    """Return the largest absolute value of each channel, float64 [channels], of what can be smoothed in a network."""
    tensors = [products.activation for products in _smoothable(network)]
    session = open_session(with_outputs(network, tensors), device="cpu", threads=1)
    largest: dict[str, Array] = {}
    for arrays in inputs:
        outputs = {**arrays, **session.run(arrays)}
        for tensor in tensors:
            values = np.abs(outputs[tensor].astype(np.float64))
            most = values.max(axis=tuple(range(values.ndim - 1)), initial=0.0)
            largest[tensor] = np.maximum(largest.get(tensor, 0.0), most)
    return largest


def smooth(network: NetworkGraph, largest: Mapping[str, Array], strength: float) -> NetworkGraph:
    """Return the network with smoothed activations before its matrix products, which computes the same to the last bit.

    Of an activation whose ``largest`` values differ from channel to channel, 8 bits are too few for the small ones.
    Each channel is divided by a power of two that the weights it meets are multiplied with: by about its largest value
    to the power of ``strength`` over that of the weights to the power of the rest (Xiao et al. 2023, "SmoothQuant",
    equation 4).
    """
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    del model.graph.value_info[:]
    constants = {value.name: value for value in model.graph.initializer}
    multiplied = {}
    for products in list(_smoothable(model)):
        weights = [numpy_helper.to_array(constants[node.input[1]]) for node in products.nodes]
        met = np.max(
            [np.abs(weight).max(axis=1 - axis) for weight, axis in zip(weights, products.axes, strict=True)], axis=0
        )
        logs = strength * np.log2(np.maximum(largest[products.activation], _SMALLEST))
        logs -= (1 - strength) * np.log2(np.maximum(met, _SMALLEST))
        scales = np.exp2(np.round(logs - logs.mean())).astype(np.float32)
        shaped = [scales[:, np.newaxis] if axis == 0 else scales for axis in products.axes]
        scaled = [weight * own for weight, own in zip(weights, shaped, strict=True)]
        # Numbers near the smallest that float32 has would lose their last bits.
        is_exact = all(map(np.array_equal, map(np.divide, scaled, shaped), weights))
        if np.all(scales == 1) or not is_exact:
            continue
        factors, smoothed = products.activation + _FACTORS, products.activation + _SMOOTHED
        model.graph.initializer.append(numpy_helper.from_array(1 / scales, factors))
        multiplied[products.nodes[0].name] = helper.make_node(
            "Mul", [products.activation, factors], [smoothed], name=smoothed
        )
        for node, own in zip(products.nodes, scaled, strict=True):
            node.input[0] = smoothed
            constants[node.input[1]].CopyFrom(numpy_helper.from_array(own, node.input[1]))
    nodes = [other for node in model.graph.node for other in (multiplied.get(node.name), node) if other is not None]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return replace(network, model=onnx.shape_inference.infer_shapes(model))


def _smoothable(model: onnx.ModelProto) -> Iterator[_Products]:
    """Yield the activations that are multiplied with weights that nothing else reads."""
    constants = {value.name: value for value in model.graph.initializer}
    readers = Counter(name for node in model.graph.node for name in (*node.input, *outer_names(node)))
    by_activation: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node in model.graph.node:
        axis = _input_axis(node)
        if axis is not None and node.input[0] not in constants and _is_matrix(constants.get(node.input[1])):
            by_activation.setdefault(node.input[0], []).append((node, axis))
    for activation, pairs in by_activation.items():
        if all(readers[node.input[1]] == 1 for node, _ in pairs):
            yield _Products(activation=activation, nodes=[node for node, _ in pairs], axes=[axis for _, axis in pairs])


def _input_axis(node: onnx.NodeProto) -> int | None:
    """Return the axis of a matrix product's weight that its input's channels meet; None for other nodes."""
    if node.op_type == "MatMul":
        return 0
    if node.op_type != "Gemm":
        return None
    turned = {attribute.name: attribute.i for attribute in node.attribute if attribute.name in {"transA", "transB"}}
    return None if turned.get("transA") else turned.get("transB", 0)


def _is_matrix(constant: onnx.TensorProto | None) -> bool:
    return constant is not None and constant.data_type == onnx.TensorProto.FLOAT and len(constant.dims) == 2
