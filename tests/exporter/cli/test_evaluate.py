"""The eager model beside an artifact, on labeled rows and texts; and calibration of photo classifiers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from support.kinds import Bag
from torch import nn
from typer.testing import CliRunner

import exporter
import runtime
from exporter.calibration.fit import LogitScales, _calibrated_golden, calibrate
from exporter.cli.evaluate import evaluate
from exporter.conversion.to_torchscript import load_torchscript
from exporter.options.export import ExportOptions
from exporter.options.task import TaskOptions
from exporter.recheck import recheck_artifact
from runtime.artifact.open import open_artifact
from runtime.manifest import Value

app = typer.Typer()
app.command()(evaluate)


class Price(nn.Linear):
    """Two columns to one scaled number."""

    def __init__(self) -> None:
        super().__init__(2, 1)


@pytest.fixture
def saved(tmp_path):
    """Save a network's weights, and this file as its source."""
    (tmp_path / "net.py").write_text(Path(__file__).read_text())

    def save(network: nn.Module) -> tuple[Path, str]:
        path = tmp_path / "model.pth"
        torch.save(network.eval().state_dict(), path)
        return path, f"{tmp_path}/net.py:{type(network).__name__}"

    torch.manual_seed(0)
    return save


def run(*arguments: object) -> dict[str, object]:
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_regression_has_its_targets_scaling_undone_on_both_sides(saved, tmp_path):
    network = Price()
    checkpoint, reference = saved(network)
    (tmp_path / "stats.json").write_text(json.dumps({"a": {"mean": 10, "std": 2}, "b": {"mean": -1, "std": 0.5}}))
    wanted = TaskOptions(
        task="regress", values=(Value(name="price", unit="EUR"),), target_mean=(250.0,), target_std=(40.0,)
    )
    exporter.export(
        checkpoint, reference, preprocess=str(tmp_path / "stats.json"), task_options=wanted, out=tmp_path / "artifact"
    )
    rows = np.random.default_rng(0).normal((10, -1, 250), (2, 0.5, 40), (30, 3))
    (tmp_path / "rows.csv").write_text("a,b,price\n" + "".join(f"{a},{b},{price}\n" for a, b, price in rows))

    figures = run(
        *(tmp_path / "artifact", tmp_path / "rows.csv"),
        *("--checkpoint", checkpoint, "--preprocess", tmp_path / "stats.json"),
    )

    with torch.no_grad():
        features = torch.from_numpy((rows[:, :2] - (10, -1)) / (2, 0.5)).float()
        eager = network(features)[:, 0].numpy() * 40 + 250
    error = pytest.approx(np.abs(eager - rows[:, 2]).mean(), rel=1e-5)
    assert figures["values"][0]["mean_absolute_error"] == error
    assert figures["eager"]["values"][0]["mean_absolute_error"] == error
    assert 0 <= figures["differences"]["largest difference of a value"] < 1e-3


def test_texts_are_compared_with_the_eager_model_too(saved, tmp_path):
    from data.languages import build_tokenizer

    checkpoint, reference = saved(Bag())
    build_tokenizer(tmp_path / "tokenizer.json")
    exporter.export(checkpoint, reference, tokenizer=tmp_path / "tokenizer.json", out=tmp_path / "artifact")
    (tmp_path / "rows.csv").write_text("text,label\nit is good,0\nvery bad,1\nnot one,2\n")

    figures = run(tmp_path / "artifact", tmp_path / "rows.csv", "--checkpoint", checkpoint)

    assert figures["inputs"] == figures["eager"]["inputs"] == 3
    assert figures["confusion"] == figures["eager"]["confusion"]
    assert figures["differences"]["largest difference of a score"] < 1e-5


