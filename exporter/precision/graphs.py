"""Graphs of a variant: the network alone for a quantizer, and the artifact's two graphs around what it made."""

import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import onnx
from onnx import numpy_helper

from exporter.assemble import refer_to, write_weights
from exporter.conversion.node_builder import outer_names
from exporter.errors import ConversionError
from runtime.artifact.open import Artifact
from runtime.engine.onnx_reader import external_tensors
from runtime.manifest import FULL_PRECISION, Variant

# Operators with weights, where their second input is constant: what quantization makes smaller and faster.
WEIGHTED_OPERATORS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

# A variant that reads fp32's file needs all of it, in memory and wherever it goes: only where it would write at least
# this share of it again.
_LEAST_SHARED = 0.05

# protobuf's limit of one message, less what quantizing adds to a graph.
_LIMIT_BYTES = 1_900_000_000


@dataclass(frozen=True, kw_only=True)
class NetworkGraph:
    """The fp32 network of an artifact, self-contained and with the shapes of its tensors.

    ``weighted`` are the names of the nodes with weights, in their order, with the module that each is of, and
    ``weights`` the names of their tensors; ``inner`` are the nodes between the first and the last of them, themselves
    included; ``ends`` the weighted nodes with no other before them, or behind; ``tables`` those that look rows up, such
    as embeddings.
    """

    model: onnx.ModelProto
    weighted: Mapping[str, str]
    weights: Mapping[str, str]
    inner: tuple[str, ...]
    ends: tuple[str, ...]
    tables: tuple[str, ...]


def read_network(artifact: Artifact, *, with_tables: bool) -> NetworkGraph:
    """Return the network of an artifact's fp32 variant; its tables of floats have weights only ``with_tables``.

    Raises ConversionError where nothing in it can be quantized.
    """
    variant = artifact.manifest.variant(FULL_PRECISION)
    size_bytes = artifact.manifest.files[variant.weights_of_network].size_bytes
    if size_bytes > _LIMIT_BYTES:
        raise ConversionError(
            f"'{artifact.path}': too large to quantize: expected weights of at most {_LIMIT_BYTES} bytes, got "
            f"{size_bytes}. Use the fp32 variant."
        )
    for name in variant.files:
        artifact.file(name)
    model = onnx.load(artifact.path / variant.network)
    constants = {value.name: value for value in model.graph.initializer}
    tables = [
        node
        for node in model.graph.node
        if with_tables and node.op_type == "Gather" and _is_table(constants.get(node.input[0]))
    ]
    operators = [node for node in model.graph.node if node.op_type in WEIGHTED_OPERATORS and node.input[1] in constants]
    weights = {node.name: node.input[0] for node in tables} | {node.name: node.input[1] for node in operators}
    weighted = {
        node.name: _module_of(weights[node.name], node, model) for node in model.graph.node if node.name in weights
    }
    if not weighted:
        raise ConversionError(
            f"'{artifact.path}': nothing to quantize: expected a network with {', '.join(sorted(WEIGHTED_OPERATORS))} "
            "and constant weights, got none. Use the fp32 variant."
        )
    nodes = list(model.graph.node)
    before, behind = (_weighted_on_the_way(nodes, weighted, backwards=backwards) for backwards in (False, True))
    return NetworkGraph(
        model=onnx.shape_inference.infer_shapes(model),
        weighted=weighted,
        inner=tuple(node.name for node in nodes if before[node.name] and behind[node.name]),
        ends=tuple(name for name in weighted if before[name] == {name} or behind[name] == {name}),
        tables=tuple(node.name for node in tables),
        weights=weights,
    )


def write_graphs(artifact: Artifact, network: onnx.ModelProto, names: Variant) -> tuple[Variant, dict[str, bytes]]:
    """Return the variant, and its files by name: two graphs around a quantized ``network``, over one file of weights.

    The part of the ``model`` graph that prepares raw inputs is the fp32 variant's. Many tensors that are fp32's as well
    stay in its file alone. Where its graphs hold their own weights, so do these.
    """
    full = artifact.manifest.variant(FULL_PRECISION)
    own = onnx.ModelProto()
    own.CopyFrom(network)
    del own.graph.value_info[:]
    for tensor in own.graph.initializer:
        if not tensor.raw_data:  # typed fields take more room, and cannot move out
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    files = {}
    if (location := names.weights) is not None:
        weights = io.BytesIO()
        if _share_weights(artifact, own):
            names = msgspec.structs.replace(names, shared_weights=full.weights)
        write_weights(own, {}, weights, location)
        files[location] = weights.getvalue()
    files[names.network] = own.SerializeToString(deterministic=True)
    if full.model != full.network:
        raw = onnx.load(artifact.path / full.model)
        files[names.model] = _join(raw, own).SerializeToString(deterministic=True)
    return names, files


