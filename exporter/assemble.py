"""Assembly of the artifact's graphs: input part, network and postprocessing over one weights file.

The tensors between stages have fixed names, so that a check can read each of them. For images they are::

    image -> (geometry) -> pixels -> (arithmetic) -> normalized -> (network) -> logits -> (postprocessing) ->
    probabilities
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import nn

from exporter.conversion.decoder_loop import (
    SequenceProbe,
    check_no_python_loop,
    is_decoder,
    read_decoder,
    to_loop,
)
from exporter.conversion.network_io import Dimensions
from exporter.conversion.node_builder import NodeBuilder
from exporter.conversion.to_onnx import NETWORK_PREFIX, ConvertedNetwork, to_onnx
from exporter.errors import ConversionError
from exporter.inputs.adapter import GraphPart
from exporter.outputs.postprocessing import Postprocessing, output_info
from runtime.manifest import Output

# Smaller tensors stay inside the graph files: onnxruntime reads shapes and axes while it loads.
_EXTERNAL_BYTES = 1024
# onnxruntime maps external data by page; a page for every bias would be mostly padding.
_PAGE_BYTES = 4096
_LARGE_BYTES = 64 * 1024
_ALIGNMENT_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class Graphs:
    """Two models over one weights file: ``model`` takes raw inputs, ``network`` prepared ones.

    ``network`` is None where the two would be the same.
    """

    model: onnx.ModelProto
    network: onnx.ModelProto | None


@dataclass(frozen=True, kw_only=True)
class TracingInputs:
    """What a network is traced with: an example, and inputs of further shapes that the result has to take.

    ``dimensions`` are the dynamic ones, by the network's inputs and their axes.
    """

    dimensions: Dimensions
    example: Mapping[str, torch.Tensor]
    validation_inputs: Sequence[Mapping[str, torch.Tensor]]


def convert_network(
    network: nn.Module,
    flat: nn.Module,
    postprocessing: Postprocessing,
    inputs: TracingInputs,
    *,
    probe: SequenceProbe | None,
    opset: int | None = None,
) -> ConvertedNetwork:
    """Return the converted network; ``flat`` is ``network`` with tensors in and out by position.

    ``probe`` runs the eager network on token sequences; None for other inputs. A decoder is not converted by its
    forward, whose loop a trace would unroll, but by its two halves. Raises ConversionError.
    """
    if probe is not None and postprocessing.stepwise:
        if is_decoder(network):
            return _convert_decoder(network, probe, tuple(inputs.dimensions), postprocessing, opset)
        check_no_python_loop(network, probe)
    return to_onnx(
        flat,
        inputs.example,
        outputs=postprocessing.inner_names,
        dimensions=inputs.dimensions,
        validation_inputs=inputs.validation_inputs,
        opset=opset,
    )


def assemble(
    converted: ConvertedNetwork,
    raw_part: GraphPart,
    network_part: GraphPart | None,
    postprocessing: Postprocessing,
    outputs: Sequence[Output],
    *,
    weights_file: Path | None,
) -> Graphs:
    """Return the graphs of a converted network; their tensors of a kilobyte or more are written to ``weights_file``.

    Without such a file, each graph holds its own.

    Raises ConversionError when an input and an output have one name.
    """
    inputs = [value.name for part in (raw_part, network_part) if part is not None for value in part.inputs]
    shared = sorted(set(inputs) & {output.name for output in outputs})
    if shared:
        raise ConversionError(f"'{shared[0]}': names an input and an output: expected two names. Rename the input.")
    if weights_file is None:
        skeleton = converted.model
    else:
        skeleton = onnx.ModelProto()
        skeleton.CopyFrom(converted.skeleton)
        with weights_file.open("wb") as stream:
            write_weights(skeleton, converted.weights, stream, weights_file.name)
    _rename_clashes(skeleton, reserved={*inputs, *(output.name for output in outputs)})
    return Graphs(
        model=_join(skeleton, raw_part, postprocessing.nodes(), outputs),
        network=_join(skeleton, network_part, postprocessing.nodes(), outputs) if network_part is not None else None,
    )


def _join(
    converted: onnx.ModelProto, part: GraphPart, postprocessing: NodeBuilder, outputs: Sequence[Output]
) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(converted)
    graph = model.graph
    network_nodes = list(graph.node)
    del graph.node[:], graph.input[:], graph.output[:]
    graph.name = "truecopy"
    graph.node.extend(node for nodes in part.nodes for node in nodes.nodes)
    graph.node.extend(network_nodes)
    graph.node.extend(postprocessing.nodes)
    graph.initializer.extend(value for nodes in (*part.nodes, postprocessing) for value in nodes.constants.values())
    graph.input.extend(part.inputs)
    graph.output.extend(output_info(output) for output in outputs)
    known = {opset.domain for opset in model.opset_import}
    model.opset_import.extend(
        helper.make_opsetid(domain, version) for domain, version in part.opsets.items() if domain not in known
    )
    return model


def _rename_clashes(model: onnx.ModelProto, *, reserved: set[str]) -> None:
    """Rename values inside the converted network that share a name with an input or output of the artifact."""
    own = {value.name for value in (*model.graph.input, *model.graph.output)}
    inside = {name for node in model.graph.node for name in node.output}
    inside |= {value.name for value in model.graph.initializer}
    renamed = {name: f"{NETWORK_PREFIX}{name}" for name in (reserved - own) & inside}
    if not renamed:
        return
    for value in model.graph.initializer:
        value.name = renamed.get(value.name, value.name)
    pending = [model.graph]
    while pending:
        graph = pending.pop()
        for node in graph.node:
            node.input[:] = [renamed.get(name, name) for name in node.input]
            node.output[:] = [renamed.get(name, name) for name in node.output]
            pending += [inner for attribute in node.attribute for inner in (attribute.g, *attribute.graphs)]


def write_weights(model: onnx.ModelProto, weights: Mapping[str, NDArray[Any]], stream: BinaryIO, location: str) -> None:
    """Write the model's large tensors, those in ``weights`` from there, and let the model refer to them.

    Each is written once, aligned so that it can be memory-mapped. ``location`` is the name of the stream's file.
    """
    offsets: dict[bytes, int] = {}
    for tensor in model.graph.initializer:
        array = weights.get(tensor.name)
        array = np.frombuffer(tensor.raw_data, np.uint8) if array is None else np.ascontiguousarray(array)
        data = array.reshape(-1).view(np.uint8).data
        if len(data) < _EXTERNAL_BYTES:
            continue
        digest = hashlib.sha256(data).digest()
        if digest not in offsets:
            alignment = _PAGE_BYTES if len(data) >= _LARGE_BYTES else _ALIGNMENT_BYTES
            stream.write(bytes(-stream.tell() % alignment))
            offsets[digest] = stream.tell()
            stream.write(data)
        refer_to(tensor, location, offsets[digest], len(data))


def refer_to(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    """Let a tensor's values be ``length`` bytes of the file ``location``, from ``offset`` on."""
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def _convert_decoder(
    network: nn.Module,
    probe: SequenceProbe,
    inputs: Sequence[str],
    postprocessing: Postprocessing,
    opset: int | None,
) -> ConvertedNetwork:
    name, *others = inputs
    if others:
        raise ConversionError(
            f"'{type(network).__name__}': decodes step by step, and 'encode(tokens)' takes the tokens alone: expected "
            f"one --input, got {', '.join(map(repr, others))} beside it. Leave it out, or find padding by its number."
        )
    (output,) = postprocessing.inner_names
    decoder = read_decoder(network, probe, name=name)
    encoder, step = (
        to_onnx(
            half.module,
            half.example,
            outputs=half.outputs,
            dimensions=half.dimensions,
            validation_inputs=[dict(zip(half.example, probe, strict=True)) for probe in half.probes],
            opset=opset,
        )
        for half in (decoder.encoder, decoder.step)
    )
    return ConvertedNetwork(
        skeleton=to_loop(encoder.model, step.model, decoder, name=name, output=output),
        fallback=encoder.fallback or step.fallback,
    )