def test_calibration_reaches_every_stage_of_a_photo_classifiers_torchscript(exported, photos, tmp_path):
    """The whole path, and the inner stages that a parity check looks at; the host and TorchScript agree."""
    labels = runtime.load(exported.artifact).labels
    for label, photo in zip(labels, photos, strict=True):
        (tmp_path / "data" / label).mkdir(parents=True)
        for row in range(3):
            side = min(photo.size) // (row + 1)
            photo.crop((row * 20, 0, row * 20 + side, side)).save(tmp_path / "data" / label / f"{row}.png")
    # One photo under another label: a classifier that is always right would have no temperature.
    photos[0].save(tmp_path / "data" / labels[1] / "odd.png")

    found = calibrate(exported.artifact, tmp_path / "data", out=tmp_path / "calibrated")

    assert "model.torchscript: also calibrated" in found.notes
    assert abs(found.temperature - 1) > 0.05
    model = runtime.load(tmp_path / "calibrated")
    script = load_torchscript(tmp_path / "calibrated" / "model.torchscript")
    for photo in photos:
        image = torch.from_numpy(np.array(photo)[np.newaxis])
        expected = model.run(model.stack([model.prepare(photo)]))["probabilities"]
        pixels = script.prepare(image)
        assert pixels.numpy() == pytest.approx(model.prepare(photo)[np.newaxis], abs=0)
        for scores in (script(image), script.score(pixels)):
            assert scores.numpy() == pytest.approx(expected, abs=1e-5)
    calibrate(exported.artifact, tmp_path / "data", out=tmp_path / "again")
    archives = [tmp_path / name / "model.torchscript" for name in ("calibrated", "again")]
    assert archives[0].read_bytes() == archives[1].read_bytes()


def test_a_damaged_golden_set_gets_no_new_hash_by_calibration(tiny, tmp_path):
    copy = shutil.copytree(tiny, tmp_path / "copy")
    data = bytearray((copy / "golden.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "golden.npz").write_bytes(data)

    with pytest.raises(runtime.ArtifactError, match="damaged"):
        _calibrated_golden(open_artifact(copy), LogitScales(values=np.ones(1), sigmoid=False))


def test_a_calibrated_artifact_is_compared_at_its_temperature(exported, checkpoint_file, net_file, photos, tmp_path):
    """With graphs of another temperature it is another model."""
    labels = runtime.load(exported.artifact).labels
    for label, photo in zip(labels, photos, strict=True):
        (tmp_path / "data" / label).mkdir(parents=True)
        photo.save(tmp_path / "data" / label / "0.png")
    photos[0].save(tmp_path / "data" / labels[1] / "odd.png")
    calibrated = tmp_path / "calibrated"
    temperature = calibrate(exported.artifact, tmp_path / "data", out=calibrated).temperature
    options = ExportOptions(checkpoint=checkpoint_file, preprocess=f"{net_file}:transform")

    evidence = recheck_artifact(calibrated, options, pixels=False).evidence

    assert evidence.passed, evidence.reason
    assert f"the calibration: a temperature of {temperature:.3g}" in " ".join(evidence.not_proven)
    stages = {(row.path, row.stage) for row in evidence.rows}
    assert {("model.onnx", "activation"), ("runtime", "network"), ("model.torchscript", "end to end")} <= stages
    manifest = json.loads((calibrated / "truecopy.json").read_text())
    manifest["calibration"]["scales"] = [1.01 * scale for scale in manifest["calibration"]["scales"]]
    (calibrated / "truecopy.json").write_text(json.dumps(manifest))
    other = recheck_artifact(calibrated, options, pixels=False).evidence
    assert (other.verdict, other.rows[other.first_fault].stage) == ("failed", "activation")


def test_one_class_of_a_multilabel_keeps_its_sigmoid(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())
    network[0].weight.data *= 3
    torch.save(network.state_dict(), tmp_path / "net.pth")
    artifact = tmp_path / "artifact"
    exporter.export(tmp_path / "net.pth", network, inputs=["x=float32[batch,2]"], task="multilabel", out=artifact)
    points = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    before = runtime.load(artifact).run({"x": points})["probabilities"].astype(float)
    label = runtime.load(artifact).labels[0]
    truth = np.random.default_rng(1).random(60) < 1 / (1 + np.exp(-np.log(before / (1 - before))[:, 0] / 2))
    rows = [{"input": x.tolist(), "label": label if one else ""} for x, one in zip(points, truth, strict=True)]
    (tmp_path / "points.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    found = calibrate(artifact, tmp_path / "points.jsonl", out=tmp_path / "calibrated")

    assert found.temperature is None
    after = runtime.load(tmp_path / "calibrated").run({"x": points})["probabilities"]
    assert after == pytest.approx(1 / (1 + (before / (1 - before)) ** -found.scales[0]), abs=1e-5)
    options = ExportOptions(checkpoint=tmp_path / "net.pth", arch=network)
    evidence = recheck_artifact(tmp_path / "calibrated", options).evidence
    assert evidence.passed, evidence.reason
    assert ("model.onnx", "activation") in {(row.path, row.stage) for row in evidence.rows}
