"""Photos to label maps, and pictures of them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import typer
from onnx import helper
from PIL import Image
from torch import nn
from torchvision import transforms
from typer.testing import CliRunner

import runtime
from exporter.cli.evaluate import evaluate
from exporter.cli.export import app
from exporter.options.task import TaskOptions
from exporter.outputs.postprocessing import output_info
from exporter.outputs.registry import infer_postprocessing
from runtime.jobs.job import describe_job
from runtime.jobs.journal import JobDescription, Journal

evaluate_app = typer.Typer()
evaluate_app.command()(evaluate)
COMMAND = [str(Path(sys.executable).parent / "truecopy"), "predict"]
TRANSFORM = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(32), transforms.ToTensor()])


class Bright(nn.Module):
    """What torchvision's segmentation networks return: a dictionary, with an auxiliary output beside the main one."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            self.line.weight.copy_(torch.tensor([[-9.0, 0, 0], [9, -9, 0], [0, 9, 0]])[:, :, None, None])
            self.line.bias.copy_(torch.tensor([4.0, 0, -4]))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": self.line(x), "aux": x}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmentation")
    torch.save(Bright().state_dict(), folder / "model.pth")
    (folder / "names.txt").write_text("dark\nred\nbright\n")
    (folder / "net.py").write_text(Path(__file__).read_text())
    command = [folder / "model.pth", "--arch", f"{folder}/net.py:Bright", "--preprocess", f"{folder}/net.py:TRANSFORM"]
    command += ["--labels", folder / "names.txt", "--task", "segment", "--out", folder / "artifact"]
    done = CliRunner().invoke(app, [*map(str, command), "--colors", "black,#f00,#ffff80"])
    assert done.exit_code == 0, done.output
    return folder / "artifact"


def test_the_map_is_eagers_place_by_place(artifact, photos):
    with torch.no_grad():
        expected = Bright()(TRANSFORM(photos[0])[None])["out"].softmax(1)[0].numpy()

    model = runtime.load(artifact)
    answer = model.predict(photos[0])

    assert (answer.label_map == expected.argmax(0)).mean() == 1.0
    assert answer.label_map.shape == (32, 32)
    assert set(answer.shares) == {"dark", "red", "bright"}
    assert model.manifest.outputs[0].shape[:2] == ("batch", 3)


def test_predict_writes_a_picture_of_each_map(artifact, photos, tmp_path):
    (tmp_path / "in").mkdir()
    photos[0].save(tmp_path / "in" / "cat.png")
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    command = [str(Path(sys.executable).parent / "truecopy"), "predict", str(artifact), str(tmp_path / "in")]

    done = subprocess.run(
        [*command, "--overlays", str(tmp_path / "out")], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cat.png"]
    picture = np.asarray(Image.open(tmp_path / "out" / "cat.png"))
    model = runtime.load(artifact)
    assert model.manifest.task.colors == ((0, 0, 0), (255, 0, 0), (255, 255, 128))
    colors = np.array(model.manifest.task.colors)[model.predict(photos[0]).label_map]
    expected = (model.prepare(photos[0]) * 0.5 + colors * 0.5).round()
    assert np.abs(picture - expected).max() <= 1


def test_a_job_writes_rows_and_pictures_and_goes_on_with_both(artifact, photos, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        photos[0].save(tmp_path / "in" / name / "cat.png")
    photos[1].save(tmp_path / "in" / "b" / "cup.png")
    whole = [*COMMAND, artifact, tmp_path / "in", "--out", tmp_path / "rows.jsonl", "--overlays", tmp_path / "out"]

    def names() -> list[str]:
        return sorted(path.name for path in (tmp_path / "out").iterdir())

    def run(*more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*map(str, whole), *more], capture_output=True, text=True, check=False, timeout=60)

    done = run()
    assert done.returncode == 0, done.stderr
    assert names() == ["cat-2.png", "cat.png", "cup.png"]
    rows = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [Path(json.loads(row)["input"]).name for row in rows] == ["cat.png", "cat.png", "cup.png"]

    # The second half again, as if a crash had come after the first row; its picture keeps its name.
    journal = Journal(tmp_path / "rows.jsonl", job_of(whole), resume=False, force=True)
    with journal:
        journal.append(json.loads(rows[0]))
    for name in ("cat-2.png", "cup.png"):
        (tmp_path / "out" / name).unlink()
    done = run("--resume")
    assert done.returncode == 0, done.stderr
    assert names() == ["cat-2.png", "cat.png", "cup.png"]
    assert (tmp_path / "rows.jsonl").read_text().splitlines() == rows


def job_of(command: list[object]) -> JobDescription:
    options = {"top_k": 5, "threshold": None, "max_pixels": 64_000_000, "overlays": str(command[-1])}
    return describe_job(command[2], (str(command[3]),), column=None, options=options)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--task", "segment", "--colors", "black,nocolour"], "nocolour"),
        (["--task", "classify", "--colors", "black"], "is for --task segment"),
    ],
)
def test_colors_that_are_none_are_refused(options, reason, tmp_path):
    done = CliRunner().invoke(app, [str(tmp_path / "model.pth"), *options])

    assert done.exit_code == 2
    assert reason in " ".join(done.output.split())


