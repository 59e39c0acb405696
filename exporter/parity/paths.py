"""Paths through an artifact, with access to their inner stages."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
import onnx
from numpy.typing import NDArray

from exporter.conversion.network_io import Arrays
from exporter.conversion.node_builder import outer_names
from exporter.errors import ParityError
from exporter.outputs.postprocessing import Postprocessing
from exporter.outputs.registry import open_reference
from exporter.parity.cases import (
    Case,
    ReferenceOutput,
    ReferenceValue,
    ServedPath,
    ServedStage,
    StageBorders,
    StageFunction,
    StageId,
)
from runtime.artifact.open import Artifact
from runtime.engine.session import Session, open_session
from runtime.evidence import Stage
from runtime.inputs.decoder import PreparedInput
from runtime.inputs.registry import largest_batch
from runtime.manifest import Manifest
from runtime.model import Model
from runtime.results import Failure, Result

# The path that the runtime itself takes: what is served.
RUNTIME = "runtime"

# What a stage may take from the reference, as arrays.
REFERENCE_VALUES: Mapping[ReferenceValue, StageFunction] = {
    "decoded": lambda reference: reference.prepared.decoded,
    "prepared": lambda reference: reference.prepared.arrays,
    "network inputs": lambda reference: {name: tensor.numpy() for name, tensor in reference.prepared.tensors.items()},
    "network outputs": lambda reference: reference.inner,
    "outputs": lambda reference: reference.outputs,
}


@dataclass(frozen=True, kw_only=True)
class Subgraph:
    """The part of a graph between tensors: from ``sources``, with their declared dimensions, to ``targets``.

    The dimensions are () where the graph or the first call knows them; ``takes`` is the reference's value that the
    sources are.
    """

    graph: str
    takes: ReferenceValue
    sources: Mapping[str, Sequence[int | str]]
    targets: Sequence[str]


class SubgraphCache:
    """Parts of an artifact's graphs as stages; equal parts of two graphs are loaded once, and have one id.

    All of them use the artifact's one copy of its weights. ``make_room`` is called before a part is loaded, which may
    bring the weights into another layout of its own.
    """

    def __init__(self, artifact: Artifact, make_room: Callable[[], None]) -> None:
        self._artifact = artifact
        self._make_room = make_room
        self._functions: dict[StageId, StageFunction] = {}
        self._sessions: dict[StageId, Session] = {}

    def release(self) -> None:
        """Free the loaded parts; they are loaded again when they are called."""
        self._sessions.clear()

    def stage(
        self,
        stage: Stage,
        subgraph: Subgraph,
        finish: Callable[[Arrays, ReferenceOutput], Arrays] | None = None,
    ) -> ServedStage:
        """Return the stage that a part of a graph computes, as the graph's own nodes run it.

        The part is loaded when it is first called. ``finish`` brings its outputs to the form of the reference's; it
        is the same for all graphs of an artifact.
        """
        graph = onnx.load_from_string(self._artifact.read(subgraph.graph))
        part = _part(graph, subgraph.sources, subgraph.targets)
        data = part.SerializeToString(deterministic=True)
        # Constants may be in another file, which the part then names.
        files = self._artifact.manifest.files
        used = "".join(files[name].sha256 for name in sorted(files) if name.encode() in data)
        stage_id = StageId(
            stage=stage,
            computation=hashlib.sha256(data + used.encode()).hexdigest(),
            takes=subgraph.takes,
            sources=tuple((name, tuple(dimensions)) for name, dimensions in subgraph.sources.items()),
        )
        if stage_id not in self._functions:
            self._functions[stage_id] = self._function(part, subgraph, stage_id)
        run = self._functions[stage_id]
        if finish is None:
            return ServedStage(id=stage_id, run=run)
        return ServedStage(id=stage_id, run=lambda reference: finish(run(reference), reference))

    def _function(self, part: onnx.ModelProto, subgraph: Subgraph, stage_id: StageId) -> StageFunction:
        take = REFERENCE_VALUES[subgraph.takes]

        def run(reference: ReferenceOutput) -> Arrays:
            arrays = take(reference)
            if stage_id not in self._sessions:
                _declare_inputs(part, subgraph.sources, arrays)
                self._sessions[stage_id] = self._open(part, subgraph.graph)
            return self._sessions[stage_id].run(arrays)

        return run

    def _open(self, part: onnx.ModelProto, graph: str) -> Session:
        self._make_room()
        stored = self._artifact.graph(graph, weights=self._artifact.manifest.variants[0].weights)
        data = part.SerializeToString(deterministic=True)
        return open_session(msgspec.structs.replace(stored, data=data), device="cpu")


def graph_stages(
    subgraphs: SubgraphCache, graph: str, manifest: Manifest, postprocessing: Postprocessing, borders: StageBorders
) -> dict[Stage, ServedStage]:
    """Return the stages inside a graph: arithmetic, where there is some; network; activation."""
    outputs = [output.name for output in manifest.outputs]

    def single(arrays: Arrays, _reference: ReferenceOutput) -> Arrays:
        return split_batch(arrays, manifest, 1)[0]

    stages: dict[Stage, ServedStage] = {}
    if borders.prepared:
        arithmetic = Subgraph(
            graph=graph, takes="prepared", sources=dict.fromkeys(borders.prepared, ()), targets=list(borders.network)
        )
        stages["arithmetic"] = subgraphs.stage("arithmetic", arithmetic)
    inner = list(postprocessing.inner_names) if postprocessing.computes else outputs
    network = Subgraph(graph=graph, takes="network inputs", sources=borders.network, targets=inner)
    if not postprocessing.computes:
        stages["network"] = subgraphs.stage("network", network, single)
        return stages
    stages["network"] = subgraphs.stage("network", network, up_to_end if postprocessing.stepwise else None)
    activation = Subgraph(graph=graph, takes="network outputs", sources=dict.fromkeys(inner, ()), targets=outputs)
    stages["activation"] = subgraphs.stage("activation", activation, single)
    return stages


def decode_stage(model: Model) -> ServedStage:
    """Return the stage from the encoded input to the inputs of the ``model`` graph, as the runtime decodes it."""

    def run(reference: ReferenceOutput) -> Arrays:
        return model.raw_arrays(model.decode(reference.case.data, subject=f"'{reference.case.name}'"))

    return host_stage("decode", run, takes="case")


def host_stage(stage: Stage, run: StageFunction, *, takes: ReferenceValue) -> ServedStage:
    """Return a stage that the runtime computes outside the graph."""
    return ServedStage(id=StageId(stage=stage, computation=RUNTIME, takes=takes), run=run)


def prepared_batch(model: Model, cases: Sequence[Case]) -> Arrays:
    """Return a batch of cases as the runtime prepares them for the ``network`` graph."""
    return model.stack([model.prepare(case.data, subject=f"'{case.name}'") for case in cases])


def runtime_path(model: Model, *, stages: Mapping[Stage, ServedStage], release: Callable[[], None]) -> ServedPath:
    """Return the path that ``predict`` takes, its results turned back into arrays; several cases share a batch."""
    manifest = model.manifest
    classes = max(1, len(model.labels))

    @lru_cache(largest_batch(manifest.inputs))
    def prepare(case: Case) -> PreparedInput:  # batches of every size hold the same cases
        prepared: PreparedInput = model.prepare(case.data, subject=f"'{case.name}'")
        return prepared

    def run(cases: Sequence[Case]) -> Sequence[Arrays]:
        if len(cases) == 1:
            results = [model.predict(cases[0].data, top_k=classes, threshold=0.0)]
        else:
            scores = model.score([prepare(case) for case in cases])
            results = [
                model.interpret(score, name=case.name, top_k=classes, threshold=0.0)
                for score, case in zip(scores, cases, strict=True)
            ]
        return [_scores_of(result, manifest) for result in results]

    def interpret(reference: ReferenceOutput) -> Arrays:
        (entry,) = model.split(reference.outputs, [model.prepare(reference.case.data)])
        return model.interpret(entry, name=reference.case.name).to_arrays()

    labels: dict[Stage, ServedStage] = {}
    if open_reference(manifest.task, ()).has_meaning:
        labels["labels"] = host_stage("labels", interpret, takes="outputs")
    return ServedPath(name=RUNTIME, device=model.device, stages={**stages, **labels}, run=run, release=release)


def split_batch(outputs: Arrays, manifest: Manifest, count: int) -> list[Arrays]:
    """Return the outputs of a batch of ``count`` as batches of one."""
    return open_reference(manifest.task, ()).split_batch(outputs, manifest.outputs, count)


def up_to_end(arrays: Arrays, reference: ReferenceOutput) -> Arrays:
    """Return the network's outputs as far as the reference has them: beyond its end token there is filling."""
    return {name: array[:, : reference.inner[name].shape[1]] for name, array in arrays.items()}


