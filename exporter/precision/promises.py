"""What a quantized graph promises, compared with the fp32 network and the data that the runtime prepares.

None of it is the quantizer's own code: scales and zero points are computed again from the weights, and the ranges of
activations from inputs as the runtime prepares them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from exporter.precision.biases import dequantizing_nodes, measure_means, rounding_shifts
from exporter.precision.data import Arrays, digest_arrays
from exporter.precision.graphs import NetworkGraph, with_outputs
from exporter.precision.int8 import QuantizedNetwork
from exporter.precision.ranges import CUTTING, PASSING, PERCENTILE, RangeMethod, Ranges
from runtime.engine.session import open_session

Array: TypeAlias = NDArray[Any]

# Rounding to the nearest step is off by half a step; the rest is what float32 rounds.
_HALF_STEP = 0.505

# A bias is rounded by the quantizer, and again when it is corrected.
_BIAS_STEPS = 1.05

# What half precision rounds: relatively, and where numbers are tiny.
_HALF_ROUNDING = (2.0**-11, 6e-8)

# The operators whose third input is a bias.
_WITH_BIAS = frozenset({"Conv", "ConvTranspose", "Gemm"})

# A range from a histogram may end up to a bin beyond the values.
_HISTOGRAM_ROOM = 0.02

# The largest share of an activation's values that may lie outside its range: of a percentile what it cuts off, with
# room for its histogram's bins; entropy gives up more, for finer steps.
_MOST_CLIPPED: Mapping[RangeMethod, float] = {
    "min-max": 0.0,
    "percentile": 10 * (100 - PERCENTILE) / 100,
    "entropy": 0.01,
}


def broken_promise(
    network: NetworkGraph, quantized: QuantizedNetwork, ranges: Ranges, prepared: Sequence[Arrays]
) -> str:
    """Return what a statically quantized network does not keep, in a sentence with the names; empty if nothing.

    ``prepared`` are the calibration inputs, prepared by the runtime anew.
    """
    problems = (
        _in_inputs(ranges, prepared),
        *_in_weights(network, quantized),
        *_in_activations(network, quantized, ranges),
        *_in_biases(network, quantized, measure_means(network.model, prepared)),
        changed_constant(network, quantized),
        *_in_ranges(network, quantized, ranges, prepared),
    )
    return next((problem for problem in problems if problem), "")


def broken_smoothing(network: NetworkGraph, smoothed: NetworkGraph) -> str:
    """Return where a smoothed network does not compute what the fp32 one does, in a sentence; empty if nowhere.

    Products are equal to the last bit where each weight is fp32's, times a power of two that its input is divided by.
    """
    full = {value.name: value for value in network.model.graph.initializer}
    own = {value.name: value for value in smoothed.model.graph.initializer}
    originals = {node.name: node for node in network.model.graph.node}
    added = {node.output[0]: node for node in smoothed.model.graph.node if node.name not in originals}
    scaled = set()
    for node in smoothed.model.graph.node:
        multiply = added.get(node.input[0]) if node.name in network.weighted else None
        if multiply is None:
            continue
        factors, weight, expected = (
            numpy_helper.to_array(tensor)
            for tensor in (own[multiply.input[1]], own[node.input[1]], full[network.weights[node.name]])
        )
        is_turned = any(item.name == "transB" and item.i for item in node.attribute)
        scaled.add(node.input[1])
        if (
            multiply.input[0] != originals[node.name].input[0]
            or np.any(np.frexp(factors)[0] != 0.5)
            or not np.array_equal(weight * (factors if is_turned else factors[:, np.newaxis]), expected)
        ):
            return f"the smoothing of '{network.weighted[node.name]}' is not undone by its weight: a factor is wrong"
    changed = [name for name, value in full.items() if name not in scaled and value != own[name]]
    return f"the constant '{changed[0]}' is not that of fp32, although it is not smoothed" if changed else ""


def _in_inputs(ranges: Ranges, prepared: Sequence[Arrays]) -> str:
    for number, (used, arrays) in enumerate(zip(ranges.inputs, prepared, strict=True), 1):
        if used != digest_arrays(arrays):
            return (
                f"calibration input {number} of {len(prepared)} is not what the runtime prepares of it: the ranges "
                f"({ranges.method}) are those of other data"
            )
    return ""


def broken_weight(network: NetworkGraph, quantized: QuantizedNetwork) -> str:
    """Return what is wrong with the weights of a dynamically quantized network, in a sentence; empty if nothing."""
    full = {value.name: value for value in network.model.graph.initializer}
    constants = {value.name: value for value in quantized.model.graph.initializer}
    # The quantizer writes a Gemm whose weight is turned around as a product with the weight itself.
    turned = {
        node.name
        for node in network.model.graph.node
        if node.op_type == "Gemm" and any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    }
    for node in quantized.nodes:
        name, module = network.weights[node], f"'{network.weighted[node]}'"
        parts = [constants.get(f"{name}_{part}") for part in ("quantized", "scale", "zero_point")]
        if any(part is None for part in parts):
            return f"the weight of {module} is not quantized, although the manifest does not list it as fp32"
        values, scale, zero = (numpy_helper.to_array(part).astype(np.float64) for part in parts if part is not None)
        weight = numpy_helper.to_array(full[name])
        if node in turned:
            weight = weight.T
        axis = None if node in network.tables else weight.ndim - 1
        problem = _weight_problem(module, weight, values, scale, zero, axis=axis)
        if problem:
            return problem
    return changed_constant(network, quantized)


def changed_constant(network: NetworkGraph, quantized: QuantizedNetwork) -> str:
    """Return which constant that should have stayed is another one, in a sentence; empty if none.

    Those in half precision may differ by its rounding. The biases of quantized convolutions are checked apart.
    """
    biases = {
        node.input[2] for node in network.model.graph.node if node.name in quantized.nodes and len(node.input) > 2
    }
    own = {value.name: value for value in quantized.model.graph.initializer}
    for value in network.model.graph.initializer:
        kept = own.get(value.name)
        if kept is None or value.data_type != onnx.TensorProto.FLOAT or value.name in biases:
            continue
        expected, got = numpy_helper.to_array(value), numpy_helper.to_array(kept).astype(np.float32)
        relative, absolute = _HALF_ROUNDING if kept.data_type == onnx.TensorProto.FLOAT16 else (0.0, 0.0)
        if not np.allclose(got, expected, rtol=relative, atol=absolute, equal_nan=True):
            module = value.name.removesuffix(".weight").removesuffix(".bias")
            return f"the constant '{value.name}' of '{module}' is not that of fp32, although it is not quantized"
    return ""


def _in_weights(network: NetworkGraph, quantized: QuantizedNetwork) -> Iterator[str]:
    """Yield what is wrong with the weights: each channel has its own scale, and no value is off by more than half."""
    full = {value.name: value for value in network.model.graph.initializer}
    constants = {value.name: value for value in quantized.model.graph.initializer}
    dequantized = {node.output[0]: node for node in quantized.model.graph.node if node.op_type == "DequantizeLinear"}
    for node in quantized.model.graph.node:
        if node.name not in network.weighted or node.name not in quantized.nodes:
            continue
        module = f"'{network.weighted[node.name]}'"
        is_table = node.name in network.tables
        pair = dequantized.get(node.input[0 if is_table else 1])
        if pair is None:
            yield f"the weight of {module} is not quantized, although the manifest does not list it as fp32"
            continue
        weight = numpy_helper.to_array(full[network.weights[node.name]])
        values, scale, zero = (numpy_helper.to_array(constants[name]).astype(np.float64) for name in pair.input)
        axis = None if is_table else next((item.i for item in pair.attribute if item.name == "axis"), 1)
        yield _weight_problem(module, weight, values, scale, zero, axis=axis)


def _in_biases(network: NetworkGraph, quantized: QuantizedNetwork, means: Mapping[str, Array]) -> Iterator[str]:
    """Yield what is wrong with the biases of quantized nodes.

    Each has the product of its input's scale and its weight's, as integer kernels take for granted, and is fp32's but
    for the correction by the ``means`` of what it adds to.
    """
    full = {value.name: value for value in network.model.graph.initializer}
    originals = {node.name: node for node in network.model.graph.node}
    constants = {value.name: numpy_helper.to_array(value) for value in quantized.model.graph.initializer}
    pairs = dequantizing_nodes(quantized.model)
    shifts = rounding_shifts(quantized.model, network.model, quantized.nodes, means)
    for node in quantized.model.graph.node:
        if node.name not in quantized.nodes or len(node.input) < 3 or node.op_type not in _WITH_BIAS:
            continue
        pair = pairs.get(node.input[2])
        values = constants.get(node.input[2] if pair is None else pair.input[0])
        bias = full.get(originals[node.name].input[2])
        if values is None or bias is None:
            continue
        expected = numpy_helper.to_array(bias).astype(np.float64) - shifts.get(node.name, 0.0)
        if pair is None:
            scale: Array = np.maximum(np.abs(expected), 1e-3) * 1e-6
            off = np.abs(values - expected) / scale
        else:
            scale = constants[pair.input[1]].astype(np.float64)
            inputs = [constants[pairs[name].input[1]].astype(np.float64) for name in node.input[:2] if name in pairs]
            if len(inputs) == 2 and not np.allclose(scale, inputs[0] * inputs[1], rtol=1e-4, atol=0):
                yield (
                    f"the bias of '{network.weighted[node.name]}' has another scale than its input and weight have "
                    "together: a scale is wrong"
                )
            off = np.abs(values.astype(np.float64) - expected / scale)
        if off.max() > _BIAS_STEPS:
            yield (
                f"the bias of '{network.weighted[node.name]}' is off by {off.max():.3g} steps of its scale, expected "
                f"at most {_BIAS_STEPS:g}: a scale, a zero point or the correction is wrong"
            )


def _weight_problem(module: str, weight: Array, values: Array, scale: Array, zero: Array, *, axis: int | None) -> str:
    """Return what is wrong with a quantized weight, empty if nothing; one scale is right where ``axis`` is None."""
    if axis is not None and scale.size == 1 and weight.shape[axis] > 1:
        return f"the weight of {module} has one scale, and per channel was promised"
    shape = [-1 if dimension == axis else 1 for dimension in range(weight.ndim)] if scale.size > 1 else []
    steps = scale.reshape(shape)
    off = np.abs((values - zero.reshape(shape)) * steps - weight) / steps
    if off.max() <= _HALF_STEP:
        return ""
    return (
        f"the weight of {module} is off by {off.max():.3g} steps of its scale, expected at most half a step: a scale "
        "or zero point is wrong"
    )


def _in_activations(network: NetworkGraph, quantized: QuantizedNetwork, ranges: Ranges) -> Iterator[str]:
    """Yield the activations whose scale and zero point are not those of the ranges that were found."""
    related = _related_tensors(network.model)
    for tensor, low, high in _represented(quantized.model, network.model):
        candidates = [ranges.of(name) for name in related[tensor] if name in ranges.tensors]
        step = (high - low) / 255
        if not any(max(abs(low - lowest), abs(high - highest)) <= _HALF_STEP * step for lowest, highest in candidates):
            expected = " or ".join(f"{lowest:.4g} to {highest:.4g}" for lowest, highest in candidates) or "none"
            yield (
                f"the activation '{tensor}' is quantized from {low:.4g} to {high:.4g}, expected {expected}: its scale "
                "or zero point is wrong"
            )


def _in_ranges(
    network: NetworkGraph, quantized: QuantizedNetwork, ranges: Ranges, prepared: Sequence[Arrays]
) -> Iterator[str]:
    """Yield the activations whose values, on inputs as the runtime prepares them, lie outside their ranges."""
    tensors = [tensor for tensor, _, _ in _represented(quantized.model, network.model) if tensor in ranges.tensors]
    outside, counts = dict.fromkeys(tensors, 0), dict.fromkeys(tensors, 0)
    lowest, highest = dict.fromkeys(tensors, 0.0), dict.fromkeys(tensors, 0.0)
    session = open_session(with_outputs(network.model, tensors), device="cpu", threads=1)
    for arrays in prepared:
        outputs = {**arrays, **session.run(arrays)}
        for tensor in tensors:
            values, (low, high) = outputs[tensor], ranges.of(tensor)
            # Values at a bound, as ReLU6 has many, may lie beyond the edge of a histogram's bin.
            room = (high - low) * (1e-6 if ranges.method == "min-max" else 1 / 255)
            outside[tensor] += int(((values < low - room) | (values > high + room)).sum())
            counts[tensor] += values.size
            lowest[tensor] = min(lowest[tensor], float(values.min()))
            highest[tensor] = max(highest[tensor], float(values.max()))
    limit = _MOST_CLIPPED[ranges.method]
    for tensor in tensors:
        share = outside[tensor] / counts[tensor]
        # A histogram of few values is coarse: one of them more is no fault.
        if outside[tensor] > 1 + limit * counts[tensor] or (not limit and outside[tensor]):
            yield (
                f"{share:.2%} of the values of '{tensor}' lie outside its range, expected at most {limit:.2%} with "
                f"{ranges.method}: they are clipped"
            )
        low, high = ranges.of(tensor)
        room = _HISTOGRAM_ROOM * (highest[tensor] - lowest[tensor])
        if low < lowest[tensor] - room or high > highest[tensor] + room:
            yield (
                f"the range of '{tensor}', {low:.4g} to {high:.4g}, is wider than its values on the calibration data, "
                f"{lowest[tensor]:.4g} to {highest[tensor]:.4g}: it is that of other data"
            )


def _represented(quantized: onnx.ModelProto, full: onnx.ModelProto) -> Iterator[tuple[str, float, float]]:
    """Yield each activation of the fp32 network that is quantized, with the lowest and highest value that it can be.

    What is looked up in a quantized table and has the table's scale was rounded before: it is the table's.
    """
    pairs = dequantizing_nodes(quantized)
    tables = {node.output[0]: pairs.get(node.input[0]) for node in quantized.graph.node if node.op_type == "Gather"}
    constants = {value.name: value for value in quantized.graph.initializer}
    known = {name for node in full.graph.node for name in node.output} | {value.name for value in full.graph.input}
    for node in quantized.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] not in known:
            continue
        table = tables.get(node.input[0])
        if table is None or list(table.input[1:]) != list(node.input[1:]):
            scale, zero = (_scalar(numpy_helper.to_array(constants[name])) for name in node.input[1:3])
            yield node.input[0], -zero * scale, (255 - zero) * scale


def _scalar(array: Array) -> float:
    return float(array.reshape(()))


def _related_tensors(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Return for each tensor those whose range it may have been given: its own, and of what passes or cuts it off."""
    producers = {name: node for node in model.graph.node for name in node.output}
    related = {name: [name] for name in [*producers, *(value.name for value in model.graph.input)]}
    for node in model.graph.node:
        if node.op_type in CUTTING and node.input[0] in related:
            related[node.input[0]].append(node.output[0])
    for name, node in producers.items():
        if node.op_type in PASSING:
            related[name] += related.get(node.input[0], [])
    return related
