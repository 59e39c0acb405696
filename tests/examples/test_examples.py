"""Each example: trained, exported, and equal to eager on every prediction; then measured and calibrated."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.modules import EXAMPLES, load_example

import exporter
import runtime
from exporter.calibration.fit import calibrate
from exporter.conversion.to_torchscript import load_torchscript
from runtime.verify import verify

pytestmark = pytest.mark.slow


def truecopy(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "truecopy"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def iris(tmp_path_factory):
    folder = tmp_path_factory.mktemp("iris")
    return folder, load_example("iris").main(folder)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder, example = tmp_path_factory.mktemp("digits"), load_example("digits")
    return folder, {name: getattr(example, name)(folder) for name in ("classify", "label_sets", "segment")}


def check_equal(found: tuple[np.ndarray, np.ndarray]) -> None:
    eager, artifact = found
    assert np.ptp(eager) > 0.1  # an example without signal would show nothing
    assert np.abs(eager - artifact).max() <= 1e-5 * np.abs(eager).max()


def test_rows_to_a_class(iris):
    check_equal(iris[1])
    assert (iris[1][0].argmax(1) == iris[1][1].argmax(1)).all()


def test_rows_to_a_number(tmp_path):
    check_equal(load_example("diabetes").main(tmp_path))

    done = truecopy("predict", tmp_path / "artifact", write_rows(tmp_path), "--format", "jsonl")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [list(row) for row in rows] == [["input", "values"], ["input", "error"], ["input", "values"]]
    assert "rows.csv#2': column 'bmi': not a number: expected a float64, got 'fat'" in rows[1]["error"]
    assert 50 < rows[0]["values"]["progression"] < 300


def write_rows(folder: Path) -> Path:
    """Three rows, of which the second has text in a number's place."""
    names = "age,sex,bmi,bp,s1,s2,s3,s4,s5,s6"
    good, bad = "59,two,32.1,101,157,93.2,38,4,4.8598,87", "48,one,fat,87,183,103.2,70,3,3.8918,69"
    (folder / "rows.csv").write_text(f"{names}\n{good}\n{bad}\n{good}\n")
    return folder / "rows.csv"


def test_rows_to_yes_or_no(tmp_path):
    check_equal(load_example("wine").main(tmp_path))
    manifest = runtime.load(tmp_path / "artifact").manifest
    assert (manifest.task.kind, manifest.task.labels.count) == ("classify", 2)


def test_series_of_any_length_to_a_dictionary(tmp_path):
    check_equal(load_example("series").main(tmp_path))


@pytest.mark.parametrize("which", ["classify", "label_sets", "segment"])
def test_arrays_to_a_class_to_labels_and_to_a_map(digits, which):
    check_equal(digits[1][which])


def test_a_set_of_labels_has_a_threshold_a_class(digits):
    model = runtime.load(digits[0] / "multilabel")
    pixels, _ = load_example("digits").images()
    eager = digits[1]["label_sets"][0]

    for answer, scores in zip(model.predict(list(pixels[:50])), eager, strict=False):
        expected = {index for index, threshold in enumerate((0.5, 0.4, 0.6)) if scores[index] >= threshold}
        assert {one.index for one in answer.labels} == expected
        assert list(answer.to_dict()) == ["input", "labels"]
    assert len(model.predict(pixels[0], threshold=0.0).labels) == 3


def test_a_map_names_its_classes(digits):
    model = runtime.load(digits[0] / "segment")
    pixels, _ = load_example("digits").images()

    answer = model.predict(np.tile(pixels[3], (1, 2, 3)))

    assert answer.label_map.shape == (16, 24)
    assert set(answer.shares) == {"paper", "edge", "stroke"}
    assert sum(answer.shares.values()) == pytest.approx(1)


# --- evaluate and calibrate -------------------------------------------------------------------------------------------