def _declare_inputs(
    part: onnx.ModelProto, sources: Mapping[str, Sequence[int | str]], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Declare the sources that are no inputs of the whole graph, with the element types that ``arrays`` have."""
    declared = {value.name for value in part.graph.input}
    for name, shape in sources.items():
        if name not in declared:
            array = arrays[name]
            dimensions = list(shape or ("batch", *(f"{name}_{axis}" for axis in range(1, array.ndim))))
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            part.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, dimensions))


def _part(
    model: onnx.ModelProto, sources: Mapping[str, Sequence[int | str]], targets: Sequence[str]
) -> onnx.ModelProto:
    """Return the nodes between tensors of a graph, with the weights that they need; sources inside it are no inputs."""
    nodes, needed = [], set(targets)
    for node in reversed(model.graph.node):
        if needed & set(node.output) and not set(node.output) <= set(sources):
            nodes.append(node)
            needed |= set(node.input) | outer_names(node)
    known = {value.name: value for value in (*model.graph.input, *model.graph.output)}
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del (
        part.graph.node[:],
        part.graph.initializer[:],
        part.graph.input[:],
        part.graph.output[:],
        part.graph.value_info[:],
    )
    part.graph.node.extend(reversed(nodes))
    part.graph.initializer.extend(value for value in model.graph.initializer if value.name in needed)
    part.graph.input.extend(known[name] for name in sources if name in known)
    part.graph.output.extend(known.get(name) or onnx.ValueInfoProto(name=name) for name in targets)
    return part


def _scores_of(result: Result, manifest: Manifest) -> Arrays:
    """Return the scores that a result was made of, as a batch of one."""
    if isinstance(result, Failure):
        raise ParityError(f"'{result.input}': the runtime refuses what the eager model takes: {result.error}")
    return open_reference(manifest.task, ()).scores_of(result, manifest.outputs)
