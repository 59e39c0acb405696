"""'truecopy deploy triton': its configurations are Triton's, its graphs run as they say, a real Triton serves it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.deploying import deploy
from support.engines import library_rows, triton_rows
from support.triton_repository import Configuration, read_configurations, run_warm_ups
from support.triton_server import CLIENT_PYTHON, NotReadyError, ask, is_installed, running_triton

import runtime
from runtime.artifact.golden import read_golden
from runtime.deploy.triton.repository import to_triton_name

needs_clients = pytest.mark.skipif(
    not CLIENT_PYTHON.exists(), reason="run 'scripts/setup clients' for tritonclient, whose protobuf reads the files"
)
needs_triton = pytest.mark.skipif(
    not (is_installed() and CLIENT_PYTHON.exists()),
    reason="run 'scripts/setup triton' and 'scripts/setup clients' for a real Triton",
)


@pytest.fixture(scope="module")
def written(tiny, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("deploy") / "out"
    assert deploy("triton", tiny, "--out", out).returncode == 0
    return out


@pytest.fixture(scope="module")
def configurations(written) -> dict[str, Configuration]:
    return read_configurations(written)


@needs_clients
def test_protobuf_reads_every_configuration(written, configurations):
    folders = {path.name: path for path in written.glob("*/*")}
    assert sorted(configurations) == sorted(folders) == ["tiny", "tiny_model", "tiny_network"]
    for name, config in configurations.items():
        assert (folders[name] / "1" / config["default_model_filename"]).is_file()
        assert config["max_batch_size"] > 1
        assert config["dynamic_batching"]["default_queue_policy"]["max_queue_size"] > 0
        assert config["instance_group"][0]["kind"] == "KIND_CPU"
    image = {"name": "image", "data_type": "TYPE_UINT8", "dims": ["-1", "-1", "3"]}
    assert configurations["tiny_model"]["input"] == [image]
    assert configurations["tiny"]["backend"] == "python"


@needs_clients
def test_graphs_run_on_the_warm_up_as_the_configuration_says_and_answer_as_eager_did(tiny, written, configurations):
    """What Triton's onnxruntime backend does with a model: tensors of the named types and shapes, from the files."""
    expected = [case.outputs["probabilities"] for case in read_golden(tiny / "golden.npz").cases]
    limits = runtime.load(tiny).manifest.golden.end_to_end_limits
    for name in ("tiny_model", "tiny_network"):
        answers = run_warm_ups(written / "onnxruntime" / name, configurations[name])
        assert len(answers) >= 2
        for answer in answers:
            assert min(np.abs(answer["probabilities"] - eager).max() for eager in expected) <= limits["probabilities"]


@pytest.fixture(scope="module")
def triton(written, tmp_path_factory):
    with running_triton(written / "python", log=tmp_path_factory.mktemp("triton") / "log") as running:
        yield running


@pytest.mark.slow
@needs_triton
def test_real_triton_has_the_librarys_rows_whatever_shares_a_batch(triton, tiny, photos, tmp_path):
    (tmp_path / "damaged.jpg").write_bytes(photos["cat"].read_bytes()[:2000])
    (tmp_path / "empty.jpg").write_bytes(b"")
    paths = [*photos.values(), tmp_path / "damaged.jpg", tmp_path / "empty.jpg", *photos.values()]
    expected = library_rows(tiny, paths)
    assert ["error" in row for row in expected].count(True) == 2
    for batch in (1, 4):
        assert triton_rows(triton, "tiny", paths, batch=batch) == expected


@needs_triton
def test_parameters_of_a_request_are_those_of_predict(triton, photos):
    rows = triton_rows(triton, "tiny", [photos["cat"]], top_k=2, threshold="0.99")
    assert (rows[0]["label"], len(rows[0]["top"])) == ("unknown", 2)
    with pytest.raises(AssertionError, match="top_k: expected at least 1, got 0"):
        triton_rows(triton, "tiny", [photos["cat"]], top_k=0)


@needs_triton
def test_another_version_of_the_artifact_is_not_served(written, tmp_path):
    shutil.copytree(written / "python", tmp_path / "python")
    with (tmp_path / "python/tiny/1/artifact/truecopy.json").open("ab") as stream:
        stream.write(b"\n")
    with (
        pytest.raises(NotReadyError, match="another version of the artifact: expected "),
        running_triton(tmp_path / "python", log=tmp_path / "log"),
    ):
        pass


# Triton's own core reads the configuration, makes the warm-up and the batches; the wheel has no onnxruntime backend.
STAND_IN = """
from pathlib import Path

import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        folder = Path(args["model_repository"]) / args["model_version"]
        (graph,) = folder.glob("*.onnx")
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        answers = []
        for request in requests:
            tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            values = self.session.run(None, tensors)
            named = zip(self.session.get_outputs(), values)
            answers.append(triton.InferenceResponse([triton.Tensor(output.name, value) for output, value in named]))
        return answers
"""


@pytest.mark.slow
@needs_triton
def test_tritons_core_takes_the_graphs_configurations_with_another_backend_in_their_place(written, photos, tmp_path):
    shutil.copytree(written / "onnxruntime", tmp_path / "graphs")
    for config in tmp_path.glob("graphs/*/config.pbtxt"):
        (config.parent / "1" / "model.py").write_text(STAND_IN)
        lines = config.read_text().replace('backend: "onnxruntime"', 'backend: "python"').splitlines()
        config.write_text("\n".join(line for line in lines if not line.startswith("default_model_filename")))
    np.save(tmp_path / "cat.npy", np.asarray(Image.open(photos["cat"]).convert("RGB")))
    with running_triton(tmp_path / "graphs", log=tmp_path / "log") as running:
        best = ask("triton_classes", running.url, "tiny_model", "image", tmp_path / "cat.npy")
        assert best.strip().endswith(":cat")

    data = tmp_path / "graphs/tiny_network/warmup/golden-0-0"
    data.write_bytes(data.read_bytes()[:-1])
    with (
        pytest.raises(NotReadyError, match="golden-0-0"),
        running_triton(tmp_path / "graphs", log=tmp_path / "log"),
    ):
        pass


@pytest.mark.parametrize(("name", "expected"), [("ResNet_50.v1", "ResNet_50.v1"), ("a/b c", "a_b_c"), ("..", "model")])
def test_names_are_folders_and_parts_of_urls(name, expected):
    assert to_triton_name(name) == expected
