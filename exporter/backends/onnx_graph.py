"""Backend of the ONNX graphs: the whole path in standard operators, over one weights file."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import nn

from exporter.assemble import assemble, convert_network
from exporter.backends.backend import (
    TINY,
    CalibratedForm,
    LogitScales,
    NetworkSource,
    OpenArtifact,
    Scorer,
    WrittenForm,
    WrittenGraphs,
)
from exporter.bundle import Staging
from exporter.conversion.network_io import Arrays, name_of
from exporter.conversion.opsets import check_opset, versions_of
from exporter.conversion.to_onnx import IR_VERSION, LOG_FATAL, OPSET, ConvertedNetwork
from exporter.errors import ConversionError
from exporter.inputs.image import PixelFormat, geometry_nodes
from exporter.inputs.image.made_images import PixelSource
from exporter.inputs.image.pixel_check import GeometryFunction
from exporter.parity.cases import Case, ServedPath, ServedStage
from exporter.parity.paths import Subgraph, graph_stages, prepared_batch, split_batch
from exporter.progress import megabytes
from runtime.artifact.open import Artifact
from runtime.evidence import Stage
from runtime.geometry.arrays import Pixels
from runtime.manifest import LAYOUT, OnnxVersions, Preprocessing, Variant

title: str = "ONNX"
files: tuple[str, ...] = (LAYOUT.model, LAYOUT.network, LAYOUT.weights)

# protobuf's limit of one message, less what the graph takes beside its weights.
_LARGEST_FILE_BYTES = 1_900_000_000

# Names of the nodes and constants that a calibration adds begin so.
_CALIBRATION = "calibration"

# Operators that hold other graphs.
_BRANCHING = {"If", "Loop", "Scan"}


def write(stage: Staging, source: NetworkSource) -> WrittenForm:
    """Write the graphs and their weights.

    Raises ConversionError where torch cannot convert the network.
    """
    adapter, postprocessing, options = source.adapter, source.postprocessing, source.options
    if options.single_file:
        check_size(source.network)
    converted = convert_network(
        source.network, source.flat, postprocessing, source.inputs, probe=adapter.network_probe, opset=options.opset
    )
    outputs = postprocessing.with_shapes(converted.shapes)
    weights = None if options.single_file else LAYOUT.weights
    graphs = assemble(
        converted,
        adapter.raw_graph_part(),
        adapter.network_graph_part(),
        postprocessing,
        outputs,
        weights_file=None if weights is None else stage.folder / weights,
    )
    if options.opset is not None:
        check_opset(graphs.model, options.opset, name=type(source.network).__name__)
    if weights is not None:
        stage.add(weights)
    stage.write(LAYOUT.model, graphs.model.SerializeToString(deterministic=True))
    if options.opset is not None:
        check_loads(stage.folder / LAYOUT.model, options.opset, name=type(source.network).__name__)
    if graphs.network is not None:
        stage.write(LAYOUT.network, graphs.network.SerializeToString(deterministic=True))
    network = LAYOUT.network if graphs.network is not None else LAYOUT.model
    variant = Variant(precision="fp32", model=LAYOUT.model, network=network, weights=weights)
    versions = versions_of(graphs.model)
    size_bytes = sum(file.size_bytes for name, file in stage.files().items() if name in files)
    return WrittenForm(
        finding=f"{', '.join(variant.files)}, {megabytes(size_bytes)} ({_describe(converted, versions)})",
        graphs=WrittenGraphs(
            variant=variant,
            outputs=outputs,
            exporter=converted.exporter,
            fallback=converted.fallback,
            versions=versions,
        ),
    )


def _describe(converted: ConvertedNetwork, versions: OnnxVersions) -> str:
    """Return the exporter that converted a network, why it is not dynamo, and what runs the graphs."""
    exporter = f"legacy exporter, as dynamo failed: {converted.fallback}" if converted.fallback else converted.exporter
    return f"{exporter}, {versions.describe()}"


def check_loads(graph: Path, opset: int, *, name: str) -> None:
    """Raise ConversionError where the types of a graph of the network ``name`` are none that ``opset`` takes."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = LOG_FATAL
    try:
        onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class of its own for every status code
        # Without the code of the status, and the path of the folder that is being written.
        reason = " ".join(str(error).split()).rpartition(" : ")[2].rpartition("failed:")[2].rstrip(".")
        reason = reason.removeprefix("This is an invalid model. ")
        raise ConversionError(
            f"'{name}': opset {opset} cannot express it: {reason}. Pass a higher --opset, or leave it out."
        ) from error


