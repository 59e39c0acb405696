"""Shape arithmetic in an ONNX graph, read without the onnx package.

Field numbers are those of onnx.proto3: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3
"""

from pathlib import Path

from runtime.engine.onnx_reader import fields

_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 2, 3, 4, 5
_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 6, 11
_TENSOR_NAME = 8

_SHAPE_READERS = {b"Shape", b"Size"}


def shape_nodes(model: Path | bytes) -> frozenset[str]:
    """Return the names of the nodes whose results depend only on constants and the shapes of the inputs.

    ``model`` is a ModelProto, as a file or its contents. Nodes with inner graphs count as depending on values.
    """
    data = memoryview(model if isinstance(model, bytes) else model.read_bytes())
    (graph,) = (value for field, value in fields(data) if field == _MODEL_GRAPH)
    known: set[bytes] = {b""}  # the name of an omitted optional input
    names = set()
    for field, value in fields(graph):
        if field == _GRAPH_INITIALIZER:
            known |= {bytes(name) for number, name in fields(value) if number == _TENSOR_NAME}
    for field, value in fields(graph):  # ONNX stores nodes in topological order
        if field != _GRAPH_NODE:
            continue
        parts = list(fields(value))
        inputs = {bytes(part) for number, part in parts if number == _NODE_INPUT}
        operators = {bytes(part) for number, part in parts if number == _NODE_OPERATOR}
        inner = any(
            inside in {_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS}
            for number, part in parts
            if number == _NODE_ATTRIBUTE
            for inside, _ in fields(part)
        )
        if operators & _SHAPE_READERS or (inputs <= known and not inner):
            known |= {bytes(part) for number, part in parts if number == _NODE_OUTPUT}
            names |= {bytes(part).decode() for number, part in parts if number == _NODE_NAME}
    return frozenset(names)
