"""The ways an artifact runs, behind one face, each with its inner stages within reach."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from exporter.endings import Ending
from exporter.errors import ParityError
from exporter.fronts.protocol import Case, Prepared
from exporter.to_torchscript import load_torchscript
from runtime.manifest import Classify, Manifest, Multilabel, Regress, Segment, Tokens
from runtime.model import Model
from runtime.results import Estimate, Failure, LabelSet, Outputs, Prediction, Result, TokenSequence, until_end
from runtime.session import open_session

Arrays: TypeAlias = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class ServedPath:
    """One way to run the artifact, as functions; a stage that it has not is None.

    ``prepare`` takes a case and gives its prepared arrays. ``normalize`` takes the reference's prepared arrays and
    gives the network's inputs; ``score`` takes what the reference prepared and gives the outputs. ``run`` goes the
    whole way for cases that may share a batch. All arrays have a batch dimension, of one but for ``run``.
    """

    name: str
    prepared_as: Literal["geometry", "tokens"] = "geometry"
    prepare: Callable[[Case], Arrays] | None
    normalize: Callable[[Arrays], Arrays] | None
    score: Callable[[Prepared], Arrays] | None
    run: Callable[[Sequence[Case]], Sequence[Arrays]]


def onnx_path(
    name: str,
    model: Model,
    *,
    raw: Callable[[Case], Arrays] | None = None,
    prepare: Callable[[Case], Arrays] | None = None,
    normalize: Callable[[Arrays], Arrays] | None = None,
    score: Callable[[Prepared], Arrays] | None = None,
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

    return ServedPath(name=name, prepare=prepare, normalize=normalize, score=score, run=run)


def runtime_path(
    model: Model,
    *,
    source: Callable[[Case], Any] = lambda case: case.data,
    prepare: Callable[[Case], Arrays] | None = None,
    normalize: Callable[[Arrays], Arrays] | None = None,
    score: Callable[[Prepared], Arrays] | None = None,
) -> ServedPath:
    """Return the path that ``predict`` takes for ``source`` of a case, its results turned back into arrays."""

    def run(cases: Sequence[Case]) -> Sequence[Arrays]:
        results = model.predict([source(case) for case in cases], top_k=max(1, len(model.labels)), threshold=0.0)
        return [_arrays_of(result, model.manifest) for result in results]

    return ServedPath(name="runtime", prepare=prepare, normalize=normalize, score=score, run=run)


def torchscript_path(
    path: Path,
    ending: Ending,
    manifest: Manifest,
    *,
    inputs: Callable[[Case], Mapping[str, torch.Tensor]],
    prepare: Callable[[Case], Arrays] | None = None,
    normalize: Callable[[Arrays], Arrays] | None = None,
    score: Callable[[Prepared], Arrays] | None = None,
) -> ServedPath:
    """Return the path through a TorchScript archive, whose forward takes ``inputs`` of a case by position."""
    module = load_torchscript(path)

    def run(cases: Sequence[Case]) -> Sequence[Arrays]:
        given = [inputs(case) for case in cases]
        with torch.no_grad():
            found = module(*(torch.cat([one[name] for one in given]) for name in given[0]))
        values = found if isinstance(found, tuple) else (found,)
        outputs = {output.name: value.numpy() for output, value in zip(ending.outputs, values, strict=True)}
        return split_batch(outputs, manifest, len(cases))

    return ServedPath(name=path.name, prepare=prepare, normalize=normalize, score=score, run=run)


def cut(
    graph: Path,
    sources: Sequence[str],
    targets: Sequence[str],
    scratch: Path,
    *,
    shapes: Mapping[str, Sequence[int | str]] | None = None,
) -> Callable[[Arrays], Arrays]:
    """Return a function from tensors of a graph to others behind them, run as the graph's own nodes.

    Weights are read only where the nodes between need them. ``shapes`` are those of sources inside the graph, float32.
    """
    model = onnx.load(graph, load_external_data=False)
    nodes, needed = [], set(targets)
    for node in reversed(model.graph.node):
        if needed & set(node.output) and not set(node.output) <= set(sources):
            nodes.append(node)
            needed |= set(node.input) | _captured(node)
    known = {value.name: value for value in (*model.graph.input, *model.graph.output)}
    weights = [value for value in model.graph.initializer if value.name in needed]
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.node[:], part.graph.initializer[:], part.graph.input[:], part.graph.output[:]
    part.graph.node.extend(reversed(nodes))
    part.graph.initializer.extend(weights)
    for name in sources:
        shape = list((shapes or {}).get(name, ()))
        part.graph.input.append(
            known.get(name) or onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        )
    part.graph.output.extend(known.get(name) or onnx.ValueInfoProto(name=name) for name in targets)
    onnx.load_external_data_for_model(part, str(graph.parent))
    path = scratch / f"{graph.stem}.{len(list(scratch.iterdir()))}.onnx"
    onnx.save(part, path)
    session = open_session(path, device="cpu")
    return session.run


def split_batch(outputs: Arrays, manifest: Manifest, count: int) -> list[dict[str, NDArray[Any]]]:
    """Return a batch's outputs as batches of one; what has no batch dimension belongs to each.

    Token sequences end with their own end token, not with the batch's longest.
    """
    if isinstance(task := manifest.task, Tokens):
        return [
            {name: until_end(array[row], task.end_id)[np.newaxis] for name, array in outputs.items()}
            for row in range(count)
        ]
    batched = {output.name for output in manifest.outputs if output.shape and output.shape[0] == "batch"}
    return [
        {name: array[row : row + 1] if name in batched else array for name, array in outputs.items()}
        for row in range(count)
    ]


def _captured(node: onnx.NodeProto) -> set[str]:
    """Return the names that a node's inner graphs take from outside."""
    names: set[str] = set()
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names |= set(inner.input) | _captured(inner)
            names |= {value.name for value in graph.output}
    return names


def _arrays_of(result: Result, manifest: Manifest) -> Arrays:
    """Return the scores that a result was made of, as a batch of one."""
    if isinstance(result, Failure):
        raise ParityError(f"'{result.input}': the runtime refuses what the eager model takes: {result.error}")
    output, task = manifest.outputs[0], manifest.task
    match result:
        case Prediction() | LabelSet():
            assert isinstance(task, Classify | Multilabel)
            scored = result.top if isinstance(result, Prediction) else result.labels
            scores = np.full((1, task.labels.count), np.nan, dtype=np.float32)
            for one in scored:
                scores[0, one.index] = one.probability
            return {output.name: scores}
        case Estimate():
            assert isinstance(task, Regress)
            numbers = [result.values[value.name] for value in task.values]
            return {output.name: np.array([numbers], dtype=np.float32)}
        case TokenSequence():
            assert isinstance(task, Tokens)
            return {output.name: np.array([result.tokens], dtype=np.int64)}
        case Outputs():
            batched = {one.name for one in manifest.outputs if one.shape and one.shape[0] == "batch"}
            found: dict[str, NDArray[Any]] = {}
            _collect(result.outputs, iter(manifest.outputs), found)
            return {name: array[np.newaxis] if name in batched else array for name, array in found.items()}
        case _:
            assert isinstance(task, Segment)
            # The map alone is left of the probabilities: it is what is compared.
            return {output.name: result.label_map[np.newaxis]}


def _collect(value: Any, outputs: Any, found: dict[str, NDArray[Any]]) -> None:
    """Put a raw answer's arrays under their outputs' names; both are in the order of the structure."""
    if isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            _collect(entry, outputs, found)
    else:
        found[next(outputs).name] = value
