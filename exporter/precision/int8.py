"""Quantization of a network to 8 bits, by onnxruntime's quantizer."""

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import QuantizationMode

from exporter.precision.biases import correct_biases
from exporter.precision.graphs import NetworkGraph
from exporter.precision.ranges import PRODUCTS, Ranges
from runtime.manifest import Quantization

# Scores are compared with one another: rounding them to 256 steps would make ties. What follows a matrix product
# rounds where it needs to.
_EXACT_OUTPUTS = ["Gemm", "MatMul"]

# The operators that take each input's own ranges.
_DYNAMIC_OPERATORS = frozenset({"MatMul", "Gemm", "Gather"})


@dataclass(frozen=True, kw_only=True)
class QuantizedNetwork:
    """A quantized network, how it was quantized, and the nodes that were, by name."""

    model: onnx.ModelProto
    quantization: Quantization
    nodes: tuple[str, ...]

    @property
    def is_dynamic(self) -> bool:
        """Whether the ranges of activations are those of each input."""
        return self.quantization.method == "dynamic"


def quantize_static(
    network: NetworkGraph,
    ranges: Ranges,
    means: Mapping[str, NDArray[Any]],
    *,
    smoothing: float | None = None,
    reduce_range: bool,
    fp32_nodes: Sequence[str] = (),
) -> QuantizedNetwork:
    """Return the network with 8-bit weights, per channel, and 8-bit activations in ``ranges``.

    With ranges of matrix products alone, so are only the nodes with weights, and what they take. Those in
    ``fp32_nodes`` stay in fp32. Biases are corrected by the ``means`` of what they add to. The network was smoothed
    with the strength ``smoothing``, None for not at all.
    """
    candidates = network.weighted if ranges.operators == PRODUCTS else network.inner
    nodes = tuple(name for name in candidates if name not in fp32_nodes)
    model = _with_pairs(network.model, ranges, nodes, reduce_range=reduce_range)
    correct_biases(model, network.model, nodes, means)
    return QuantizedNetwork(
        model=model,
        quantization=Quantization(
            method="static",
            ranges=ranges.method,
            per_channel=True,
            reduce_range=reduce_range,
            biases_corrected=True,
            smoothing=smoothing,
            fp32_nodes=tuple(fp32_nodes),
        ),
        nodes=nodes,
    )


def quantize_dynamic(network: NetworkGraph, *, reduce_range: bool, fp32_nodes: Sequence[str] = ()) -> QuantizedNetwork:
    """Return the network with 8-bit tables and matrix products; each input's activations have their own range.

    The nodes with weights in ``fp32_nodes`` stay in fp32, and so do convolutions: these have no such kernels.
    """
    operators = {node.name: node.op_type for node in network.model.graph.node}
    kept = tuple(name for name in network.weighted if name in fp32_nodes or operators[name] not in _DYNAMIC_OPERATORS)
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    del model.graph.value_info[:]
    quantizer = ONNXQuantizer(
        model,
        True,  # per channel
        reduce_range,
        QuantizationMode.IntegerOps,
        False,  # not static
        QuantType.QInt8,
        QuantType.QUInt8,
        None,
        [],
        # The quantizer splits a Gemm into a product, of this name, and a sum.
        [other for name in kept for other in (name, f"{name}_MatMul")],
        ["MatMul", *(["Gather"] if network.tables else [])],
        {"MatMulConstBOnly": True},
    )
    quantizer.quantize_model()
    return QuantizedNetwork(
        model=quantizer.model.model,
        quantization=Quantization(
            method="dynamic", ranges=None, per_channel=True, reduce_range=reduce_range, fp32_nodes=kept
        ),
        nodes=tuple(name for name in network.weighted if name not in kept),
    )


def _with_pairs(
    network: onnx.ModelProto, ranges: Ranges, nodes: Collection[str], *, reduce_range: bool
) -> onnx.ModelProto:
    """Return the network with a pair of QuantizeLinear and DequantizeLinear around each of ``nodes``.

    Activations are unsigned and weights signed: the only types that onnxruntime's kernels are fast with on x86.
    """
    model = onnx.ModelProto()
    model.CopyFrom(network)
    quantizer = QDQQuantizer(
        model,
        True,  # per channel
        reduce_range,
        QuantType.QInt8,
        QuantType.QUInt8,
        copy.deepcopy(ranges.tensors),  # the quantizer changes it
        list(nodes),
        [],
        list(ranges.operators),
        {"OpTypesToExcludeOutputQuantization": _EXACT_OUTPUTS, "MatMulConstBOnly": True},
    )
    quantizer.quantize_model()
    quantized: onnx.ModelProto = quantizer.model.model
    return quantized
