"""Comparison of two ONNX graphs: tensors and nodes."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from runtime.artifact.diff.values import LISTED, Difference, show, values_of
from runtime.artifact.difference import largest_difference
from runtime.artifact.open import Artifact
from runtime.engine.onnx_reader import Graph, Node, Tensor, describe, read_graph
from runtime.manifest import Variant


def in_graphs(first: Artifact, second: Artifact) -> Iterable[Difference]:
    """Yield the tensors and nodes that differ in graphs of the same use; a difference in both graphs once."""
    seen: set[tuple[str, str, str]] = set()
    for variants in zip(first.manifest.variants, second.manifest.variants, strict=False):
        sides = tuple(zip((first, second), variants, strict=True))
        weights = {
            tuple(artifact.manifest.files[name].sha256 for name in variant.graph_files(variant.network)[1:])
            for artifact, variant in sides
        }
        for use in ("network", "model"):
            names = [getattr(variant, use) for variant in variants]
            digests = [
                artifact.manifest.files[name].sha256 for artifact, name in zip((first, second), names, strict=True)
            ]
            if digests[0] == digests[1] and len(weights) == 1:
                continue
            graphs = (_read(artifact, variant, use) for artifact, variant in sides)
            for difference in _in_graph(names[0], tuple(graphs), digests):
                key = (difference.path, difference.first, difference.second)
                if key not in seen:
                    seen.add(key)
                    yield difference


def _read(artifact: Artifact, variant: Variant, use: str) -> Graph:
    return read_graph(*map(artifact.file, variant.graph_files(getattr(variant, use))))


def _in_graph(name: str, graphs: Sequence[Graph], digests: Sequence[str]) -> Sequence[Difference]:
    differences = [*_in_tensors(*graphs), *_in_nodes(name, *graphs)]
    if differences or digests[0] == digests[1]:
        return differences
    return [
        Difference(
            part="files",
            path=f"{name}: the same tensors and nodes in other bytes",
            first=digests[0][:8],
            second=digests[1][:8],
        )
    ]


def _in_tensors(first: Graph, second: Graph) -> Iterable[Difference]:
    missing = {name: tensor for name, tensor in first.tensors.items() if name not in second.tensors}
    added = {name: tensor for name, tensor in second.tensors.items() if name not in first.tensors}
    # Exporters choose the names of tensors: the same values under another name are the same weights.
    for name, tensor in list(missing.items()):
        twin = next((key for key, value in added.items() if value.digest == tensor.digest), None)
        if twin is not None:
            del missing[name], added[twin]
    changed = [
        (tensor, second.tensors[name])
        for name, tensor in first.tensors.items()
        if name in second.tensors and second.tensors[name].digest != tensor.digest
    ]
    total = len(first.tensors)
    for path, described, other in (
        *((f"tensor '{before.name}'", *_in_values(before, after)) for before, after in changed[:LISTED]),
        *((f"tensor '{name}'", describe(tensor), "") for name, tensor in list(missing.items())[:LISTED]),
        *((f"tensor '{name}'", "", describe(tensor)) for name, tensor in list(added.items())[:LISTED]),
    ):
        yield Difference(part="weights", path=path, first=described, second=other)
    rest = sum(max(0, len(group) - LISTED) for group in (changed, missing, added))
    if rest:
        yield Difference(part="weights", path=f"{rest} more of {total} tensors", first="", second="also differ")


def _in_values(first: Tensor, second: Tensor) -> tuple[str, str]:
    before, after = first.array(), second.array()
    if (
        before is None
        or after is None
        or before.shape != after.shape
        or before.dtype != after.dtype
        or before.size <= 8
    ):
        return describe(first), describe(second)
    unequal = before != after
    if before.dtype.kind == "f":
        unequal &= ~(np.isnan(before) & np.isnan(after))
    count = int(unequal.sum())
    return describe(first), f"{count} of {before.size} values differ, by up to {largest_difference(before, after):.2g}"


def _in_nodes(file: str, first: Graph, second: Graph) -> Iterable[Difference]:
    """Yield the operators of which one graph has more; where there are none, the nodes that differ."""
    counts = Counter(node.operator for node in first.nodes), Counter(node.operator for node in second.nodes)
    if counts[0] != counts[1]:
        for operator in sorted({*counts[0], *counts[1]}):
            before, after = counts[0][operator], counts[1][operator]
            if before != after:
                path = f"{file}, {operator} nodes"
                yield Difference(part="graph", path=path, first=str(before), second=str(after))
        return
    differing = [
        (node, other) for node, other in zip(first.nodes, second.nodes, strict=True) if _work(node) != _work(other)
    ]
    for node, other in differing[:LISTED]:
        path = f"{file}, {node.operator} '{node.name}'"
        if node.operator != other.operator:
            yield Difference(part="graph", path=path, first=node.operator, second=other.operator)
        elif node.attributes != other.attributes:
            yield from values_of("graph", path, node.attributes, other.attributes)
        else:
            yield Difference(part="graph", path=f"{path}, inputs", first=show(node.inputs), second=show(other.inputs))
    if len(differing) > LISTED:
        rest = len(differing) - LISTED
        yield Difference(part="graph", path=f"{file}, {rest} more nodes", first="", second="also differ")


def _work(node: Node) -> tuple[str, dict[str, str], tuple[str, ...]]:
    return node.operator, node.attributes, node.inputs