def with_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> bytes:
    """Return the network with more of its tensors as outputs."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    known = {value.name for value in (*shown.graph.output, *shown.graph.input)}
    types = {value.name: value for value in shown.graph.value_info}
    shown.graph.output.extend(
        types.get(name) or onnx.ValueInfoProto(name=name) for name in tensors if name not in known
    )
    return bytes(shown.SerializeToString())


def _share_weights(artifact: Artifact, own: onnx.ModelProto) -> bool:
    """Let tensors that are fp32's, by name and content, lie in its file, if they are many; return whether they do."""
    full = artifact.manifest.variant(FULL_PRECISION)
    data = artifact.file(full.weights or "").read_bytes()
    graph = artifact.read(full.network)
    stored = {tensor.name: tensor for tensor in external_tensors(graph, locations=(full.weights,))}
    same = []
    for tensor in own.graph.initializer:
        full_tensor, size = stored.get(tensor.name), len(tensor.raw_data)
        if full_tensor is None or full_tensor.kind != tensor.data_type:
            continue
        if data[full_tensor.offset : full_tensor.offset + size] == tensor.raw_data:
            same.append((tensor, full_tensor, size))
    if sum(size for *_, size in same) < _LEAST_SHARED * len(data):
        return False
    for tensor, full_tensor, size in same:
        refer_to(tensor, full_tensor.location, full_tensor.offset, size)
    return bool(same)


def _join(raw: onnx.ModelProto, network: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``network`` behind the nodes of ``raw`` that compute its inputs from raw ones."""
    needed = {value.name for value in network.graph.input}
    nodes = []
    for node in reversed(raw.graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= set(node.input) | outer_names(node)
    joined = onnx.ModelProto()
    joined.CopyFrom(network)
    del joined.graph.input[:], joined.graph.node[:]
    joined.graph.input.extend(raw.graph.input)
    joined.graph.node.extend([*reversed(nodes), *network.graph.node])
    known = {value.name for value in network.graph.initializer}
    joined.graph.initializer.extend(
        value for value in raw.graph.initializer if value.name in needed and value.name not in known
    )
    domains = {opset.domain for opset in joined.opset_import}
    joined.opset_import.extend(opset for opset in raw.opset_import if opset.domain not in domains)
    return joined


def _is_table(constant: onnx.TensorProto | None) -> bool:
    return constant is not None and constant.data_type == onnx.TensorProto.FLOAT and len(constant.dims) == 2


def _module_of(weight: str, node: onnx.NodeProto, model: onnx.ModelProto) -> str:
    """Return the module whose weight a node has, from the name that torch's exporter keeps; else the weight's name.

    The exporter turns some weights around, which then have no name: that of the bias which is added has the module.
    """
    if weight.endswith(".weight"):
        return weight.removesuffix(".weight")
    constants = {value.name for value in model.graph.initializer}
    for consumer in model.graph.node:
        if consumer.op_type == "Add" and node.output[0] in consumer.input:
            for name in constants.intersection(consumer.input):
                return str(name).removesuffix(".bias")
    return weight


def _weighted_on_the_way(
    nodes: Sequence[onnx.NodeProto], weighted: Collection[str], *, backwards: bool
) -> dict[str, set[str]]:
    """Return for each node the weighted nodes on the paths to it, or from it if ``backwards``, itself included."""
    passed: dict[str, set[str]] = {}
    found: dict[str, set[str]] = {}
    for node in reversed(nodes) if backwards else nodes:
        inputs, outputs = {*node.input} | outer_names(node), {*node.output}
        entries, exits = (outputs, inputs) if backwards else (inputs, outputs)
        own = {node.name} & set(weighted)
        found[node.name] = own.union(*(passed.get(name, set()) for name in entries))
        for name in exits:
            passed[name] = passed.get(name, set()) | found[node.name]
    return found
