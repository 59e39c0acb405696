"""truecopy diff says what is different between two artifacts, and which part it is in."""

import json
import shutil
import struct

import numpy as np
import pytest
from support.commands import truecopy

import runtime
from runtime.artifact.diff import compare_artifacts
from runtime.artifact.golden import golden_to_npz, read_golden
from runtime.engine.onnx_reader import read_graph


def found(first, second):
    return [(one.part, one.path, one.first, one.second) for one in compare_artifacts(first, second).differences]


def test_an_artifact_is_equal_to_its_copy(tiny, copy):
    comparison = compare_artifacts(tiny, copy)

    assert comparison.equal
    assert not comparison.results_may_differ
    assert comparison.differences == ()


def test_preprocessing_is_compared_step_by_step(tiny, copy, edit_manifest):
    def change(manifest):
        steps = manifest["inputs"][0]["preprocessing"]
        steps["geometry"].insert(0, {"step": "grayscale", "channels": 3})
        steps["geometry"][1]["size"] = 44
        steps["arithmetic"][1]["mean"][0] = 0.485

    edit_manifest(copy, change)

    assert found(tiny, copy) == [
        ("preprocessing", "geometry step 1", "", "grayscale: channels 3"),
        ("preprocessing", "geometry step 1, resize, size", "40", "44"),
        ("preprocessing", "arithmetic step 2, normalize, mean", "[0.45, 0.4, 0.35]", "[0.485, 0.4, 0.35]"),
    ]


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        ("rocket coffee cat astronaut", "classes 0 and 2 are swapped"),
        ("astronaut cat coffee rocket", "names are shifted by +1"),
        ("background cat coffee rocket", "names are shifted by +1"),
        ("coffee rocket astronaut cat", "names are shifted by -1"),
        ("astronaut cat rocket coffee", "the same names in another order"),
        ("astronaut coffee rocket cat", "classes 0 and 3 are swapped"),
    ],
)
def test_what_happened_to_labels_is_recognized(tiny, copy, rehash, names, pattern):
    (copy / "labels.txt").write_text("".join(f"{name}\n" for name in names.split()))
    rehash(copy, "labels.txt")

    differences = found(tiny, copy)

    assert pattern in differences[0][3], differences
    assert differences[1][:2] == ("labels", "class 0")


def test_weights_are_compared_tensor_by_tensor(tiny, copy, rehash):
    weights = np.frombuffer((copy / "weights.bin").read_bytes(), dtype=np.float32).copy()
    weights[3] += 0.5
    (copy / "weights.bin").write_bytes(weights.tobytes())
    rehash(copy, "weights.bin")

    [(part, place, _, second)] = found(tiny, copy)

    assert (part, place) == ("weights", "tensor 'features.4.weight'")
    assert second == "1 of 1152 values differ, by up to 0.5"


def test_a_tensor_that_is_not_a_number_differs_infinitely(tiny, copy, rehash):
    weights = np.frombuffer((copy / "weights.bin").read_bytes(), dtype=np.float32).copy()
    weights[3] = np.nan
    (copy / "weights.bin").write_bytes(weights.tobytes())
    rehash(copy, "weights.bin")

    assert found(tiny, copy)[0][3] == "1 of 1152 values differ, by up to inf"


def test_an_operator_with_another_name_or_attribute_is_named(tiny, copy, rehash):
    """The bytes of an operator's name, and those of one's attribute, replaced by others as long."""
    network = (copy / "network.onnx").read_bytes()
    assert network.count(b"Softmax") == 1
    (copy / "network.onnx").write_bytes(network.replace(b"Softmax", b"Sigmoid"))
    model = (copy / "model.onnx").read_bytes()
    # AttributeProto: the name, then field 3, a varint; -1 takes ten bytes.
    axis = b"axis\x18" + b"\xff" * 9 + b"\x01"
    assert model.count(axis) == 1
    (copy / "model.onnx").write_bytes(model.replace(axis, b"axis\x18" + b"\xfe" + b"\xff" * 8 + b"\x01"))
    for name in ("network.onnx", "model.onnx"):
        rehash(copy, name)

    assert found(tiny, copy) == [
        ("graph", "network.onnx, Sigmoid nodes", "0", "1"),
        ("graph", "network.onnx, Softmax nodes", "1", "0"),
        ("graph", "model.onnx, Softmax 'probabilities', axis", "-1", "-2"),
    ]


