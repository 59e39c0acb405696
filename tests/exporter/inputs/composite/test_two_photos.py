"""Two photos and a wave of one network, exported once: their order is proven in every form."""

import inspect
import shutil
from pathlib import Path

import grpc
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from support.parts import swap_inputs
from support.serving import serving
from torch import Tensor, nn
from torchvision import transforms
from typer.testing import CliRunner

import exporter
import runtime
from exporter.conversion.to_torchscript import load_torchscript
from exporter.errors import ExportError
from exporter.options.export import ExportOptions
from exporter.precision.quantize import quantize
from exporter.precision.variant import VariantRequest
from exporter.recheck import recheck_artifact
from runtime.cli.main import build_app
from runtime.inputs.registry import kind_of
from runtime.jobs.sources import read_inputs
from runtime.manifest import LAYOUT
from runtime.server.grpc.messages import message_class
from runtime.verify import verify

DATA = Path(__file__).parents[3] / "data"
CAT, COFFEE = DATA / "cat.jpg", DATA / "coffee.jpg"
WAVE = np.linspace(-1, 1, 40, dtype=np.float32)
TRANSFORM = transforms.Compose([transforms.Resize(20), transforms.CenterCrop(16), transforms.ToTensor()])


class Views(nn.Module):
    """The same layer on two photos, and a wave, to three classes; the photos count differently."""

    def __init__(self) -> None:
        super().__init__()
        self.view = nn.Conv2d(3, 4, 3, 2)
        self.wave = nn.Conv1d(1, 4, 5)
        self.head = nn.Linear(12, 3)

    def forward(self, left: Tensor, right: Tensor, wave: Tensor) -> Tensor:
        views = [self.view(photo).relu().mean((2, 3)) for photo in (left, right)]
        return 6 * self.head(torch.cat([*views, self.wave(wave.unsqueeze(1)).relu().mean(2)], 1))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(4)
    return Views().eval()


