"""Paths through an artifact, with access to their inner stages."""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from exporter.conversion.node_builder import outer_names
from exporter.conversion.to_torchscript import load_torchscript
from exporter.errors import ParityError
from exporter.outputs.postprocessing import Postprocessing
from exporter.outputs.registry import open_reference
from exporter.parity.cases import Arrays, Case, ReferenceOutput, ServedPath, StageFunction
from runtime.engine.session import Session, open_session
from runtime.evidence import Stage
from runtime.manifest import Manifest, Raw, Tokens
from runtime.model import Model
from runtime.results import Failure, Result, result_to_arrays, split, until_end

# Tensors that a part of a graph begins with, and their dimensions, or () where the graph or the first call tells them.
Sources: TypeAlias = Mapping[str, Sequence[int | str]]


# The path that the runtime itself takes: what is served.
RUNTIME = "runtime"


def arrays_of(answer: ReferenceOutput) -> Arrays:
    """Return what the reference prepared, as the graphs take it."""
    return answer.prepared.arrays


def inputs_of(answer: ReferenceOutput) -> Arrays:
    """Return the network's inputs."""
    return {name: tensor.numpy() for name, tensor in answer.prepared.tensors.items()}


def inner_of(answer: ReferenceOutput) -> Arrays:
    """Return the network's own outputs."""
    return answer.inner