def check_size(network: nn.Module) -> None:
    """Raise ConversionError for weights that do not fit into one file."""
    tensors = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    size_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if size_bytes > _LARGEST_FILE_BYTES:
        raise ConversionError(
            f"'{name_of(network)}': too large for --single-file: expected weights of at most "
            f"{megabytes(_LARGEST_FILE_BYTES)}, as ONNX files are protobuf messages of less than 2 GB, got "
            f"{megabytes(size_bytes)}. Leave the option out: the weights are then in a file of their own."
        )


def open_path(opened: OpenArtifact) -> ServedPath:
    """Return the path through the graph that takes raw inputs, as any ONNX runtime runs it."""
    model, borders = opened.model, opened.adapter.borders
    graph = model.manifest.variants[0].model
    stages: dict[Stage, ServedStage] = {}
    if borders.decoded:
        geometry = Subgraph(
            graph=graph, takes="decoded", sources=dict.fromkeys(borders.decoded, ()), targets=borders.prepared
        )
        stages["geometry"] = opened.subgraphs.stage("geometry", geometry)
    stages |= graph_stages(opened.subgraphs, graph, model.manifest, opened.postprocessing, borders)

    def run(cases: Sequence[Case]) -> Sequence[Arrays]:
        if borders.decoded:
            decoded = [opened.adapter.decode(case) for case in cases]
            arrays: Arrays = {name: np.concatenate([case[name] for case in decoded]) for name in borders.decoded}
        else:
            arrays = prepared_batch(model, cases)
        return split_batch(model.run(arrays), model.manifest, len(cases))

    return ServedPath(name=graph, stages=stages, run=run, release=opened.release)


def has_branches(artifact: Artifact) -> bool:
    """Return whether the graph that takes prepared inputs chooses by values what it computes."""
    graph = onnx.load_from_string(artifact.read(artifact.manifest.variants[0].network)).graph
    return any(node.op_type in _BRANCHING for node in graph.node)


def run_unoptimized(artifact: Artifact, arrays: Arrays) -> Arrays:
    """Return the outputs of the graph that takes prepared inputs, as onnxruntime runs it without optimizations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        str(artifact.path / artifact.manifest.variants[0].network), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(arrays)), strict=True))


def read_weights(artifact: Artifact) -> Mapping[str, Mapping[str, NDArray[Any]]]:
    """Return the constants of each graph; the large ones are in the artifact's one copy of its weights."""
    variant = artifact.manifest.variants[0]
    graphs = {
        name: artifact.graph(name, weights=variant.weights) for name in dict.fromkeys((variant.model, variant.network))
    }
    weights = graphs[variant.model].weights  # of both graphs, mapped once
    return {
        name: dict(_constants_of(onnx.load_from_string(stored.data).graph, weights)) for name, stored in graphs.items()
    }


