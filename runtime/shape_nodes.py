"""Which nodes of an ONNX graph compute with shapes alone, read without the onnx package.

Field numbers are those of onnx.proto3: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3
"""

from collections.abc import Iterator
from pathlib import Path

_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 2, 3, 4, 5
_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 6, 11
_TENSOR_NAME = 8

# Wire types of protocol buffers: https://protobuf.dev/programming-guides/encoding/#structure
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5

_OF_SHAPES = {b"Shape", b"Size"}


def shape_nodes(model: Path | bytes) -> frozenset[str]:
    """Return the names of the nodes whose results follow from constants and the shapes of the inputs, not their values.

    ``model`` is a ModelProto, as a file or its contents. Nodes with graphs inside count as using values.
    """
    data = memoryview(model if isinstance(model, bytes) else model.read_bytes())
    (graph,) = (value for field, value in _fields(data) if field == _MODEL_GRAPH)
    known: set[bytes] = {b""}  # what an input that is left out is called
    names = set()
    for field, value in _fields(graph):
        if field == _GRAPH_INITIALIZER:
            known |= {bytes(name) for number, name in _fields(value) if number == _TENSOR_NAME}
    for field, value in _fields(graph):  # ONNX has nodes in an order in which they can be computed
        if field != _GRAPH_NODE:
            continue
        parts = list(_fields(value))
        inputs = {bytes(part) for number, part in parts if number == _NODE_INPUT}
        operators = {bytes(part) for number, part in parts if number == _NODE_OPERATOR}
        inner = any(
            inside in {_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS}
            for number, part in parts
            if number == _NODE_ATTRIBUTE
            for inside, _ in _fields(part)
        )
        if operators & _OF_SHAPES or (inputs <= known and not inner):
            known |= {bytes(part) for number, part in parts if number == _NODE_OUTPUT}
            names |= {bytes(part).decode() for number, part in parts if number == _NODE_NAME}
    return frozenset(names)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the fields of a message that have a length, by number; numbers are passed over."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        kind = key & 7
        if kind == _VARINT:
            _, position = _varint(message, position)
        elif kind in {_EIGHT_BYTES, _FOUR_BYTES}:
            position += 8 if kind == _EIGHT_BYTES else 4
        elif kind == _LENGTH:
            length, position = _varint(message, position)
            yield key >> 3, message[position : position + length]
            position += length
        else:
            raise ValueError(f"protocol buffer: unknown wire type {kind}")


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