class SubgraphCache:
    """Parts of an artifact's graphs as functions; equal parts of two graphs are one function."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self._folder = folder
        self._scratch = scratch
        self._functions: dict[str, StageFunction] = {}

    def stage(
        self, graph: str, take: Callable[[ReferenceOutput], Arrays], sources: Sources, targets: Sequence[str]
    ) -> StageFunction:
        """Return the stage from tensors of a graph, given by ``take``, to others behind them, as its own nodes run it.

        The part is loaded when it is first called.
        """
        model = _part(onnx.load(self._folder / graph, load_external_data=False), sources, targets)
        key = f"{hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()} {take.__name__} {sources}"
        if key not in self._functions:
            self._functions[key] = self._function(model, take, sources)
        return self._functions[key]

    def _function(
        self, model: onnx.ModelProto, take: Callable[[ReferenceOutput], Arrays], sources: Sources
    ) -> StageFunction:
        opened: list[Session] = []

        def run(answer: ReferenceOutput) -> Arrays:
            arrays = take(answer)
            if not opened:
                declared = {value.name for value in model.graph.input}
                for name, shape in sources.items():
                    if name not in declared:
                        array = arrays[name]
                        dimensions = list(shape or ("batch", *(f"{name}_{axis}" for axis in range(1, array.ndim))))
                        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
                        model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, dimensions))
                opened.append(self._open(model))
            return opened[0].run(arrays)

        return run

    def _open(self, model: onnx.ModelProto) -> Session:
        place = self._scratch / f"part{len(list(self._scratch.iterdir()))}.onnx"
        place.write_bytes(model.SerializeToString(deterministic=True))
        external = [entry for value in model.graph.initializer for entry in value.external_data]
        for name in {entry.value for entry in external if entry.key == "location"}:
            self._link_weights(name)
        return open_session(place, device="cpu")

    def _link_weights(self, name: str) -> None:
        """Put a file of weights beside the parts: the same one, where the file system can do that."""
        if (self._scratch / name).exists():
            return
        try:
            os.link(self._folder / name, self._scratch / name)
        except OSError:
            shutil.copyfile(self._folder / name, self._scratch / name)


def graph_stages(
    cuts: SubgraphCache,
    graph: str,
    model: Model,
    postprocessing: Postprocessing,
    *,
    inputs: Sources,
    raw: Sequence[str] = (),
) -> dict[Stage, StageFunction]:
    """Return the stages inside a graph: arithmetic, from the inputs ``raw`` on; network; activation.

    ``inputs`` are the network's.
    """
    outputs = [output.name for output in model.manifest.outputs]
    stages: dict[Stage, StageFunction] = {}
    if raw:
        stages["arithmetic"] = cuts.stage(graph, arrays_of, dict.fromkeys(raw, ()), list(inputs))
    if not postprocessing.computes:
        whole = cuts.stage(graph, inputs_of, inputs, outputs)
        stages["network"] = lambda answer: split_batch(whole(answer), model.manifest, 1)[0]
        return stages
    names = list(postprocessing.inner_names)
    inner = cuts.stage(graph, inputs_of, inputs, names)
    stages["network"] = inner
    if isinstance(model.manifest.task, Tokens):
        stages["network"] = lambda answer: {
            name: array[:, : answer.inner[name].shape[1]] for name, array in inner(answer).items()
        }
    last = cuts.stage(graph, inner_of, dict.fromkeys(names, ()), outputs)
    stages["activation"] = lambda answer: split_batch(last(answer), model.manifest, 1)[0]
    return stages


def decode_stage(model: Model) -> StageFunction:
    """Return the stage from the encoded input to the arrays of the whole path, as the runtime decodes it."""
    return lambda answer: model.whole(model.decode(answer.case.data, subject=f"'{answer.case.name}'"))


def onnx_path(
    name: str,
    model: Model,
    *,
    stages: Mapping[Stage, StageFunction],
    raw: Callable[[Case], Arrays] | None = None,
) -> ServedPath:
    """Return the path through the graph that takes raw inputs, as any ONNX runtime would run it.

    ``raw`` gives the graph's arrays for a case; by default the runtime's decoder does.
    """

    def decode(case: Case) -> Arrays:
        return model.whole(model.decode(case.data, subject=f"'{case.name}'"))

    def run(cases: Sequence[Case]) -> Sequence[Arrays]:
        whole = [(raw or decode)(case) for case in cases]
        stacked = {key: np.concatenate([one[key] for one in whole]) for key in whole[0]}
        return split_batch(model.run(stacked), model.manifest, len(cases))

    return ServedPath(name=name, stages=stages, run=run)


def runtime_path(model: Model, *, stages: Mapping[Stage, StageFunction]) -> ServedPath:
    """Return the path that ``predict`` takes, its results turned back into arrays; several cases share a batch."""
    manifest = model.manifest
    classes = max(1, len(model.labels))
    batched = frozenset(output.name for output in manifest.outputs if output.batched)

    def run(cases: Sequence[Case]) -> Sequence[Arrays]:
        if len(cases) == 1:
            results = [model.predict(cases[0].data, top_k=classes, threshold=0.0)]
        else:
            scores = model.score([model.prepare(case.data, subject=f"'{case.name}'") for case in cases])
            results = [
                model.interpret(one, name=case.name, top_k=classes, threshold=0.0)
                for one, case in zip(scores, cases, strict=True)
            ]
        return [_scores_of(result, manifest) for result in results]

    def interpret(answer: ReferenceOutput) -> Arrays:
        (entry,) = split(manifest.task, answer.outputs, batched=batched, count=1)
        return result_to_arrays(model.interpret(entry, name=answer.case.name))

    labels: dict[Stage, StageFunction] = {} if isinstance(manifest.task, Raw) else {"labels": interpret}
    return ServedPath(name=RUNTIME, device=model.device, stages={**stages, **labels}, run=run)


def torchscript_path(
    path: Path,
    postprocessing: Postprocessing,
    manifest: Manifest,
    *,
    inputs: Callable[[Case], Mapping[str, torch.Tensor]],
    stages: Mapping[Stage, StageFunction],
) -> ServedPath:
    """Return the path through a TorchScript archive, whose forward takes ``inputs`` of a case by position."""
    module = load_torchscript(path)

    def run(cases: Sequence[Case]) -> Sequence[Arrays]:
        given = [inputs(case) for case in cases]
        with torch.no_grad():
            found = module(*(torch.cat([one[name] for one in given]) for name in given[0]))
        values = found if isinstance(found, tuple) else (found,)
        outputs = {output.name: value.numpy() for output, value in zip(postprocessing.outputs, values, strict=True)}
        return split_batch(outputs, manifest, len(cases))

    return ServedPath(name=path.name, stages=stages, run=run)


def split_batch(outputs: Arrays, manifest: Manifest, count: int) -> list[dict[str, NDArray[Any]]]:
    """Return a batch's outputs as batches of one; what has no batch dimension belongs to each.

    Token sequences end with their own end token, not with the batch's longest.
    """
    if isinstance(task := manifest.task, Tokens):
        return [
            {name: until_end(array[row], task.end_id)[np.newaxis] for name, array in outputs.items()}
            for row in range(count)
        ]
    batched = {output.name for output in manifest.outputs if output.batched}
    return [
        {name: array[row : row + 1] if name in batched else array for name, array in outputs.items()}
        for row in range(count)
    ]


def _part(model: onnx.ModelProto, sources: Sources, targets: Sequence[str]) -> onnx.ModelProto:
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
