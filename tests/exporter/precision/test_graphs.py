"""Graphs of a variant: tensors that it did not change stay in fp32's file of weights, and are written once."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from mutation.planting import rehash
from onnx import numpy_helper

import runtime
from exporter.precision.graphs import read_network, write_graphs
from runtime.artifact.diff.graphs import in_graphs
from runtime.artifact.open import Artifact, open_artifact
from runtime.engine.session import open_session
from runtime.manifest import Variant
from runtime.model import Model

NAMES = Variant(precision="int8", model="model.int8.onnx", network="network.int8.onnx", weights="weights.int8.bin")


def written(artifact: Artifact, network: onnx.ModelProto, folder: Path) -> Variant:
    """Write the graphs of a network beside fp32's; return the variant."""
    shutil.copytree(artifact.path, folder)
    variant, files = write_graphs(artifact, network, NAMES)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return variant


def test_a_network_that_changed_nothing_shares_all_weights_and_computes_the_same(tiny, tmp_path):
    artifact = open_artifact(tiny)

    variant = written(artifact, read_network(artifact, with_tables=False).model, tmp_path / "copy")

    assert variant.shared_weights == "weights.bin"
    assert (tmp_path / "copy" / "weights.int8.bin").stat().st_size == 0
    assert variant.graph_files("network.int8.onnx") == ("network.int8.onnx", "weights.int8.bin", "weights.bin")
    assert "weights.bin" not in variant.files
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    outputs = [
        open_session(tmp_path / "copy" / name, device="cpu", threads=1).run({"pixels": pixels})["probabilities"]
        for name in ("network.onnx", "network.int8.onnx")
    ]
    assert np.array_equal(*outputs)


def test_a_tensor_that_changed_is_the_variants_own(tiny, tmp_path):
    artifact = open_artifact(tiny)
    network = read_network(artifact, with_tables=False).model
    largest = max(network.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    size = len(largest.raw_data)
    largest.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(largest), largest.name))

    variant = written(artifact, network, tmp_path / "copy")

    assert variant.shared_weights == "weights.bin"
    assert size <= (tmp_path / "copy" / "weights.int8.bin").stat().st_size < size + 4096
    again = onnx.load(tmp_path / "copy" / "network.int8.onnx")
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in again.graph.initializer}
    for tensor in network.graph.initializer:
        assert np.array_equal(tensors[tensor.name], numpy_helper.to_array(tensor)), tensor.name


def test_a_few_tensors_that_stay_do_not_need_all_of_fp32s_file(tiny, tmp_path):
    artifact = open_artifact(tiny)
    network = read_network(artifact, with_tables=False).model
    ordered = sorted(network.graph.initializer, key=lambda tensor: -len(tensor.raw_data))
    total, kept = sum(len(tensor.raw_data) for tensor in ordered), 0
    for tensor in ordered:
        if kept + len(tensor.raw_data) > 0.04 * total:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                tensor.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(tensor), tensor.name))
        else:
            kept += len(tensor.raw_data)

    variant = written(artifact, network, tmp_path / "copy")

    assert kept
    assert variant.shared_weights is None
    assert onnx.load(tmp_path / "copy" / "network.int8.onnx").graph.initializer


@pytest.fixture(scope="module")
def shared(quantized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact whose int8 variant is the fp32 network, all of whose weights it shares."""
    folder = tmp_path_factory.mktemp("shared") / "tiny"
    shutil.copytree(quantized, folder)
    artifact = open_artifact(quantized)
    variant, files = write_graphs(artifact, read_network(artifact, with_tables=False).model, NAMES)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    manifest = (folder / "truecopy.json").read_text()
    assert variant.shared_weights == "weights.bin"
    needle = '"weights":"weights.int8.bin"' if '"weights":"' in manifest else '"weights": "weights.int8.bin"'
    (folder / "truecopy.json").write_text(
        manifest.replace(needle, f'{needle}, "shared_weights": "{variant.shared_weights}"')
    )
    rehash(folder)
    return folder


def test_the_runtime_reads_both_files_in_memory_and_mapped(shared):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    outputs = []
    for precision, mapped in (("fp32", False), ("int8", False), ("int8", True)):
        with Model(open_artifact(shared, mapped=mapped), precision=precision, device="cpu", threads=1) as model:
            outputs.append(model.run({"pixels": pixels})["probabilities"])

    assert np.array_equal(outputs[0], outputs[1])
    assert np.array_equal(outputs[0], outputs[2])


def test_a_comparison_of_artifacts_reads_both_files(shared, quantized):
    differences = list(in_graphs(open_artifact(shared), open_artifact(quantized)))

    assert differences
    assert not list(in_graphs(open_artifact(shared), open_artifact(shared)))


def test_weights_that_are_not_those_of_fp32_are_not_shared(shared, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(shared, folder)
    manifest = folder / "truecopy.json"
    manifest.write_text(manifest.read_text().replace('"shared_weights": "weights.bin"', '"shared_weights": "a.bin"'))

    with pytest.raises(runtime.ArtifactError, match=r"its int8 variant shares weights that are not fp32's.*'a\.bin'"):
        open_artifact(folder)


def test_shared_weights_that_changed_are_refused(shared, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(shared, folder)
    data = bytearray((folder / "weights.bin").read_bytes())
    data[0] ^= 1
    (folder / "weights.bin").write_bytes(bytes(data))

    with pytest.raises(runtime.ArtifactError, match=r"weights\.bin': damaged"):
        runtime.load(folder, precision="int8", device="cpu")
