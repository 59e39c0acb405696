"""Two ONNX graphs beside each other: their tensors, and the nodes that work on them."""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from runtime.artifact.diff.values import LISTED, Difference, largest, show, values_of
from runtime.artifact.open import Artifact
from runtime.engine.onnx_reader import Graph, Node, Tensor, describe, read_graph


def in_graphs(one: Artifact, other: Artifact) -> Iterable[Difference]:
    """Give the tensors and nodes that differ, of graphs of the same use; what two graphs share is told once."""
    seen: set[tuple[str, str, str]] = set()
    for before, after in zip(one.manifest.variants, other.manifest.variants, strict=False):
        for use in dict.fromkeys(("network", "model")):
            names = [getattr(variant, use) for variant in (before, after)]
            digests = [artifact.manifest.files[name].sha256 for artifact, name in zip((one, other), names, strict=True)]
            weights = [
                artifact.manifest.files[variant.weights].sha256 for artifact, variant in ((one, before), (other, after))
            ]
            if digests[0] == digests[1] and weights[0] == weights[1]:
                continue
            first, second = (
                read_graph(artifact.file(getattr(variant, use)), artifact.file(variant.weights))
                for artifact, variant in ((one, before), (other, after))
            )
            found = [*_in_tensors(first, second), *_in_nodes(names[0], first, second)]
            if not found and digests[0] != digests[1]:
                found = [
                    Difference(
                        part="files",
                        place=f"{names[0]}: the same tensors and nodes in other bytes",
                        first=digests[0][:8],
                        second=digests[1][:8],
                    )
                ]
            for difference in found:
                key = (difference.place, difference.first, difference.second)
                if key not in seen:
                    seen.add(key)
                    yield difference


def _in_tensors(first: Graph, second: Graph) -> Iterable[Difference]:
    missing = {name: tensor for name, tensor in first.tensors.items() if name not in second.tensors}
    added = {name: tensor for name, tensor in second.tensors.items() if name not in first.tensors}
    # Exporters name tensors as they like: the same values under another name are no other weights.
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
    for place, before, after in (
        *((f"tensor '{one.name}'", *_two_tensors(one, other)) for one, other in changed[:LISTED]),
        *((f"tensor '{name}'", describe(tensor), "") for name, tensor in list(missing.items())[:LISTED]),
        *((f"tensor '{name}'", "", describe(tensor)) for name, tensor in list(added.items())[:LISTED]),
    ):
        yield Difference(part="weights", place=place, first=before, second=after)
    rest = sum(max(0, len(group) - LISTED) for group in (changed, missing, added))
    if rest:
        yield Difference(part="weights", place=f"{rest} more of {total} tensors", first="", second="differ, too")


def _two_tensors(first: Tensor, second: Tensor) -> tuple[str, str]:
    one, other = first.array(), second.array()
    if one is None or other is None or one.shape != other.shape or one.dtype != other.dtype or one.size <= 8:
        return describe(first), describe(second)
    unequal = one != other
    if one.dtype.kind == "f":
        unequal &= ~(np.isnan(one) & np.isnan(other))
    return describe(first), f"{int(unequal.sum())} of {one.size} values differ, by up to {largest(one, other):.2g}"


def _in_nodes(file: str, first: Graph, second: Graph) -> Iterable[Difference]:
    """Give the operators that one has more of, else the first node that is another."""
    counts = Counter(node.operator for node in first.nodes), Counter(node.operator for node in second.nodes)
    if counts[0] != counts[1]:
        for operator in sorted({*counts[0], *counts[1]}):
            before, after = counts[0][operator], counts[1][operator]
            if before != after:
                place = f"{file}, {operator} nodes"
                yield Difference(part="graph", place=place, first=str(before), second=str(after))
        return
    differing = [
        (one, other) for one, other in zip(first.nodes, second.nodes, strict=True) if _work(one) != _work(other)
    ]
    for one, other in differing[:LISTED]:
        place = f"{file}, {one.operator} '{one.name}'"
        if one.operator != other.operator:
            yield Difference(part="graph", place=place, first=one.operator, second=other.operator)
        elif one.attributes != other.attributes:
            yield from values_of("graph", place, one.attributes, other.attributes)
        else:
            yield Difference(part="graph", place=f"{place}, inputs", first=show(one.inputs), second=show(other.inputs))
    if len(differing) > LISTED:
        rest = len(differing) - LISTED
        yield Difference(part="graph", place=f"{file}, {rest} more nodes", first="", second="differ, too")


def _work(node: Node) -> tuple[str, dict[str, str], tuple[str, ...]]:
    return node.operator, node.attributes, node.inputs
