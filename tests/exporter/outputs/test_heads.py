"""Several heads: columns of one output, or outputs of their own, each with its own activation, labels and result."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mutation.planting import rehash
from support.commands import truecopy
from torch import Tensor, nn
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

import exporter
import runtime
from exporter.calibration.fit import calibrate
from exporter.conversion.to_torchscript import load_torchscript
from exporter.eager.bench import build_baselines
from exporter.eager.evaluate import score_eager
from exporter.options.heads import HeadOptions, read_heads
from exporter.options.task import TaskOptions
from exporter.outputs.registry import open_reference
from exporter.recheck import recheck_artifact
from runtime.artifact.open import open_artifact
from runtime.evaluation.data import read_labeled
from runtime.evaluation.metrics import evaluate, score
from runtime.verify import verify

INPUTS = ("x=float32[batch,5]",)
LABELS = {"race": ["white", "black", "asian"], "gender": ["male", "female"], "smiles": ["no", "yes"]}
HEADS = (
    "race=0:3@{0}/race.txt,gender=3:5@{0}/gender.txt,age:regress=5:6,smiles:binary=6:7@{0}/smiles.txt,"
    "tags:multilabel=7:9"
)


class Named(nn.Module):
    """A head of logits, one of probabilities, one number, and an output that is no head."""

    def __init__(self) -> None:
        super().__init__()
        self.race = nn.Linear(5, 3)
        self.gender = nn.Linear(5, 2)
        with torch.no_grad():
            self.race.weight.mul_(6)
            self.gender.weight.mul_(6)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        gender = self.gender(x)
        return {
            "race": self.race(x),
            "features": x.reshape(-1, 5, 1) * 2,
            "gender": gender.softmax(1),
            "age": gender.sum(dim=1),
        }


class Pair(Named):
    """The two heads as a tuple."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        named = super().forward(x)
        return named["race"], named["gender"]