@pytest.fixture
def data(photos, tmp_path):
    """Two photos with their true maps: what eager says, but for a corner, and a frame that does not count."""
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for name, photo in zip(("cat", "cup"), photos, strict=False):
        photo.save(tmp_path / "data" / "images" / f"{name}.png")
        with torch.no_grad():
            true = Bright()(transforms.ToTensor()(photo)[None])["out"][0].argmax(0).numpy().astype(np.uint8)
        true[:, : photo.width // 2] = 0
        true[: photo.height // 3] = 255
        Image.fromarray(true).save(tmp_path / "data" / "masks" / f"{name}.png")
    return tmp_path / "data"


def reference(folder: Path) -> np.ndarray:
    """Count places by true and given class, with torchvision's own resize of the masks."""
    to_mask = transforms.Compose(
        [transforms.Resize(40, transforms.InterpolationMode.NEAREST), transforms.CenterCrop(32)]
    )
    counts = np.zeros((3, 3), int)
    for path in sorted((folder / "images").iterdir()):
        true = np.asarray(to_mask(Image.open(folder / "masks" / path.name)))
        with torch.no_grad():
            given = Bright()(TRANSFORM(Image.open(path))[None])["out"][0].argmax(0).numpy()
        np.add.at(counts, (true[true != 255], given[true != 255]), 1)
    return counts


def test_evaluate_measures_the_overlap_and_sets_eager_beside(artifact, data):
    expected = reference(data)
    command = [artifact, data, "--checkpoint", artifact.parent / "model.pth"]
    command += ["--preprocess", f"{artifact.parent}/net.py:TRANSFORM", "--json"]

    done = CliRunner().invoke(evaluate_app, list(map(str, command)))

    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    overlap = expected.diagonal() / (expected.sum(0) + expected.sum(1) - expected.diagonal())
    assert figures["confusion"] == expected.tolist()
    assert figures["accuracy"] == pytest.approx(expected.diagonal().sum() / expected.sum())
    assert figures["mean_iou"] == pytest.approx(overlap.mean())
    assert [one["iou"] for one in figures["classes"]] == pytest.approx(overlap.tolist())
    assert 0.2 < figures["mean_iou"] < 0.95  # neither all nor nothing
    assert figures["eager"]["confusion"] == expected.tolist()
    assert figures["differences"] == {"pixels with another label": 0}


def test_a_mask_that_fits_nothing_costs_only_its_photo(artifact, data, tmp_path):
    cup = Image.open(data / "masks" / "cup.png")
    rows = ["path,label", "images/cat.png,masks/cat.png"]
    odd = {
        "small": cup.resize((50, 40)),
        "five": cup.point(lambda _: 5),
        "pink": Image.new("RGB", cup.size, "pink"),
    }
    for name, mask in odd.items():
        mask.save(data / "masks" / f"{name}.png")
        rows.append(f"images/cup.png,masks/{name}.png")
    rows.append("images/cup.png,masks/none.png")
    (data / "pairs.csv").write_text("\n".join(rows))

    done = CliRunner().invoke(evaluate_app, [str(artifact), str(data / "pairs.csv"), "--json"])

    figures = json.loads(done.stdout)
    assert figures["inputs"] == 1
    reasons = [
        "unexpected size",
        "expected numbers from 0 to 2",
        "expected the model's colors, got #ffc0cb",
        "no such file",
    ]
    assert len(figures["failures"]) == 4
    for reason, found in zip(reasons, figures["failures"].values(), strict=True):
        assert reason in found


def test_a_mask_may_have_the_models_colors_or_the_maps_size(artifact, data):
    for path in (data / "masks").iterdir():
        true = np.asarray(Image.open(path))
        if path.stem == "cat":
            colors = np.array([(0, 0, 0), (255, 0, 0), (255, 255, 128)], np.uint8)
            Image.fromarray(colors[np.where(true == 255, 0, true)]).save(path)
        else:
            path.unlink()
            np.save(path.with_suffix(".npy"), np.zeros((32, 32), np.int64))

    done = CliRunner().invoke(evaluate_app, [str(artifact), str(data)])

    assert done.exit_code == 0, done.output
    assert "2 inputs, pixel accuracy" in done.stdout
    assert "IoU" in done.stdout


def test_only_maps_have_pictures(exported, tmp_path):
    command = [str(Path(sys.executable).parent / "truecopy"), "predict", str(exported.artifact), "x.jpg"]

    done = subprocess.run(
        [*command, "--overlays", str(tmp_path / "out")], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 1
    assert "needs label maps: expected the task segment, got classify" in done.stderr


@pytest.mark.parametrize(("probabilities", "activation"), [(False, "binary"), (True, "complement")])
def test_one_channel_is_the_second_of_two_classes(probabilities, activation):
    torch.manual_seed(0)
    logits = torch.randn(1, 1, 5, 7)
    value = torch.sigmoid(logits) if probabilities else logits

    postprocessing = infer_postprocessing([value], TaskOptions(task="segment"), labels_file="labels.txt", name="net")

    assert postprocessing.activation == activation
    assert postprocessing.task.labels.count == len(postprocessing.task.colors) == 2
    second = torch.sigmoid(logits)
    expected = torch.cat([1 - second, second], dim=1).numpy()
    outputs = postprocessing.with_shapes({"logits": ("batch", 1, 5, 7)})
    assert outputs[0].shape == ("batch", 2, 5, 7)
    nodes = postprocessing.nodes()
    given = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [1, 1, 5, 7])
    graph = helper.make_graph(nodes.nodes, "ending", [given], [output_info(outputs[0])], list(nodes.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for scores in (session.run(None, {"logits": value.numpy()})[0], postprocessing.expect(value)["probabilities"]):
        assert scores == pytest.approx(expected, abs=1e-6)