def test_golden_outputs_tools_and_parity_change_no_answer(tiny, copy, rehash, edit_manifest):
    golden = read_golden(copy / "golden.npz")
    golden.cases[1].outputs["probabilities"][0, 0] += 0.25
    (copy / "golden.npz").write_bytes(golden_to_npz(golden))
    rehash(copy, "golden.npz")
    edit_manifest(copy, lambda manifest: manifest["tools"].update(torch="2.15.0"))
    evidence = json.loads((copy / "parity.json").read_bytes())
    next(row for row in evidence["rows"] if row["stage"] == "network")["difference"] = 3e-5
    (copy / "parity.json").write_text(json.dumps(evidence))
    rehash(copy, "parity.json")
    edit_manifest(copy, lambda manifest: manifest["source"]["arguments"].update(num_classes=5))

    comparison = compare_artifacts(tiny, copy)

    assert not comparison.equal
    assert not comparison.results_may_differ
    assert {one.part for one in comparison.differences} == {"golden", "parity", "source", "tools"}
    assert comparison.differences[0].path == "input 1, outputs 'probabilities'"
    assert comparison.differences[0].second == "up to 0.25 apart"


def test_a_file_that_nothing_else_describes_is_compared_by_its_hash(tiny, copy, rehash):
    with (copy / "model.torchscript").open("ab") as stream:
        stream.write(b"more")
    rehash(copy, "model.torchscript")

    [(part, place, _, second)] = found(tiny, copy)

    assert (part, place) == ("files", "model.torchscript")
    assert second.endswith(f"{(copy / 'model.torchscript').stat().st_size} bytes")


def test_the_command_answers_as_diff_does(tiny, copy, tmp_path, edit_manifest):
    """Exit status 0: equal, 1: different, 2: it could not be found out."""
    assert truecopy("diff", tiny, copy).returncode == 0
    edit_manifest(copy, lambda manifest: manifest["task"]["labels"].update(file="labels.txt"))
    assert truecopy("diff", tiny, copy).returncode == 0, "the manifest's layout is no difference"
    edit_manifest(copy, lambda manifest: manifest["inputs"][0].update(exif=True))

    table, machine = truecopy("diff", tiny, copy), truecopy("diff", tiny, copy, "--json")

    assert table.returncode == machine.returncode == 1
    assert "1 difference; results may differ" in table.stdout
    assert json.loads(machine.stdout)["differences"] == [
        {"part": "inputs", "path": "1, exif", "first": "no", "second": "yes"}
    ]
    damaged = shutil.copytree(tiny, tmp_path / "damaged")
    (damaged / "labels.txt").write_text("tac\ncoffee\nrocket\nastronaut\n")
    failed = truecopy("diff", tiny, damaged)
    assert failed.returncode == 2
    assert failed.stderr.startswith(f"error: '{damaged / 'labels.txt'}': damaged")


@pytest.mark.parametrize(
    "data", [b"\x3a\x7f", b"\xff" * 12, b"\x0b", b"\x3a\x02\x0a\x7f", b"\x3a\x07\x2a\x05\x42\x03\xff\xfe\xfd"]
)
def test_what_is_no_onnx_file_is_an_error_of_ours(tmp_path, data):
    (tmp_path / "bad.onnx").write_bytes(data)

    with pytest.raises(runtime.ArtifactError, match=r"bad\.onnx': not an ONNX file"):
        read_graph(tmp_path / "bad.onnx", tmp_path / "weights.bin")


def test_the_reader_agrees_with_onnx(tiny):
    onnx = pytest.importorskip("onnx")
    ours = read_graph(tiny / "model.onnx", tiny / "weights.bin")
    theirs = onnx.load(tiny / "model.onnx").graph

    def flat(graph):
        for node in graph.node:
            yield node
            for attribute in node.attribute:
                for inner in (attribute.g, *attribute.graphs):
                    yield from flat(inner)

    nodes = list(flat(theirs))
    assert [node.operator for node in ours.nodes] == [node.op_type for node in nodes]
    assert [node.inputs for node in ours.nodes] == [tuple(node.input) for node in nodes]
    assert {tensor.name for tensor in theirs.initializer} <= set(ours.tensors)
    for tensor in theirs.initializer:
        array = ours.tensors[tensor.name].array()
        if array is not None:
            np.testing.assert_array_equal(array, onnx.numpy_helper.to_array(tensor))
    pool = next(node for node in theirs.node if node.op_type == "MaxPool")
    assert next(node for node in ours.nodes if node.name == pool.name).attributes["kernel_shape"] == "2, 2"
    assert struct.unpack("<f", struct.pack("<f", 0.4))[0] in ours.tensors["arithmetic/mean"].array()