def open_geometry(steps: Preprocessing, pixels: PixelFormat) -> GeometryFunction:
    """Return the geometry's nodes as a graph of their own."""
    wide = pixels.dtype == "uint16"
    kind = onnx.TensorProto.UINT16 if wide else onnx.TensorProto.UINT8
    nodes = geometry_nodes(steps, image="image", pixels="pixels", wide=wide)
    values = [
        helper.make_tensor_value_info(name, kind, ["batch", f"{name}_height", f"{name}_width", channels])
        for name, channels in (("image", pixels.channels), ("pixels", "channels"))
    ]
    graph = helper.make_graph(nodes.nodes, "geometry", values[:1], values[1:], list(nodes.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def prepare(image: PixelSource) -> Pixels:
        array = np.asarray(image)
        batch = (array if array.ndim == 3 else array[:, :, np.newaxis])[np.newaxis]
        prepared: Pixels = session.run(None, {"image": batch})[0][0]
        return prepared

    return prepare


def open_scorer(_artifact: Artifact, _device: torch.device) -> Scorer | None:
    """Return None: the runtime runs the graphs."""
    return None


def calibrate(artifact: Artifact, scales: LogitScales) -> CalibratedForm:
    """Return the graphs with their logits multiplied by ``scales``."""
    variant, output = artifact.manifest.variants[0], artifact.manifest.outputs[0].name
    graphs = dict.fromkeys((variant.model, variant.network))
    return CalibratedForm(
        files={name: scale_graph(artifact.file(name).read_bytes(), scales, output=output) for name in graphs}
    )


def scale_graph(data: bytes, scales: LogitScales, *, output: str) -> bytes:
    """Return a graph whose logits are multiplied by ``scales`` before the operator that computes ``output`` of them.

    Where the network itself ends in probabilities, their logarithms are scaled instead.
    """
    model = onnx.load_from_string(data)
    graph = model.graph
    scales_name = f"{_CALIBRATION}/scales"
    known = next((value for value in graph.initializer if value.name == scales_name), None)
    if known is not None:
        product = (numpy_helper.to_array(known) * scales.values).astype(np.float32)
        known.CopyFrom(numpy_helper.from_array(product, scales_name))
        return bytes(model.SerializeToString(deterministic=True))
    constants: dict[str, Any] = {scales_name: scales.values.astype(np.float32)}
    index, last = next((index, node) for index, node in enumerate(graph.node) if output in node.output)
    if last.op_type in ("Softmax", "Sigmoid"):
        scaled = f"{_CALIBRATION}/scaled"
        product_node = helper.make_node("Mul", [last.input[0], scales_name], [scaled], name=f"{_CALIBRATION}/scale")
        last.input[0] = scaled
        graph.node.insert(index, product_node)
    else:
        constants[f"{_CALIBRATION}/tiny"] = np.float32(TINY)
        if scales.sigmoid:
            constants[f"{_CALIBRATION}/one"] = np.float32(1)
        last.output[0] = f"{_CALIBRATION}/probabilities"
        graph.node.extend(_rescaled_probabilities(last.output[0], scales_name, output, sigmoid=scales.sigmoid))
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    return bytes(model.SerializeToString(deterministic=True))


def _constants_of(graph: onnx.GraphProto, weights: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the constants of a graph and of those inside it, by name; ``weights`` are the bytes of the large ones."""
    for tensor in graph.initializer:
        yield tensor.name, _array_of(tensor, weights)
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.HasField("t"):
                yield node.output[0], _array_of(attribute.t, weights)
            for inner in (attribute.g, *attribute.graphs):
                yield from _constants_of(inner, weights)


def _array_of(tensor: onnx.TensorProto, weights: NDArray[np.uint8]) -> NDArray[Any]:
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return numpy_helper.to_array(tensor)
    place = {entry.key: entry.value for entry in tensor.external_data}
    start, size = int(place.get("offset", 0)), int(place["length"])
    array: NDArray[Any] = weights[start : start + size].view(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    return array.reshape(tuple(tensor.dims))


def _rescaled_probabilities(
    probabilities: str, scales_name: str, output: str, *, sigmoid: bool
) -> list[onnx.NodeProto]:
    """Return nodes that compute logits from probabilities, scale them, and compute probabilities again."""
    numbers = iter(range(8))
    nodes: list[onnx.NodeProto] = []

    def add(operator: str, *inputs: str) -> str:
        name = f"{_CALIBRATION}/{next(numbers)}"
        nodes.append(helper.make_node(operator, list(inputs), [name], name=name))
        return name

    tiny, scaled, last = f"{_CALIBRATION}/tiny", f"{_CALIBRATION}/scaled", f"{_CALIBRATION}/postprocessing"
    logits = add("Log", add("Max", probabilities, tiny))
    if sigmoid:
        rest = add("Sub", f"{_CALIBRATION}/one", probabilities)
        logits = add("Sub", logits, add("Log", add("Max", rest, tiny)))
    nodes.append(helper.make_node("Mul", [logits, scales_name], [scaled], name=f"{_CALIBRATION}/scale"))
    nodes.append(
        helper.make_node("Sigmoid", [scaled], [output], name=last)
        if sigmoid
        else helper.make_node("Softmax", [scaled], [output], name=last, axis=-1)
    )
    return nodes
