"""Reader of ONNX files: tensors and nodes, without the onnx package.

It follows the wire format of protocol buffers, with the field numbers of onnx.proto, which never change.
"""

import hashlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.errors import ArtifactError

# The files that tensors may lie in, by name.
Weights: TypeAlias = Mapping[str, memoryview]

# Types by their number in TensorProto.DataType; tensors of other types are compared by their bytes.
DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
}
_STRING = 8
# Fields of TensorProto for values that are not raw bytes; each type has one.
_TYPED_DATA = (4, 5, 6, 7, 10, 11)
_EXTERNAL = 1

# Where tensors can be: by kind of message, the fields that hold further messages, and their kind.
_INSIDE = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}

# Loops and branches nest graphs; exporters write far fewer levels.
_MAX_DEPTH = 16
_MAX_DIMENSIONS = 32

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """A constant of a graph; ``data`` is little endian of ``dtype``, where numpy has that type."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of type, shape and data: equal for equal tensors only."""
        return hashlib.sha256(f"{self.dtype}{self.shape}".encode() + self.data).hexdigest()

    def array(self) -> NDArray[Any] | None:
        """Return the values; None for types that numpy lacks, and values that are not raw bytes."""
        if self.dtype not in DTYPES.values():
            return None
        values = np.frombuffer(self.data, dtype=np.dtype(self.dtype).newbyteorder("<"))
        return values.reshape(self.shape) if values.size == np.prod(self.shape, dtype=np.int64) else None


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """An operator with its attributes as text; the nodes of its inner graphs follow it."""

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, str]


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """Tensors by name, and nodes in order."""

    tensors: dict[str, Tensor]
    nodes: tuple[Node, ...]


def read_graph(path: Path, *external: Path) -> Graph:
    """Read the ONNX file ``path``; ``external`` are the only other files that may hold its tensors, by their names.

    Raises ArtifactError when it is not an ONNX file, or its tensors reach beyond their file.
    """
    try:
        weights = {file.name: memoryview(file.read_bytes()) for file in external if file.is_file()}
        model = fields(memoryview(path.read_bytes()))
        graphs = [value for number, value in model if number == 7]
        tensors: dict[str, Tensor] = {}
        nodes: list[Node] = []
        for graph in graphs:
            _read_graph(graph, weights, tensors, nodes, depth=0)
    except (ValueError, struct.error, IndexError, TypeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"'{path}': not an ONNX file: {str(error).rstrip('.')}. Export the model again.") from error
    return Graph(tensors=tensors, nodes=tuple(nodes))


def _read_graph(
    data: memoryview, weights: Weights, tensors: dict[str, Tensor], nodes: list[Node], *, depth: int
) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError(f"graphs are nested too deep: expected at most {_MAX_DEPTH}, got more")
    for number, value in fields(data):
        if number == 5:
            tensor = _tensor(value, weights)
            # Two branches may each have a tensor of one name.
            tensors[tensor.name if tensor.name not in tensors else f"{tensor.name} ({len(tensors)})"] = tensor
        elif number == 1:
            _read_node(value, weights, tensors, nodes, depth=depth)


def _read_node(
    data: memoryview, weights: Weights, tensors: dict[str, Tensor], nodes: list[Node], *, depth: int
) -> None:
    inputs, outputs, name, operator, domain = [], [], "", "", ""
    attributes: dict[str, str] = {}
    inner: list[memoryview] = []
    for number, value in fields(data):
        match number:
            case 1:
                inputs.append(_text(value))
            case 2:
                outputs.append(_text(value))
            case 3:
                name = _text(value)
            case 4:
                operator = _text(value)
            case 5:
                key, text, graphs = _attribute(value, weights)
                attributes[key] = text
                inner += graphs
            case 7:
                domain = _text(value)
    nodes.append(
        Node(
            operator=f"{domain}.{operator}" if domain else operator,
            name=name,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            attributes=dict(sorted(attributes.items())),
        )
    )
    for graph in inner:
        _read_graph(graph, weights, tensors, nodes, depth=depth + 1)


def _attribute(data: memoryview, weights: Weights) -> tuple[str, str, list[memoryview]]:
    """Return an attribute's name, its value as text, and its graphs."""
    name, values, graphs = "", [], list[memoryview]()
    for number, value in fields(data):
        match number:
            case 1:
                name = _text(value)
            case 2:
                values.append(f"{struct.unpack('<f', value)[0]:.7g}")
            case 3:
                values.append(str(_signed(value)))
            case 4 | 9:
                values.append(repr(bytes(value).decode("utf-8", "backslashreplace")))
            case 5 | 10:
                values.append(describe(_tensor(value, weights)))
            case 6 | 11:
                values.append("graph")
                graphs.append(value)
            case 7:
                values += [f"{number:.7g}" for number in _floats(value)]
            case 8:
                values += [str(number) for number in _integers(value)]
    return name, ", ".join(values), graphs


def describe(tensor: Tensor) -> str:
    """Describe a tensor: its values where they are few, else its type, shape and digest."""
    array = tensor.array()
    if array is not None and array.size <= 8:
        return ", ".join(f"{value:.7g}" if isinstance(value, float) else str(value) for value in array.ravel().tolist())
    return f"{tensor.dtype} {list(tensor.shape)}, SHA-256 {tensor.digest[:8]}"


