"""Conversion of a network to half precision, by onnxruntime's converter."""

import sys
from collections.abc import Callable, Mapping, Sequence
from graphlib import TopologicalSorter

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from exporter.conversion.node_builder import outer_names
from exporter.precision.data import Arrays
from exporter.precision.graphs import NetworkGraph, with_outputs
from exporter.precision.int8 import QuantizedNetwork
from runtime.engine.session import open_session
from runtime.manifest import Quantization

# The largest number of half precision, with room for inputs that were not measured; below its smallest normal one, a
# number keeps fewer digits the smaller it is.
_LARGEST = 65504.0 / 2
_SMALLEST = 2.0**-14


def measure_largest(network: onnx.ModelProto, inputs: Sequence[Arrays]) -> dict[str, float]:
    """Return the largest absolute value of each tensor of floats in a network, its constants included."""
    kinds = {value.name: value.type.tensor_type.elem_type for value in network.graph.value_info}
    tensors = [name for name, kind in kinds.items() if kind == TensorProto.FLOAT]
    session = open_session(with_outputs(network, tensors), device="cpu", threads=1)
    largest = {
        value.name: float(np.abs(numpy_helper.to_array(value)).max(initial=0.0))
        for value in network.graph.initializer
        if value.data_type == TensorProto.FLOAT
    }
    for arrays in inputs:
        for name, values in session.run(arrays).items():
            if values.dtype == np.float32:
                largest[name] = max(largest.get(name, 0.0), float(np.abs(values).max(initial=0.0)))
    return largest


def convert_half(
    network: NetworkGraph, largest: Mapping[str, float], *, fp32_nodes: Sequence[str] = ()
) -> QuantizedNetwork:
    """Return the network with the nodes between its first and last weights in half precision.

    In fp32 stay ``fp32_nodes``, and those that would overflow or that see nothing but numbers too small, by the
    ``largest`` value of each tensor; the arithmetic before and behind these nodes costs next to nothing. Inputs and
    outputs keep their types.
    """
    convert, unsupported = _open_converter()
    inner = frozenset(network.inner)
    kept = [
        node.name
        for node in network.model.graph.node
        if node.name in inner and (node.name in fp32_nodes or node.op_type in unsupported or not _fits(node, largest))
    ]
    outside = [node.name for node in network.model.graph.node if node.name not in inner]
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    model = convert(model, keep_io_types=True, disable_shape_infer=True, node_block_list=[*outside, *kept])
    _drop_twins(model)
    _drop_round_trips(model)
    _sort(model)
    return QuantizedNetwork(
        model=model,
        quantization=Quantization(
            method="float16", ranges=None, per_channel=False, reduce_range=False, fp32_nodes=tuple(kept)
        ),
        nodes=tuple(name for name in network.weighted if name in inner and name not in kept),
    )


def _open_converter() -> tuple[Callable[..., onnx.ModelProto], frozenset[str]]:
    """Return onnxruntime's converter, and the operators that it leaves in fp32."""
    path = list(sys.path)
    try:
        from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    finally:
        sys.path[:] = path  # its package appends itself
    return convert_float_to_float16, frozenset(DEFAULT_OP_BLOCK_LIST)


def _fits(node: onnx.NodeProto, largest: Mapping[str, float]) -> bool:
    values = [largest[name] for name in (*node.input, *node.output) if name in largest]
    return all(value <= _LARGEST and (value >= _SMALLEST or value == 0) for value in values)


def _drop_twins(model: onnx.ModelProto) -> None:
    """Remove casts that are there twice: the converter adds one per reader, and calls all of a tensor's the same."""
    by_output = {node.output[0]: node for node in reversed(model.graph.node)}
    nodes = [node for node in model.graph.node if node.op_type != "Cast" or node is by_output[node.output[0]]]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _drop_round_trips(model: onnx.ModelProto) -> None:
    """Remove the casts between neighbors that both stay in fp32: each would round what passes."""
    casts = {node.output[0]: node for node in model.graph.node if node.op_type == "Cast"}
    into = {
        name: next(attribute.i for attribute in node.attribute if attribute.name == "to")
        for name, node in casts.items()
    }
    originals = {
        name: casts[node.input[0]].input[0]
        for name, node in casts.items()
        if into[name] == TensorProto.FLOAT and into.get(node.input[0]) == TensorProto.FLOAT16
    }
    outputs = {value.name for value in model.graph.output}
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name in originals:
                node.input[index] = originals[name]
    produced = {name: node for node in model.graph.node for name in node.output}
    for name in outputs & originals.keys():  # the output keeps its name, now at the node that computes it
        original = originals[name]
        for node in model.graph.node:
            for index, taken in enumerate(node.input):
                if taken == original:
                    node.input[index] = name
        producer = produced[original]
        producer.output[list(producer.output).index(original)] = name
        model.graph.node.remove(casts[name])
    _drop_unused(model)


def _drop_unused(model: onnx.ModelProto) -> None:
    """Remove casts whose output nothing reads."""
    while True:
        used = {value.name for value in model.graph.output}
        for node in model.graph.node:
            used |= {*node.input} | outer_names(node)
        unused = [node for node in model.graph.node if node.op_type == "Cast" and node.output[0] not in used]
        if not unused:
            return
        for node in unused:
            model.graph.node.remove(node)


def _sort(model: onnx.ModelProto) -> None:
    """Put the nodes into an order that the format allows: the converter appends its casts at the end."""
    nodes = list(model.graph.node)
    producers = {name: index for index, node in enumerate(nodes) for name in node.output}
    order = TopologicalSorter(
        {
            index: sorted({producers[name] for name in {*node.input} | outer_names(node) if name in producers})
            for index, node in enumerate(nodes)
        }
    ).static_order()
    ordered = [nodes[index] for index in order]
    del model.graph.node[:]
    model.graph.node.extend(ordered)
