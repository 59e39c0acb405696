"""Tensors in other files: from the verified weights alone, or not at all. Graphs are written by hand."""

import struct

import numpy as np
import pytest

import runtime
from runtime.artifact.open import open_artifact
from runtime.engine.graph import StoredGraph
from runtime.engine.session import open_session

WEIGHTS = np.arange(512, dtype=np.float32)


def field(number: int, value: int | bytes | str) -> bytes:
    """Return a field of a protocol buffer: a varint, or text and messages."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def entry(key: str, value: object) -> bytes:
    return field(13, field(1, key) + field(2, str(value)))


def tensor(name="w", *, location="weights.bin", shape=(256,), kind=1, offset=0, length=1024, where=1) -> bytes:
    extra = b"" if length is None else entry("length", length)
    dimensions = b"".join(field(1, size) for size in shape)
    return (
        dimensions
        + field(2, kind)
        + field(8, name)
        + entry("location", location)
        + entry("offset", offset)
        + extra
        + field(14, where)
    )


def value(name: str, size: int) -> bytes:
    shape = field(1, field(1, size))
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))


def model(*initializers: bytes, node_extra: bytes = b"", graph_extra: bytes = b"", model_extra: bytes = b"") -> bytes:
    """Return y = x + w, for 256 values."""
    node = field(1, "x") + field(1, "w") + field(2, "y") + field(4, "Add") + node_extra
    graph = field(1, node) + field(2, "g") + b"".join(field(5, data) for data in initializers) + graph_extra
    graph += field(11, value("x", 256)) + field(12, value("y", 256))
    return field(1, 10) + field(7, graph) + field(8, field(2, 20)) + model_extra


def stored(data: bytes, tmp_path, weights=WEIGHTS) -> StoredGraph:
    return StoredGraph(
        path=tmp_path / "network.onnx",
        data=data,
        weights_file="weights.bin",
        weights=weights.view(np.uint8),
        check_unchanged=lambda: None,
    )


def test_weights_come_from_memory_where_no_file_is(tmp_path):
    session = open_session(stored(model(tensor(offset=1024)), tmp_path), device="cpu")

    y = session.run({"x": np.ones(256, np.float32)})["y"]

    assert np.array_equal(y, WEIGHTS[256:] + 1)


def test_two_sessions_share_the_weights_in_memory(tiny):
    """They are neither copied nor written to."""
    artifact = open_artifact(tiny)
    first, second = (artifact.graph(name, weights="weights.bin") for name in ("network.onnx", "model.onnx"))

    assert first.weights is second.weights
    assert not first.weights.flags.writeable
    assert first.weights.ctypes.data % 64 == 0


def test_a_check_maps_the_weights_and_gives_the_same_outputs(tiny):
    plain, mapped = (open_artifact(tiny, mapped=mapped) for mapped in (False, True))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)

    graphs = [artifact.graph("network.onnx", weights="weights.bin") for artifact in (plain, mapped)]
    outputs = [open_session(graph, device="cpu").run({"pixels": pixels}) for graph in graphs]

    assert isinstance(graphs[1].weights, np.memmap)
    assert np.array_equal(outputs[0]["probabilities"], outputs[1]["probabilities"])


def test_weights_that_change_before_they_are_mapped_are_refused(copy):
    graph = open_artifact(copy, mapped=True).graph("network.onnx", weights="weights.bin")
    weights = copy / "weights.bin"
    data = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    with pytest.raises(runtime.ArtifactError, match=r"weights\.bin': changed while in use"):
        open_session(graph, device="cpu")


EXTERNAL = tensor("inner")
INNER = field(7, b"")


@pytest.mark.parametrize(
    "data",
    [
        model(tensor(location="/etc/passwd")),
        model(tensor(location="../weights.bin")),
        model(tensor(location="./weights.bin")),
        model(tensor(location="link.bin")),
        model(tensor(location="")),
        model(tensor(location="*/_ORT_MEM_ADDR_/*", offset=4096)),
        model(tensor() + entry("location", "other.bin")),
        model(tensor(where=2**32 + 1, location="other.bin")),
        model(tensor(), tensor("unused", location="other.bin")),
        model(tensor(), node_extra=field(5, field(1, "value") + field(5, EXTERNAL))),
        model(tensor(), node_extra=field(5, field(1, "branch") + field(6, field(5, EXTERNAL)))),
        model(tensor(), node_extra=field(5, field(1, "branches") + field(11, field(5, EXTERNAL)))),
        model(tensor(), graph_extra=field(15, field(1, EXTERNAL))),
        model(tensor(), model_extra=field(25, field(7, field(5, field(5, EXTERNAL))))),
        model(tensor(offset=2**40)),
        model(tensor(offset=1028)),
        model(tensor(offset=-1 % 2**64)),
        model(tensor(length=10)),
        model(tensor(length=None, shape=(2**40,))),
        model(tensor(shape=(-1 % 2**64,))),
        model(tensor(shape=(1,) * 40)),
        model(tensor(kind=99)),
        model(tensor(kind=8)),
        model(tensor(offset="a lot")),
        model(tensor())[:-20],
        struct.pack("<Q", 2**63) * 40,
        b"",
    ],
)
def test_a_tensor_that_is_not_in_the_verified_weights_is_refused_in_one_sentence(tmp_path, data):
    (tmp_path / "other.bin").write_bytes(WEIGHTS.tobytes())
    (tmp_path / "link.bin").symlink_to("/etc/passwd")

    with pytest.raises(runtime.ArtifactError, match=r"network\.onnx'.* (read|load)\b") as caught:
        open_session(stored(data, tmp_path), device="cpu")

    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