def _tensor(data: memoryview, weights: Weights) -> Tensor:
    entries = list(fields(data))
    last = dict(entries)
    name = _text(last[8]) if 8 in last else ""
    shape = tuple(length for number, value in entries if number == 1 for length in _integers(value))
    typed = b"".join(_typed_bytes(value) for number, value in entries if number in _TYPED_DATA)
    raw = bytes(last[9]) if 9 in last else None
    if last.get(14) == _EXTERNAL:
        raw = _external_bytes(name, [value for number, value in entries if number == 13], weights)
    kind = last.get(2, 0)
    dtype = DTYPES.get(kind, "string" if kind == _STRING else f"type {kind}")
    if raw is None and typed:
        # Another dtype than that of raw bytes, which array() may read.
        return Tensor(name=name, dtype=f"{dtype} values", shape=shape, data=typed)
    return Tensor(name=name, dtype=dtype, shape=shape, data=raw or b"")


def _typed_bytes(value: int | memoryview) -> bytes:
    return value.to_bytes(10, "little") if isinstance(value, int) else bytes(value)


def _external_bytes(name: str, entries: list[memoryview], weights: Weights) -> bytes:
    """Return a tensor's part of its file of weights, by its entries ``location``, ``offset`` and ``length``."""
    location: dict[str, str] = {}
    for entry in entries:
        texts = {key: _text(text) for key, text in fields(entry)}
        location[texts.get(1, "")] = texts.get(2, "")
    file = weights.get(location.get("location", ""), memoryview(b""))
    start = int(location.get("offset", "0"))
    size = int(location.get("length", len(file) - start))
    if start < 0 or size < 0 or start + size > len(file):
        raise ValueError(f"tensor '{name}' reaches beyond its file: expected {len(file)} bytes at most")
    return bytes(file[start : start + size])


class ExternalTensor(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor of a graph whose values lie in a file of weights; ``kind`` is its number in TensorProto.DataType.

    ``location`` is the name of that file; ``length`` is in bytes, as ``offset`` is, None where the graph does not say.
    """

    name: str
    kind: int
    shape: tuple[int, ...]
    location: str
    offset: int
    length: int | None


def external_tensors(data: bytes, *, locations: Sequence[str | None]) -> Iterator[ExternalTensor]:
    """Yield the tensors of an ONNX file whose values lie in another file.

    Raises ValueError where that file is none of ``locations``, beside the graph; where such a tensor is not one of the
    graph's own initializers, which runtimes look for in the current folder; or for what is not an ONNX file.
    """
    pending = [("model", memoryview(data), 0)]
    while pending:
        kind, message, depth = pending.pop()
        if depth > 4 * _MAX_DEPTH:
            raise ValueError(f"graphs are nested too deep: expected at most {_MAX_DEPTH}, got more")
        for number, value in fields(message):
            inner = _INSIDE[kind].get(number)
            # The key of a file's name: without it, nothing in the message lies in another file.
            if inner is None or isinstance(value, int) or b"location" not in bytes(value):
                continue
            if inner != "tensor":
                pending.append((inner, value, depth + 1))
            elif (tensor := _external_tensor(value, locations)) is not None:
                if (kind, depth) != ("graph", 1):
                    raise ValueError(f"tensor '{tensor.name[:80]}' of an inner graph lies in another file")
                yield tensor


def _external_tensor(data: memoryview, locations: Sequence[str | None]) -> ExternalTensor | None:
    entries = list(fields(data))
    if not any(number == 14 and value for number, value in entries):
        return None
    pairs: dict[str, str] = {}
    for number, value in entries:
        if number == 13:
            texts = {key: _text(text) for key, text in fields(value)}
            if texts.get(1, "") in pairs:
                raise ValueError(f"its '{texts.get(1, '')[:20]}' is given twice")
            pairs[texts.get(1, "")] = texts.get(2, "")
    names = [value for number, value in entries if number == 8]
    kinds = [value for number, value in entries if number == 2]
    name = _text(names[-1]) if names else ""
    location = pairs.get("location", "")
    if location not in locations:
        expected = " or ".join(f"'{file}'" for file in locations if file is not None) or "none"
        raise ValueError(f"tensor '{name[:80]}' lies in another file: expected {expected}, got '{location[:80]}'")
    shape = tuple(length for number, value in entries if number == 1 for length in _integers(value))
    offset, length = (int(pairs[key]) if key in pairs else None for key in ("offset", "length"))
    if min((*shape, offset or 0, length or 0)) < 0 or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"tensor '{name[:80]}' has an impossible shape or offset")
    return ExternalTensor(
        name=name,
        kind=kinds[-1] if kinds else 0,
        shape=shape,
        location=location,
        offset=offset or 0,
        length=length,
    )


def fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """Yield the number and value of each field of a message: varints as int, all others as bytes."""
    position, end = 0, len(data)
    while position < end:
        key, position = _varint(data, position)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire == _BYTES:
            size, position = _varint(data, position)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"expected a field of a message, got wire type {wire}")
        if position + size > end:
            raise ValueError(f"it ends early: expected {size} more bytes, got {end - position}")
        yield number, data[position : position + size]
        position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _integers(value: int | memoryview) -> list[int]:
    """Return repeated integers, which are stored one by one or packed."""
    if isinstance(value, int):
        return [_signed(value)]
    integers, position = [], 0
    while position < len(value):
        integer, position = _varint(value, position)
        integers.append(_signed(integer))
    return integers


def _floats(value: memoryview) -> list[float]:
    return [number for (number,) in struct.iter_unpack("<f", value)]


def _text(value: memoryview) -> str:
    return bytes(value).decode("utf-8")