@pytest.fixture(scope="module")
def checkpoint(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("views") / "views.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def exported(network, checkpoint):
    parts = {"left": TRANSFORM, "right": TRANSFORM, "wave": {"input": "float32[batch,40]"}}
    return exporter.export(checkpoint, network, parts=parts, labels=["a", "b", "c"], out=checkpoint.with_suffix(""))


@pytest.fixture(scope="module")
def scores(network):
    left, right = (TRANSFORM(Image.open(photo).convert("RGB"))[np.newaxis] for photo in (CAT, COFFEE))
    with torch.no_grad():
        return network(left, right, torch.from_numpy(WAVE)[np.newaxis]).softmax(1)[0].numpy()


@pytest.mark.parametrize("suffix", ["", ".normalized"])
def test_photos_in_each_others_place_are_found_by_parity_and_by_verify(exported, network, checkpoint, tmp_path, suffix):
    swapped = shutil.copytree(exported.artifact, tmp_path / "swapped")
    swap_inputs(swapped, f"left{suffix}", f"right{suffix}")

    # The artifact tells what the array is.
    options = ExportOptions.from_keywords(checkpoint, network, parts={"left": TRANSFORM, "right": TRANSFORM})
    evidence = recheck_artifact(swapped, options, pixels=False).evidence

    assert evidence.verdict == "failed"
    assert any(row.stage == "end to end" and not row.passed for row in evidence.rows)
    assert not verify(swapped, device="cpu").passed


def test_the_right_order_passes_again_and_pixels_are_the_stage_that_is_prepared(exported, network, checkpoint):
    options = ExportOptions.from_keywords(checkpoint, network, parts={"left": TRANSFORM, "right": TRANSFORM})

    evidence = recheck_artifact(exported.artifact, options, pixels=False).evidence

    assert evidence.passed, evidence.reason
    assert "geometry" in {row.stage for row in evidence.rows if row.path == "golden.npz"}
    assert "tokens" not in {row.stage for row in evidence.rows}
    assert kind_of(exported.manifest.inputs).prepared_stage == "geometry"


def test_one_archive_takes_the_photos_and_the_wave_as_they_are(exported, scores):
    module = load_torchscript(exported.artifact / LAYOUT.torchscript)
    left, right = (torch.from_numpy(np.array(Image.open(path).convert("RGB"))[np.newaxis]) for path in (CAT, COFFEE))

    result = module(left, right, torch.from_numpy(WAVE)[np.newaxis])

    assert np.allclose(result[0].numpy(), scores, atol=1e-5)
    rows = [row for row in exported.parity.rows if row.path == LAYOUT.torchscript]
    assert {row.stage for row in rows} == {"end to end"}
    assert not any("TorchScript" in text for text in exported.parity.not_proven)


def test_tables_and_lists_have_a_column_per_part(exported, scores, tmp_path):
    rows = pd.DataFrame({"left": [str(CAT)], "right": [str(COFFEE)], "wave": [WAVE.tolist()]})
    rows.to_parquet(tmp_path / "rows.parquet")
    rows.to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    pd.DataFrame({"left": [CAT.read_bytes()], "right": [COFFEE.read_bytes()], "wave": [WAVE.tolist()]}).to_parquet(
        tmp_path / "bytes.parquet"
    )

    with runtime.load(exported.artifact, device="cpu") as model:
        results = [
            next(iter(model.predict_each(read_inputs(model, tmp_path / name), top_k=3)))
            for name in ("rows.parquet", "rows.jsonl", "bytes.parquet")
        ]

    for result in results:
        assert [entry.probability for entry in result.top] == pytest.approx(sorted(scores, reverse=True), abs=1e-5)


def test_grpc_takes_a_batch_of_parts_and_names_the_part_that_is_wrong(exported, scores):
    def request(left, right, wave):
        message = message_class("ModelInferRequest")(model_name="views")
        for name, photos in (("left", left), ("right", right)):
            tensor = message.inputs.add(name=name, datatype="BYTES", shape=[len(photos)])
            tensor.contents.bytes_contents.extend(photos)
        tensor = message.inputs.add(name="wave", datatype="FP32", shape=list(wave.shape))
        tensor.contents.fp32_contents.extend(wave.ravel().tolist())
        return message

    cat, coffee = CAT.read_bytes(), COFFEE.read_bytes()
    with serving(f"views={exported.artifact}") as server, grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_class("ModelInferResponse").FromString,
        )
        response = infer(request([cat, coffee], [coffee, cat], np.stack([WAVE, WAVE])), timeout=30)
        with pytest.raises(grpc.RpcError) as refused:
            infer(request([cat], [b"GIF"], WAVE[np.newaxis]), timeout=30)

    (output,) = response.outputs
    assert list(output.shape) == [2, 3]
    assert np.allclose(output.contents.fp32_contents[:3], scores, atol=1e-5)
    assert not np.allclose(output.contents.fp32_contents[3:], scores, atol=1e-3)
    assert refused.value.details().startswith("row 0: part 'right': not an image")


def test_labeled_parts_are_evaluated_with_the_eager_model_beside(exported, checkpoint, network, tmp_path):
    rows = pd.DataFrame({"left": [str(CAT), str(COFFEE)], "right": [str(COFFEE), str(CAT)], "label": ["a", "b"]})
    rows.assign(wave=[WAVE.tolist()] * 2).to_parquet(tmp_path / "labeled.parquet")
    (tmp_path / "val.py").write_text(
        "from torchvision import transforms\n"
        "transform = transforms.Compose([transforms.Resize(20), transforms.CenterCrop(16), transforms.ToTensor()])\n"
    )
    (tmp_path / "net.py").write_text(f"import torch\nfrom torch import Tensor, nn\n{inspect.getsource(Views)}")
    transform = f"{tmp_path}/val.py:transform"

    done = CliRunner().invoke(
        build_app(),
        [
            *("evaluate", str(exported.artifact), str(tmp_path / "labeled.parquet"), "--json"),
            *("--checkpoint", str(checkpoint), "--arch", f"{tmp_path}/net.py:Views"),
            *("--part", f"left={transform}", "--part", f"right={transform}"),
        ],
    )

    assert done.exit_code == 0, done.output
    assert '"eager"' in done.stdout


def test_no_variant_is_made_of_parts_which_is_said_before_the_data_is_read(exported, tmp_path):
    (tmp_path / "two.csv").write_text("left,right\na.jpg,b.jpg\n")

    with pytest.raises(ExportError, match=r"no variant is made of a network whose input has parts \(image, image"):
        quantize(exported.artifact, VariantRequest(precision="int8", calibration=tmp_path / "two.csv"))
