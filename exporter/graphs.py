"""Preprocessing, network and postprocessing joined into the artifact's two graphs over one weights file.

Borders between stages are tensors with fixed names, so that a check can look at each of them::

    image -> (geometry) -> pixels -> (arithmetic) -> normalized -> (network) -> logits -> (activation) -> probabilities
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import onnx
from onnx import helper

from exporter.onnx_nodes import Nodes
from exporter.preprocessing import arithmetic_nodes, geometry_nodes
from exporter.to_onnx import INPUT as NORMALIZED
from exporter.to_onnx import OUTPUT as LOGITS
from runtime.manifest import Preprocessing
from runtime.model import PIXELS

Activation: TypeAlias = Literal["softmax", "none"]

IMAGE = "image"
PROBABILITIES = "probabilities"

# Smaller tensors stay inside the graph files: onnxruntime reads shapes and axes while it loads.
_EXTERNAL_BYTES = 1024
# onnxruntime maps external data by page; a page for every bias would be mostly padding.
_PAGE_BYTES = 4096
_LARGE_BYTES = 64 * 1024
_ALIGNMENT_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class Graphs:
    """Two models over one weights file.

    ``model`` takes ``image`` uint8 [batch, any height, any width, 3]; ``network`` takes ``pixels`` uint8 [batch,
    height, width, 3]; both give ``probabilities`` float32 [batch, classes].
    """

    model: onnx.ModelProto
    network: onnx.ModelProto
    weights: bytes


def assemble(
    converted: onnx.ModelProto,
    preprocessing: Preprocessing,
    *,
    activation: Activation,
    classes: int,
    weights_file: str,
) -> Graphs:
    """Return the graphs of a converted network; their tensors of a kilobyte or more lie in ``weights_file``."""
    weights = _to_external_data(converted, weights_file)
    arithmetic = arithmetic_nodes(preprocessing, pixels=PIXELS, normalized=NORMALIZED)
    head = Nodes("activation")
    if activation == "softmax":
        head.add("Softmax", LOGITS, axis=-1, output=PROBABILITIES)
    else:
        head.add("Identity", LOGITS, output=PROBABILITIES)
    geometry = geometry_nodes(preprocessing, image=IMAGE, pixels=PIXELS)

    uint8 = onnx.TensorProto.UINT8
    prepared = (preprocessing.height, preprocessing.width, preprocessing.channels)
    image = helper.make_tensor_value_info(IMAGE, uint8, ["batch", "height", "width", 3])
    pixels = helper.make_tensor_value_info(PIXELS, uint8, ["batch", *prepared])
    output = helper.make_tensor_value_info(PROBABILITIES, onnx.TensorProto.FLOAT, ["batch", classes])
    return Graphs(
        model=_join(converted, [geometry, arithmetic], [head], image, output),
        network=_join(converted, [arithmetic], [head], pixels, output),
        weights=weights,
    )


def _join(
    converted: onnx.ModelProto,
    before: Sequence[Nodes],
    after: Sequence[Nodes],
    graph_input: onnx.ValueInfoProto,
    output: onnx.ValueInfoProto,
) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(converted)
    graph = model.graph
    network_nodes = list(graph.node)
    del graph.node[:], graph.input[:], graph.output[:]
    graph.name = "truecopy"
    graph.node.extend(node for part in before for node in part.nodes)
    graph.node.extend(network_nodes)
    graph.node.extend(node for part in after for node in part.nodes)
    graph.initializer.extend(value for part in (*before, *after) for value in part.constants.values())
    graph.input.append(graph_input)
    graph.output.append(output)
    return model


def _to_external_data(model: onnx.ModelProto, file: str) -> bytes:
    """Move the model's large tensors out and return them: each once, aligned so that it can be memory-mapped."""
    weights = bytearray()
    offsets: dict[bytes, int] = {}
    for tensor in model.graph.initializer:
        data = tensor.raw_data
        if len(data) < _EXTERNAL_BYTES:
            continue
        digest = hashlib.sha256(data).digest()
        if digest not in offsets:
            alignment = _PAGE_BYTES if len(data) >= _LARGE_BYTES else _ALIGNMENT_BYTES
            weights += bytes(-len(weights) % alignment)
            offsets[digest] = len(weights)
            weights += data
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", file), ("offset", offsets[digest]), ("length", len(data))):
            tensor.external_data.add(key=key, value=str(value))
    return bytes(weights)