def test_evaluate_counts_what_eager_counts(iris, tmp_path):
    folder, (eager, _) = iris
    truth = np.repeat([0, 1, 2], 50)

    done = truecopy("evaluate", folder / "artifact", folder / "iris.csv", "--json", "--out", tmp_path / "report")

    figures = json.loads(done.stdout)
    assert figures["accuracy"] == pytest.approx((eager.argmax(1) == truth).mean())
    assert figures["top5"] == 1.0
    matrix = np.zeros((3, 3), int)
    np.add.at(matrix, (truth, eager.argmax(1)), 1)
    assert figures["confusion"] == matrix.tolist()
    assert figures["classes"][0] == {"label": "setosa", "count": 50, "precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert (tmp_path / "report" / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_leaves_bad_rows_out_and_says_so(iris, tmp_path):
    lines = (iris[0] / "iris.csv").read_text().splitlines()
    lines[2] = lines[2].replace("setosa", "rose")
    lines[3] = "tall" + lines[3][3:]
    (tmp_path / "iris.csv").write_text("\n".join(lines))

    done = truecopy("evaluate", iris[0] / "artifact", tmp_path / "iris.csv")

    assert done.returncode == 0, done.stderr
    assert "148 inputs" in done.stdout
    assert "unknown label: expected one of 'setosa', 'versicolor', 'virginica'" in done.stderr
    assert "not a number: expected a float64, got 'tall" in done.stderr


def save_folders(folder: Path, pixels: np.ndarray, target: np.ndarray) -> Path:
    for row, (image, label) in enumerate(zip(pixels, target, strict=True)):
        place = folder / f"class {label}"
        place.mkdir(parents=True, exist_ok=True)
        np.save(place / f"{row:04}.npy", image)
    return folder


def test_calibration_repairs_a_model_that_is_too_sure(tmp_path):
    """A network whose logits are five times too large: the temperature that mends it is near five."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    centers = np.array([[1.0, 0], [-0.5, 0.87], [-0.5, -0.87]], dtype=np.float32)
    target = generator.integers(0, 3, 3000)
    points = (centers[target] + generator.normal(0, 1, (3000, 2))).astype(np.float32)
    network = nn.Linear(2, 3)
    with torch.no_grad():
        # The true posterior of these clouds has the centers as its weights; the norms are equal.
        network.weight.copy_(torch.from_numpy(centers) * 5)
        network.bias.zero_()
    torch.save(network.state_dict(), tmp_path / "model.pth")
    exporter.export(tmp_path / "model.pth", network, inputs=["x=float32[batch,2]"], out=tmp_path / "artifact")
    data = tmp_path / "points.jsonl"
    rows = [{"input": point.tolist(), "label": int(one)} for point, one in zip(points, target, strict=True)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = runtime.load(tmp_path / "artifact").run({"x": points[:100]})["probabilities"]

    found = calibrate(tmp_path / "artifact", data, out=tmp_path / "calibrated")

    assert found.temperature == pytest.approx(5, rel=0.1)
    assert found.error_before > 0.1
    assert found.error_after < 0.03
    model = runtime.load(tmp_path / "calibrated")
    after = model.run({"x": points[:100]})["probabilities"]
    script = load_torchscript(tmp_path / "calibrated" / "model.torchscript")
    assert script(torch.from_numpy(points[:100])).numpy() == pytest.approx(after, abs=1e-5)
    assert not found.formula_difference > 1e-4
    assert "model.torchscript: also calibrated" in found.notes
    scaled = np.log(before.astype(float)) / found.temperature
    expected = np.exp(scaled) / np.exp(scaled).sum(1, keepdims=True)
    assert after == pytest.approx(expected, abs=1e-5)
    assert model.manifest.calibration.scales[0] == pytest.approx(1 / found.temperature)
    assert verify(tmp_path / "calibrated").passed
    assert (tmp_path / "calibrated" / "reliability.png").is_file()
    # Calibrating what is calibrated changes nothing any more, and the scales multiply.
    again = calibrate(tmp_path / "calibrated", data)
    assert again.temperature == pytest.approx(1, abs=1e-3)
    assert runtime.load(tmp_path / "calibrated").manifest.calibration.scales[0] == pytest.approx(0.2, rel=0.1)


def test_a_network_trained_too_long_is_measured_and_calibrated(tmp_path):
    figures = load_example("calibration").main(tmp_path)

    assert figures["temperature"] > 1.2
    assert figures["accuracy after"] == figures["accuracy before"] > 0.8
    assert figures["calibration error after"] < 0.6 * figures["calibration error before"]
    assert figures["largest difference before"] <= 1e-5
    assert figures["largest difference after"] <= 1e-5


def test_calibration_of_labels_fits_a_scale_a_class(digits, tmp_path):
    pixels, target = load_example("digits").images()
    rows = zip(pixels[:600], target[:600], strict=True)
    data = tmp_path / "digits.jsonl"
    with data.open("w") as stream:
        for image, digit in rows:
            holds = {"even": digit % 2 == 0, "below five": digit < 5, "has a hole": digit in (0, 6, 8, 9)}
            names = [name for name, true in holds.items() if true]
            stream.write(json.dumps({"input": image.tolist(), "label": ";".join(names)}) + "\n")

    found = calibrate(digits[0] / "multilabel", data, out=tmp_path / "calibrated")

    assert len(found.scales) == 3
    assert found.error_after <= found.error_before + 1e-3
    assert verify(tmp_path / "calibrated").passed
    done = truecopy("evaluate", tmp_path / "calibrated", data, "--json")
    assert json.loads(done.stdout)["calibration_error"] == pytest.approx(found.error_after, abs=1e-4)


def test_evaluate_is_told_where_the_architecture_of_an_export_from_python_is(iris):
    folder, _ = iris
    data, options = folder / "iris.csv", ("--preprocess", folder / "scaler.skops")

    done = truecopy(
        *("evaluate", folder / "artifact", data, "--checkpoint", folder / "iris.pth", *options),
        *("--arch", f"{EXAMPLES / 'iris.py'}:build", "--json"),
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["eager"]["accuracy"] == found["accuracy"]
    assert found["differences"]["largest difference of a score"] <= 1e-5


def test_evaluate_sets_the_eager_model_beside(digits, tmp_path):
    pixels, target = load_example("digits").images()
    folder = save_folders(tmp_path / "data", pixels[:60], target[:60])

    done = truecopy("evaluate", digits[0] / "classify", folder, "--checkpoint", digits[0] / "model.pt", "--trust")

    assert done.returncode == 0, done.stderr
    assert "inputs with another label: 0 of 60" in done.stdout