class Photo(nn.Module):
    """Two heads of one vector, for photos."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3, 5)
        with torch.no_grad():
            self.line.weight.mul_(9)

    def forward(self, x: Tensor) -> Tensor:
        return self.line(x.mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    for name, labels in LABELS.items():
        (folder / f"{name}.txt").write_text("".join(f"{label}\n" for label in labels))
    return folder


@pytest.fixture(scope="module")
def vector():
    torch.manual_seed(0)
    network = nn.Linear(5, 9)
    with torch.no_grad():
        network.weight.mul_(6)
    return network


def save(network, path):
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def exported(folder, vector):
    checkpoint = save(vector, folder / "vector.pth")
    return exporter.export(checkpoint, vector, inputs=INPUTS, heads=HEADS.format(folder), out=folder / "vector")


def rows(count=2):
    return np.random.default_rng(1).standard_normal((count, 5)).astype(np.float32)


def test_each_head_has_a_result_of_its_own_task(exported, vector):
    x = rows()
    with torch.no_grad():
        logits = vector(torch.from_numpy(x))

    with runtime.load(exported.artifact, device="cpu") as model:
        result = model.predict(x[0])
        many = model.predict([x[0], np.full(5, 3e38, np.float32), x[1]])

    race = logits[0, :3].softmax(0)
    assert result.heads["race"].label == LABELS["race"][int(race.argmax())]
    assert result.heads["race"].probability == pytest.approx(float(race.max()), abs=1e-6)
    assert result.heads["gender"].top[0].label in LABELS["gender"]
    assert result.heads["age"].values == {"age": pytest.approx(float(logits[0, 5]), abs=1e-5)}
    assert result.heads["smiles"].label == LABELS["smiles"][int(logits[0, 6] > 0)]
    assert {scored.index for scored in result.heads["tags"].labels} == set(np.flatnonzero(logits[0, 7:9] >= 0))
    assert many[0].heads.keys() == result.heads.keys()
    assert "expected finite scores" in many[1].error
    assert many[2].heads["age"].values["age"] == pytest.approx(float(logits[1, 5]), abs=1e-5)


def test_every_head_is_compared_on_every_path_and_kept_in_the_golden_set(exported):
    tensors = {noise.tensor for noise in exported.parity.noise if noise.stage == "end to end"}
    paths = {(row.path, row.stage) for row in exported.parity.rows}
    golden = np.load(exported.artifact / "golden.npz")

    assert tensors == {"race", "gender", "age", "smiles", "tags"}
    assert {("runtime", "labels"), ("runtime", "activation"), ("model.torchscript", "end to end")} <= paths
    assert {"0/outputs/race", "0/outputs/age", "0/labels/gender.label", "0/labels/tags.labels"} <= set(golden.files)
    assert all(row.label_agreement == 1.0 for row in exported.parity.rows if row.stage == "end to end")
    assert verify(exported.artifact).passed


def test_the_labels_of_all_heads_are_one_file_in_the_order_of_the_heads(exported):
    artifact = open_artifact(exported.artifact)

    assert artifact.labels()[:7] == (*LABELS["race"], *LABELS["gender"], *LABELS["smiles"])
    assert "race: 3 from" in next(step.finding for step in exported.steps if step.name == "labels")
    assert any("tags: no --labels" in sentence for sentence in exported.parity.not_proven)
    assert any("which heads: stated by options" in sentence for sentence in exported.parity.not_proven)


def test_a_swapped_label_of_a_head_is_found_by_verify_and_by_parity(exported, folder, vector, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(exported.artifact, changed)
    lines = (changed / "labels.txt").read_text().splitlines()
    (changed / "labels.txt").write_text("\n".join([*lines[:3], lines[4], lines[3], *lines[5:]]) + "\n")
    rehash(changed)
    options = exporter.ExportOptions(
        checkpoint=folder / "vector.pth",
        arch=vector,
        inputs=INPUTS,
        task_options=TaskOptions(heads=read_heads(HEADS.format(folder))),
    )

    assert not verify(changed).passed
    evidence = recheck_artifact(changed, options).evidence
    assert evidence.verdict == "failed"
    assert any("the first at index 3: expected 'male', got 'female'" in check.finding for check in evidence.whole)
    assert recheck_artifact(exported.artifact, options).evidence.verdict == "passed"
    assert recheck_artifact(exported.artifact, replace(options, task_options=TaskOptions())).evidence.passed


def test_other_columns_than_those_of_the_export_are_named(exported, folder, vector):
    options = exporter.ExportOptions(
        checkpoint=folder / "vector.pth",
        arch=vector,
        inputs=INPUTS,
        task_options=TaskOptions(heads=read_heads("race=0:2,gender=3:5,age:regress=5:6,smiles:binary=6:7")),
    )

    evidence = recheck_artifact(exported.artifact, options).evidence

    assert evidence.verdict == "failed"
    assert "'heads[0].stop': expected 2, got 3" in evidence.reason
    assert "--heads" in evidence.reason


def test_rows_are_nested_by_head_in_json_and_in_columns_of_csv(exported, tmp_path):
    np.save(tmp_path / "x.npy", rows(1)[0])

    output = truecopy("predict", exported.artifact, tmp_path / "x.npy", "--format", "jsonl").stdout
    truecopy("predict", exported.artifact, tmp_path / "x.npy", "--out", tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open() as stream:
        (line,) = csv.DictReader(stream)

    row = json.loads(output)
    assert row["heads"]["race"].keys() == {"label", "index", "probability", "top"}
    assert row["heads"]["age"].keys() == {"values"}
    assert line["heads.race.label"] == row["heads"]["race"]["label"]
    assert float(line["heads.gender.probability"]) == row["heads"]["gender"]["probability"]


def test_each_head_is_evaluated_with_the_column_of_its_name(exported, folder, vector, tmp_path):
    inputs = rows(8)
    with runtime.load(exported.artifact, device="cpu") as model:
        results = model.predict(list(inputs))
        truth = [
            {
                "race": result.heads["race"].label,
                "gender": "male",
                "age": result.heads["age"].values["age"] + 2,
                "smiles": result.heads["smiles"].label,
                "tags": "",
            }
            for result in results
        ]
        table = tmp_path / "table.jsonl"
        lines = [json.dumps({"input": x.tolist(), **row}) for x, row in zip(inputs, truth, strict=True)]
        table.write_text("\n".join(lines))
        scored = score(model, read_labeled(model, table, column="label"))
        evaluation = evaluate(model, scored, name="vector")

        assert evaluation.heads["race"].accuracy == 1.0
        males = sum(result.heads["gender"].label == "male" for result in results)
        assert evaluation.heads["gender"].accuracy == males / 8
        assert evaluation.heads["age"].values[0].mean_absolute_error == pytest.approx(2, abs=1e-5)
        options = exporter.ExportOptions(checkpoint=folder / "vector.pth", arch=vector, inputs=INPUTS)
        artifact = open_artifact(exported.artifact)
        eager = score_eager(artifact, model, read_labeled(model, table, column="label"), options)
        differences = open_reference(model.manifest.task, model.labels).differences(scored, eager)

    assert differences["race: inputs with another label"] == 0
    assert max(differences.values()) < 1e-5


def test_a_column_of_a_head_that_is_missing_is_named(exported, tmp_path):
    (tmp_path / "table.jsonl").write_text(json.dumps({"input": rows(1)[0].tolist(), "race": "white"}))

    with (
        runtime.load(exported.artifact, device="cpu") as model,
        pytest.raises(runtime.InputError, match=r"no column 'gender'.* Add it, or rename"),
    ):
        list(read_labeled(model, tmp_path / "table.jsonl", column="label"))


def test_folders_of_classes_are_no_truth_of_several_heads(exported, tmp_path):
    (tmp_path / "white").mkdir()
    (tmp_path / "white" / "a.npy").touch()

    with (
        runtime.load(exported.artifact, device="cpu") as model,
        pytest.raises(runtime.InputError, match="a column for each: race, gender, age, smiles, tags"),
    ):
        list(read_labeled(model, tmp_path, column="label"))


def test_calibration_of_several_heads_is_refused_with_the_way_out(exported, tmp_path):
    with pytest.raises(exporter.ExportError, match="of several heads, export one alone"):
        calibrate(exported.artifact, tmp_path)


def test_without_columns_each_output_is_a_head_and_others_are_left_out_by_name(folder):
    torch.manual_seed(0)
    network = Named()
    checkpoint = save(network, folder / "named.pth")

    exported = exporter.export(
        checkpoint, network, inputs=INPUTS, heads=f"race@{folder}/race.txt,gender,age:regress", out=folder / "named"
    )

    heads = {head.name: (head.output, head.start, head.stop) for head in exported.manifest.task.heads}
    assert heads == {"race": ("race", 0, 3), "gender": ("gender", 0, 2), "age": ("age", 0, 1)}
    finding = next(step.finding for step in exported.steps if step.name == "reference")
    assert "race: softmax added; gender: the network gives probabilities itself" in finding
    x = rows(1)[0]
    with torch.no_grad():
        expected = network(torch.from_numpy(x[None]))
    with runtime.load(exported.artifact, device="cpu") as model:
        heads = model.predict(x).heads
    assert heads["gender"].probability == pytest.approx(float(expected["gender"].max()), abs=1e-6)
    assert heads["age"].values == {"age": pytest.approx(float(expected["age"][0]), abs=1e-5)}
    assert verify(exported.artifact).passed


def test_the_first_head_of_eager_is_what_bench_compares_with(exported, folder, vector):
    runners = build_baselines(folder / "vector.pth", open_artifact(exported.artifact), arch=vector)
    arrays = {"x": rows(1)}

    with runtime.load(exported.artifact, device="cpu") as model:
        expected = model.run(arrays)["race"]

    for name in ("eager PyTorch", "TorchScript"):
        np.testing.assert_allclose(runners[name](arrays), expected, atol=1e-6, err_msg=name)


def test_a_tuple_of_logits_is_refused_with_the_task_that_takes_it(folder, tmp_path):
    network = Pair()
    checkpoint = save(network, folder / "pair.pth")

    with pytest.raises(exporter.ConversionError, match="It returns 'output_0', 'output_1': pass --task heads"):
        exporter.export(checkpoint, network, inputs=INPUTS, out=tmp_path / "pair")
    exported = exporter.export(
        checkpoint, network, inputs=INPUTS, heads="race=output_0,gender=output_1", out=tmp_path / "pair", forms="onnx"
    )

    assert [output.name for output in exported.manifest.outputs] == ["race", "gender"]


def test_heads_of_photos(folder, tmp_path):
    torch.manual_seed(0)
    network = Photo()
    checkpoint = save(network, folder / "photo.pth")
    transform = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])

    exported = exporter.export(
        checkpoint, network, preprocess=transform, heads="race=0:3,gender=3:5", out=tmp_path / "photo"
    )

    assert verify(exported.artifact).passed
    assert {row.path for row in exported.parity.rows} == {"model.onnx", "runtime", "model.torchscript"}
    photo = torch.randint(0, 256, (1, 50, 40, 3), dtype=torch.uint8)
    race, gender = load_torchscript(exported.artifact / "model.torchscript")(photo)
    with torch.no_grad():
        columns = network(transform(to_pil_image(photo[0].permute(2, 0, 1)))[None])
    torch.testing.assert_close(race, columns[:, :3].softmax(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gender, columns[:, 3:].softmax(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ("race=0:12", r"'race': columns 0:12 of 'output': expected at most 9"),
        ("age=5:6", r"'age': one column: .* Pass age:binary .* or age:regress"),
        ("race=logits", r"'race': no output 'logits': 'Linear' returns 'output'. Name one of these: race=OUTPUT"),
        ("race=3:1", "expected columns START:STOP with START before STOP, got '3:1'"),
        ("race=0:3,race=3:5", "a name of its own for each head, got 'race' twice"),
        ("age:years=5:6", "one of the tasks classify, binary, multilabel, regress for a head, got 'years'"),
        ("race=0:3@absent.txt", "'absent.txt': no such file"),
    ],
)
def test_a_description_that_cannot_be_right_is_refused(heads, message, folder, vector, tmp_path):
    checkpoint = save(vector, folder / "vector.pth")

    with pytest.raises(exporter.ExportError, match=message):
        exporter.export(checkpoint, vector, inputs=INPUTS, heads=heads, out=tmp_path / "refused")


def test_heads_contradict_another_task_and_the_labels_of_one(folder):
    with pytest.raises(exporter.ExportError, match="--heads: is for --task heads, and the task is classify"):
        exporter.ExportOptions.from_keywords(folder / "vector.pth", heads="race=0:3", task="classify")
    with pytest.raises(exporter.ExportError, match=r"--labels: is for --task .*, and the task is heads"):
        exporter.ExportOptions.from_keywords("m.pth", heads="race=0:3", labels=folder / "race.txt").check_export()


def test_a_description_is_read_part_by_part():
    assert read_heads("race@race.txt, age:regress=output_1, gender=logits:7:9") == (
        HeadOptions(name="race", labels=Path("race.txt")),
        HeadOptions(name="age", task="regress", output="output_1"),
        HeadOptions(name="gender", output="logits", start=7, stop=9),
    )
