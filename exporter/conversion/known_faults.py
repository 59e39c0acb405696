"""Known faults of onnxruntime, and the rewrite of a graph that avoids each one.

A rewrite means the same in ONNX, and is part of the artifact: ``model.onnx`` is right with any options of a session.
A test plants each fault without its rewrite, and fails once onnxruntime no longer has it: its row then goes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import onnx
from onnx import helper


@dataclass(frozen=True, kw_only=True)
class KnownFault:
    """One fault: what is wrong, the latest version that was seen to have it, and the rewrite of one graph.

    ``optimizer`` is onnxruntime's name of the pass at fault.
    """

    optimizer: str
    seen_in: str
    about: str
    rewrite: Callable[[onnx.GraphProto], None]


def avoid_known_faults(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model, rewritten so that onnxruntime computes what ONNX defines."""
    for graph in _graphs_of(model.graph):
        for fault in KNOWN_FAULTS:
            fault.rewrite(graph)
    return model


def _keep_pads_of_max_pools(graph: onnx.GraphProto) -> None:
    """Write MaxPool after Pad in a form that Pad_Fusion leaves alone.

    A MaxPool pads with minus infinity, and 'VALID' says that it has no padding. With padding of its own, or sizes that
    are rounded up, its second output keeps the two apart.
    """
    producers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type != "MaxPool" or not _follows_pad(node, producers):
            continue
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or len(node.output) > 1:
            continue
        if any(attributes.get("pads", ())) or attributes.get("ceil_mode"):
            node.output.append(f"{node.output[0]}/indices")
            continue
        kept = [attribute for attribute in node.attribute if attribute.name not in ("pads", "auto_pad")]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute("auto_pad", "VALID")])


def _follows_pad(node: onnx.NodeProto, producers: dict[str, onnx.NodeProto]) -> bool:
    before = producers.get(node.input[0])
    while before is not None and before.op_type in ("Cast", "Identity"):
        before = producers.get(before.input[0])
    return before is not None and before.op_type == "Pad"


def _graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs_of(inner)


KNOWN_FAULTS = (
    KnownFault(
        optimizer="Pad_Fusion",
        seen_in="1.31.1",
        about="a Pad with zeros becomes the padding of the MaxPool that follows, which pads with minus infinity: wrong "
        "where all values beside the edge are negative, as in BiT",
        rewrite=_keep_pads_of_max_pools,
    ),
)
