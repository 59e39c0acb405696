"""Biases that make up for what rounding the weights adds to each channel."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from exporter.precision.data import Arrays
from exporter.precision.graphs import with_outputs
from runtime.engine.session import open_session

Array: TypeAlias = NDArray[Any]

_OPERATOR = "Conv"


def measure_means(network: onnx.ModelProto, inputs: Sequence[Arrays]) -> dict[str, Array]:
    """Return the mean of each channel, float64 [channels], of the tensors that convolutions of a network take."""
    tensors = list(dict.fromkeys(node.input[0] for node in network.graph.node if node.op_type == _OPERATOR))
    session = open_session(with_outputs(network, tensors), device="cpu", threads=1)
    sums: dict[str, Array] = {}
    for arrays in inputs:
        outputs = {**arrays, **session.run(arrays)}
        for tensor in tensors:
            values = outputs[tensor].astype(np.float64)
            means = values.mean(axis=(0, *range(2, values.ndim)))
            sums[tensor] = sums.get(tensor, 0.0) + means
    return {tensor: total / len(inputs) for tensor, total in sums.items()}


def correct_biases(
    quantized: onnx.ModelProto, network: onnx.ModelProto, nodes: Collection[str], means: Mapping[str, Array]
) -> None:
    """Take from the biases of quantized convolutions what their rounded weights add to each channel, on average.

    ``network`` is the fp32 one, ``nodes`` are the names of those that were quantized, and ``means`` is what
    ``measure_means`` returned. A channel of a depthwise convolution has few weights, whose roundings do not cancel out:
    the shift that they make is most of the error (Nagel et al. 2019, "Data-Free Quantization Through Weight
    Equalization and Bias Correction", section 4.2).
    """
    constants = {value.name: value for value in quantized.graph.initializer}
    pairs = dequantizing_nodes(quantized)
    shifts = rounding_shifts(quantized, network, nodes, means)
    for node in quantized.graph.node:
        if node.name not in shifts:
            continue
        pair = pairs.get(node.input[2])
        bias = constants[node.input[2] if pair is None else pair.input[0]]
        steps = 1.0 if pair is None else numpy_helper.to_array(constants[pair.input[1]]).astype(np.float64)
        values = numpy_helper.to_array(bias)
        corrected = values - shifts[node.name] / steps
        corrected = corrected if values.dtype.kind == "f" else corrected.round()
        bias.CopyFrom(numpy_helper.from_array(corrected.astype(values.dtype), bias.name))


def rounding_shifts(
    quantized: onnx.ModelProto, network: onnx.ModelProto, nodes: Collection[str], means: Mapping[str, Array]
) -> dict[str, Array]:
    """Return what rounded weights add to each channel on average, by the name of the convolution whose bias is its own.

    The arguments are those of ``correct_biases``.
    """
    full = {node.name: node for node in network.graph.node if node.op_type == _OPERATOR and node.name in nodes}
    weights = {value.name: value for value in network.graph.initializer}
    constants = {value.name: value for value in quantized.graph.initializer}
    pairs = dequantizing_nodes(quantized)
    readers = Counter(name for node in quantized.graph.node for name in node.input)
    shifts = {}
    for node in quantized.graph.node:
        own = full.get(node.name)
        if own is None or len(node.input) < 3 or node.input[1] not in pairs or readers[node.input[2]] > 1:
            continue
        weight = numpy_helper.to_array(weights[own.input[1]])
        rounding = _dequantize(pairs[node.input[1]], constants, weight.ndim) - weight
        groups = next((attribute.i for attribute in own.attribute if attribute.name == "group"), 1)
        shifts[node.name] = _mean_outputs(rounding, means[own.input[0]], groups)
    return shifts


def dequantizing_nodes(quantized: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Return the nodes that dequantize, by the name of their output."""
    return {node.output[0]: node for node in quantized.graph.node if node.op_type == "DequantizeLinear"}


def _dequantize(pair: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto], dimensions: int) -> Array:
    values, scale, zero = (numpy_helper.to_array(constants[name]).astype(np.float64) for name in pair.input)
    shape = [-1, *[1] * (dimensions - 1)] if scale.size > 1 else []
    return np.asarray((values - zero.reshape(shape)) * scale.reshape(shape))


def _mean_outputs(weight: Array, means: Array, groups: int) -> Array:
    """Return what a convolution with ``weight`` makes of inputs with these ``means``, float64 [output channels]."""
    outputs, inputs_per_group = weight.shape[:2]
    group = np.arange(outputs) // (outputs // groups)
    taken = means[group[:, np.newaxis] * inputs_per_group + np.arange(inputs_per_group)]
    return np.asarray((weight.reshape(outputs, inputs_per_group, -1).sum(axis=2) * taken).sum(axis=1))
