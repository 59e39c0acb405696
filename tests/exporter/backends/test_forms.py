"""Forms of the artifact as options choose them: the opset, the weights inside the graphs, and TorchScript left out."""

from pathlib import Path

import onnx
import pytest
import torch
from onnx import helper
from torch import nn
from torchvision import transforms

import exporter
import runtime
from exporter.backends import onnx_graph
from exporter.conversion.opsets import check_opset, versions_of
from exporter.conversion.to_onnx import to_onnx
from exporter.inputs.image import geometry_nodes
from exporter.recheck import recheck_artifact
from runtime.artifact.open import open_artifact
from runtime.deploy.triton.repository import build_triton
from runtime.engine.onnx_reader import read_graph
from runtime.manifest import ImageInput
from runtime.verify import verify

CAT = Path(__file__).parents[2] / "data" / "cat.jpg"
PHOTO = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(32), transforms.ToTensor()])


class Mean(nn.Module):
    """The mean color, then two layers: float32 [batch, 3, height, width] to logits [batch, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 100), nn.Tanh(), nn.Linear(100, 4))
        with torch.no_grad():
            self.layers[2].weight.mul_(20)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x.mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint") / "mean.pth"
    torch.save(Mean().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def exported(checkpoint):
    """An artifact of two graphs that hold their own weights, in an older opset, without TorchScript."""
    return exporter.export(
        checkpoint,
        Mean(),
        preprocess=PHOTO,
        forms="onnx",
        opset=18,
        single_file=True,
        out=checkpoint.parent / "mean",
    )


def test_each_graph_holds_its_weights_and_there_is_no_torchscript(exported):
    files = {path.name for path in exported.artifact.iterdir()}

    assert files == {"truecopy.json", "model.onnx", "network.onnx", "golden.npz", "labels.txt", "parity.json"}
    for name in ("model.onnx", "network.onnx"):
        onnx.checker.check_model(onnx.load(exported.artifact / name, load_external_data=False))


def test_the_manifest_says_the_versions_and_the_oldest_runtime(exported):
    manifest = open_artifact(exported.artifact).manifest

    assert manifest.onnx is not None
    assert manifest.onnx.describe() == "opset 18, IR 8, onnxruntime 1.14 or newer"
    for name in ("model.onnx", "network.onnx"):
        assert versions_of(onnx.load(exported.artifact / name)) == manifest.onnx
    (finding,) = (step.finding for step in exported.steps if step.finding.startswith("model.onnx"))
    assert "opset 18, IR 8, onnxruntime 1.14 or newer" in finding


def test_it_is_verified_rechecked_compared_deployed_and_run_like_any_other(exported, checkpoint, tmp_path):
    options = exporter.ExportOptions(checkpoint=checkpoint, arch=Mean(), preprocess=PHOTO)

    assert verify(exported.artifact).passed
    evidence = recheck_artifact(exported.artifact, options).evidence
    assert evidence.verdict == "passed"
    assert {row.path for row in evidence.rows} >= {"model.onnx", "runtime"}
    assert {check.path for check in evidence.whole} >= {"model.onnx", "network.onnx"}
    assert read_graph(exported.artifact / "network.onnx").tensors
    deployed = {Path(name).name for name in build_triton(exported.artifact, tmp_path / "triton").files}
    assert {"model.onnx", "network.onnx"} <= deployed
    assert "weights.bin" not in deployed
    with runtime.load(exported.artifact, device="cpu") as model:
        assert model.predict(CAT).label.startswith("class ")


def test_weights_beyond_protobufs_limit_are_refused_before_the_conversion():
    network = nn.Module()
    network.weight = nn.Parameter(torch.zeros(1).expand(2**29), requires_grad=False)

    with pytest.raises(
        exporter.ConversionError, match=r"too large for --single-file: .* less than 2 GB, got 2147.5 MB"
    ):
        onnx_graph.check_size(network)


def test_an_opset_that_lacks_an_operator_is_refused_with_the_one_that_has_it(exported):
    (spec,) = exported.manifest.inputs
    assert isinstance(spec, ImageInput)
    nodes = geometry_nodes(spec.preprocessing, image="image", pixels="pixels")
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None) for name in ("image", "pixels")]
    graph = helper.make_graph(nodes.nodes, "geometry", value[:1], value[1:], list(nodes.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])

    check_opset(model, 18, name="Net")
    with pytest.raises(
        exporter.ConversionError,
        match=r"^'Net': opset 17 cannot express its ReduceMax, ReduceMin: expected opset 18 or higher. Pass --opset 18",
    ):
        check_opset(model, 17, name="Net")


def test_types_that_an_opset_lacks_are_refused_before_anything_is_compared(tmp_path):
    """Strings are equal or not since opset 19."""
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.STRING, ["batch"]) for name in ("x", "y")]
    output = helper.make_tensor_value_info("z", onnx.TensorProto.BOOL, ["batch"])
    graph = helper.make_graph([helper.make_node("Equal", ["x", "y"], ["z"])], "equal", values, [output])

    for opset in (19, 18):
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.save(model, tmp_path / f"{opset}.onnx")
    onnx_graph.check_loads(tmp_path / "19.onnx", 19, name="Net")
    with pytest.raises(
        exporter.ConversionError,
        match=r"^'Net': opset 18 cannot express it: Type Error: Type 'tensor\(string\)'.* Pass a",
    ):
        onnx_graph.check_loads(tmp_path / "18.onnx", 18, name="Net")


def test_an_opset_below_dynamos_own_comes_from_the_legacy_exporter():
    network = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1))
    example = {"x": torch.rand(2, 4)}

    converted = to_onnx(network, example, outputs=["y"], dimensions={"x": {0: "batch"}}, opset=16)

    assert versions_of(converted.skeleton).describe() == "opset 16, IR 8, onnxruntime 1.11 or newer"


def test_an_unknown_opset_is_refused_with_those_that_there_are(checkpoint):
    with pytest.raises(exporter.ExportError, match="opset: expected one of 16, 17, 18, 19, 20, 21, got '12'"):
        exporter.export(checkpoint, Mean(), preprocess=PHOTO, opset=12)
