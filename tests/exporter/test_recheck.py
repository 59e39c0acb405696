"""'truecopy parity': an artifact that is already there, proven again, or what differs, named."""

import json
import re
import shutil
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
import torch
from msgspec import structs
from mutation.planting import rehash
from PIL import Image
from typer.testing import CliRunner

import exporter
from exporter import recheck as checking
from exporter.cli import parity as command
from exporter.inputs.image import pixel_check
from exporter.inputs.image.made_images import drawings_of
from exporter.options.export import ExportOptions
from exporter.parity.proof_cache import ProofCache
from exporter.recheck import recheck_artifact
from runtime.artifact.golden import GoldenSet, golden_to_npz, read_golden
from runtime.cli.main import build_app
from runtime.geometry import sizes
from runtime.model import Model


@pytest.fixture
def options(checkpoint_file, net_file):
    return ExportOptions(checkpoint=checkpoint_file, preprocess=f"{net_file}:transform")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Images of a few sizes: what the others are for is tested with the pixel check alone."""
    few = drawings_of([(1, 1), (61, 44), (90, 120)])
    monkeypatch.setattr(pixel_check, "choose_drawings", lambda _steps, *, thorough=False: few)


@pytest.fixture
def parity(exported, checkpoint_file, net_file):
    """Run the command on the tiny network, with more arguments."""

    def run(*more, artifact=exported.artifact, checkpoint=checkpoint_file):
        given = ["parity", artifact, "--checkpoint", checkpoint, "--preprocess", f"{net_file}:transform", *more]
        return CliRunner().invoke(build_app(), [str(one) for one in given])

    return run


def junit_of(path):
    """Return the root of a JUnit report."""
    return ElementTree.fromstring(path.read_bytes())  # noqa: S314 - our own


def test_an_artifact_is_proven_again_and_its_pixels_of_made_images(exported, options):
    evidence = recheck_artifact(exported.artifact, options).evidence

    assert evidence.passed, evidence.reason
    assert evidence.first_fault is None
    made = [row for row in evidence.rows if row.group == "made pixels"]
    assert [(row.path, row.stage) for row in made] == [
        ("runtime", "decode"),
        *((path, "geometry") for path in ("model.onnx", "runtime", "model.torchscript")),
    ]
    before = {(row.path, row.stage, row.group): row.difference for row in exported.parity.rows}
    # What travels along is checked here, and cannot be before it is written.
    golden = [row for row in evidence.rows if row.path == "golden.npz"]
    assert golden
    again = [row for row in evidence.rows if row not in made and row not in golden]
    now = {(row.path, row.stage, row.group): row.difference for row in again}
    assert now == before
    assert any(sentence.startswith("CUDA: ") for sentence in evidence.not_proven) or any(
        row.device == "cuda" for row in evidence.rows
    )


@pytest.mark.parametrize("stale", [False, True])
def test_golden_inputs_that_only_the_export_had_are_compared_with_the_eager_model(
    stale, options, checkpoint_file, net_file, tmp_path
):
    (tmp_path / "samples").mkdir()
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    photo.save(tmp_path / "samples" / "mine.png")
    artifact = exporter.export(
        checkpoint_file,
        f"{net_file}:MyCNN",
        arguments={"num_classes": 4},
        preprocess=f"{net_file}:transform",
        samples=tmp_path / "samples",
        out=tmp_path / "artifact",
    ).artifact
    path = artifact / "golden.npz"
    cases = read_golden(path).cases
    mine = (tmp_path / "samples" / "mine.png").read_bytes()
    assert mine in [case.source for case in cases]
    if stale:
        edited = [
            structs.replace(case, outputs={name: 1 - array for name, array in case.outputs.items()})
            if case.source == mine
            else case
            for case in cases
        ]
        path.write_bytes(golden_to_npz(GoldenSet(cases=tuple(edited))))
        rehash(artifact)

    evidence = recheck_artifact(artifact, options, pixels=False).evidence

    assert evidence.passed is not stale
    assert [row.stage for row in evidence.rows if row.path == "golden.npz" and row.fault] == (
        ["end to end", "labels"] if stale else []
    )


def test_a_fault_of_the_runtime_is_named_by_its_step(exported, options, monkeypatch):
    monkeypatch.setattr(sizes, "crop_origin", lambda size, crop, _rounding: (size - crop) // 2)
    evidence = recheck_artifact(exported.artifact, options).evidence

    assert evidence.verdict == "failed"
    assert evidence.rows[evidence.first_fault].stage == "geometry"
    (failed,) = [row for row in evidence.rows if row.fault and row.group == "made pixels"]
    assert failed.path == "runtime"
    assert "the same steps apart from the artifact differ from step 2 of 4, 'CenterCrop' on" in failed.finding


def test_a_fault_of_the_artifacts_own_graph_is_in_its_row_alone(exported, options, tmp_path):
    """The same steps written anew have none: rows come from the files, not from the transform."""
    folder = tmp_path / "edited"
    shutil.copytree(exported.artifact, folder)
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for node in model.graph.node:
        node.input[:] = ["mirrored" if name == "image" else name for name in node.input]
    for name, value in (("first", -1), ("end", -(1 << 30)), ("axis", 2), ("step", -1)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([value]), f"mirrored/{name}"))
    inputs = ["image", *(f"mirrored/{name}" for name in ("first", "end", "axis", "step"))]
    model.graph.node.insert(0, onnx.helper.make_node("Slice", inputs, ["mirrored"]))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    rehash(folder)
    # What is not edited was proven before, and need not be run again.
    cache = ProofCache(tmp_path / "proofs")
    before = recheck_artifact(exported.artifact, options, cache=cache).evidence

    evidence = recheck_artifact(folder, options, cache=cache).evidence

    assert before.passed
    assert not any("from the cache" in row.group for row in before.rows)
    cached = [row for row in evidence.rows if row.group.startswith("made pixels, from the cache of ")]
    assert [(row.path, row.inputs, row.difference) for row in cached] == [
        ("runtime", 12, 0.0),
        ("model.torchscript", 12, 0.0),
    ]
    assert {row.finding for row in cached} <= set(evidence.not_proven)

    made = {(row.path, row.stage): row for row in evidence.rows if row.group == "made pixels"}
    assert [key for key, row in made.items() if row.fault] == [("model.onnx", "geometry")]
    assert "the same steps apart from the artifact are equal" in made["model.onnx", "geometry"].finding


class Log:
    """A listener that keeps what it hears."""

    def __init__(self):
        self.steps = []
        self.most = {}

    def started(self, name):
        self.steps.append(name)

    def advanced(self, name, done, planned):
        assert done < planned
        self.most[name] = done

    def finished(self, step):
        assert step.name == self.steps[-1]
        assert step.finding


def test_its_progress_is_heard_stage_by_stage(exported, options):
    log = Log()

    recheck_artifact(exported.artifact, options, listener=log)

    assert log.steps == ["read", "reference", "noise", "open", "made images", "compare", "whole", "golden"]
    inputs = len(exported.parity.inputs)
    assert log.most["reference"] == inputs - 1
    assert log.most["made images"] == 11
    assert log.most["noise"] > inputs
    # Every path runs them end to end, and its stages besides.
    assert log.most["compare"] > 3 * 2 * inputs


def test_a_thorough_check_also_compares_each_step_written_anew(exported, options):
    evidence = recheck_artifact(exported.artifact, replace(options, thorough=True)).evidence

    assert evidence.passed, evidence.reason
    anew = {(row.path, row.group) for row in evidence.rows if row.path.endswith("written anew")}
    assert anew == {
        (f"{path}, written anew", "made pixels, after 1 of 4, 'Resize'")
        for path in ("model.onnx", "runtime", "model.torchscript")
    }


@pytest.mark.parametrize("off", [0.0, 0.1])
def test_another_device_is_judged_end_to_end_alone(exported, options, monkeypatch, off):
    """The stages of every path are run on the CPU. A CPU that is called CUDA stands for the device here."""

    class Elsewhere(Model):
        def __init__(self, artifact, *, device, options=None, precision="fp32"):
            super().__init__(artifact, device="cpu", precision=precision)
            self.name_of_device = device

        @property
        def device(self):
            return self.name_of_device

        def score(self, prepared):
            return [scores + (off if self.device == "cuda" else 0) for scores in super().score(prepared)]

    monkeypatch.setattr(checking, "Model", Elsewhere)

    evidence = recheck_artifact(exported.artifact, options).evidence

    rows = [row for row in evidence.rows if row.device == "cuda"]
    assert {(row.path, row.stage) for row in rows} == {("runtime", "end to end")}
    assert evidence.passed == (off == 0)
    assert any(not row.passed for row in rows) == (off != 0)
    assert all(row.passed for row in evidence.rows if row.device == "cpu")
    assert "TF32 on CUDA, which sessions leave off: no verdict" in " ".join(evidence.not_proven)


def test_another_checkpoint_is_refused(exported, options, tmp_path, state_dict):
    torch.save({key: value + 0.5 for key, value in state_dict.items()}, tmp_path / "other.pth")
    with pytest.raises(exporter.CheckpointError, match="not the checkpoint of 'mine': expected SHA-256"):
        recheck_artifact(
            exported.artifact, ExportOptions(checkpoint=tmp_path / "other.pth", preprocess=options.preprocess)
        )


def test_another_transform_is_refused(exported, checkpoint_file):
    from torchvision import transforms

    other = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    with pytest.raises(
        exporter.ParityError, match=r"another transform was folded in.*'image\.preprocessing\..*expected"
    ):
        recheck_artifact(exported.artifact, ExportOptions(checkpoint=checkpoint_file, preprocess=other))


def test_a_damaged_file_is_found_first(exported, options, tmp_path):
    import runtime

    shutil.copytree(exported.artifact, tmp_path / "copy")
    with (tmp_path / "copy" / "labels.txt").open("a") as stream:
        stream.write("x")
    with pytest.raises(runtime.ArtifactError, match=r"labels\.txt"):
        recheck_artifact(tmp_path / "copy", options)


def test_labels_in_another_order_than_the_users_fail_at_their_stage(exported, checkpoint_file, net_file, tmp_path):
    (tmp_path / "names.txt").write_text("coffee\ncat\nrocket\nastronaut\n")
    options = ExportOptions(
        checkpoint=checkpoint_file, preprocess=f"{net_file}:transform", labels=tmp_path / "names.txt"
    )
    evidence = recheck_artifact(exported.artifact, options, pixels=False).evidence

    row = evidence.rows[evidence.first_fault]
    assert (row.path, row.stage, row.fault) == ("labels.txt", "labels", "label")
    assert "the labels: 2 of 4 differ, the first at index 0: expected 'coffee', got 'cat'" in evidence.reason
    assert evidence.reason.endswith("; state --labels as it was exported, or export it again as stated")
    assert command._advice(evidence) == ""


def test_a_tight_ratio_turns_rounding_into_a_fault(exported, checkpoint_file, net_file):
    options = ExportOptions(checkpoint=checkpoint_file, preprocess=f"{net_file}:transform", max_ratio=0.01)
    evidence = recheck_artifact(exported.artifact, options, pixels=False).evidence

    assert evidence.verdict == "failed"
    assert evidence.rows[evidence.first_fault].stage == "network"


def test_the_command_prints_evidence_and_writes_every_report(parity, exported, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    places = {form: tmp_path / f"parity.{form}" for form in ("junit", "sarif", "html")}
    options = [part for form, place in places.items() for part in (f"--{form}", place)]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    more = ("--json", "--github", "--cache", "--baseline", exported.artifact / "parity.json")
    done = parity(*more, *options)

    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "cache" / "truecopy" / "proofs").iterdir())) == 3
    assert "made images" in done.stderr  # progress, a line for each step
    evidence = json.loads(done.stdout)
    assert evidence["verdict"] == "passed"
    assert evidence["drift"]["grown"] == []
    assert junit_of(places["junit"]).get("failures") == "0"
    assert json.loads(places["sarif"].read_text())["runs"][0]["results"] == []
    assert "is a true copy" in places["html"].read_text()
    assert "parity of mine: passed" in (tmp_path / "summary.md").read_text()


def test_a_fault_exits_with_1_and_is_in_every_report(parity, tmp_path, monkeypatch):
    monkeypatch.setattr(sizes, "crop_origin", lambda size, crop, _rounding: (size - crop) // 2)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    done = parity("--junit", tmp_path / "parity.xml", "--html", tmp_path / "parity.html", "--github")

    assert done.exit_code == 1
    assert "parity failed: runtime, stage 'geometry'" in done.stderr
    assert re.search(r"::error file=.*title=parity%3A geometry::runtime on cpu, geometry", done.stdout)
    failures = junit_of(tmp_path / "parity.xml").findall(".//failure")
    assert any("gray levels" in failure.get("message") for failure in failures)
    page = (tmp_path / "parity.html").read_text()
    assert "The first stage at fault: geometry" in page
    assert "difference, white is" in page


def test_a_check_that_cannot_be_made_is_reported_as_inconclusive(parity, tmp_path, state_dict):
    torch.save({key: value + 0.5 for key, value in state_dict.items()}, tmp_path / "other.pth")
    done = parity("--junit", tmp_path / "parity.xml", checkpoint=tmp_path / "other.pth")

    assert isinstance(done.exception, exporter.CheckpointError)  # the console makes it one line, and exit status 1
    (error,) = junit_of(tmp_path / "parity.xml").findall(".//error")
    assert "not the checkpoint" in error.get("message")


@pytest.mark.parametrize(
    ("asked", "ci", "takes"),
    [(None, None, True), (None, "true", False), (None, "false", True), (True, "true", True), (False, None, False)],
)
def test_earlier_proofs_count_but_not_in_a_ci_unless_asked_for(monkeypatch, asked, ci, takes):
    monkeypatch.delenv("CI")
    if ci is not None:
        monkeypatch.setenv("CI", ci)
    assert command._takes_cache(asked) == takes


@pytest.mark.parametrize(
    "options",
    [
        ("--junit", "nowhere/parity.xml"),
        ("--baseline", "missing.json"),
        ("--resize", "many"),
        ("--max-ratio", "no"),
    ],
)
def test_wrong_use_exits_with_2_before_anything_runs(parity, options):
    assert parity(*options).exit_code == 2
