"""'truecopy parity': an artifact that is already there, proven again, or what differs, named."""

import json
import re
import shutil
from xml.etree import ElementTree

import pytest
import torch
from typer.testing import CliRunner

import exporter
from exporter import recheck as checking
from exporter.inputs.image import pixel_check as pixels
from exporter.recheck import recheck_artifact
from exporter.recipe import ExportOptions
from runtime.cli.main import build_app
from runtime.geometry import sizes
from runtime.model import Model


@pytest.fixture
def options(checkpoint_file, net_file):
    return ExportOptions(checkpoint=checkpoint_file, preprocess=f"{net_file}:transform")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Images of a few sizes: the sweep over all of them is for people."""
    original = pixels.compare_pixels
    monkeypatch.setattr(pixels, "compare_pixels", lambda *given: original(*given, sizes=[(1, 1), (61, 44), (90, 120)]))


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


def test_an_artifact_is_proven_again_and_its_pixels_after_each_step(exported, options):
    evidence = recheck_artifact(exported.artifact, options).evidence

    assert evidence.passed, evidence.reason
    assert evidence.first_fault is None
    made = [row for row in evidence.rows if row.group.startswith("made pixels, after")]
    assert {row.path for row in made} == {"model.onnx", "runtime", "model.torchscript"}
    assert len({row.group for row in made}) == 2
    before = {(row.path, row.stage, row.group): row.difference for row in exported.parity.rows}
    # What travels along is checked here, and cannot be before it is written.
    golden = [row for row in evidence.rows if row.path == "golden.npz"]
    assert golden
    again = [row for row in evidence.rows if row not in made and row not in golden]
    now = {(row.path, row.stage, row.group): row.difference for row in again}
    assert now == before
    assert any(sentence.startswith("CUDA: ") for sentence in evidence.not_compared) or any(
        row.device == "cuda" for row in evidence.rows
    )


def test_a_fault_of_the_runtime_is_named_by_its_step(exported, options, monkeypatch):
    monkeypatch.setattr(sizes, "crop_origin", lambda size, crop, _rounding: (size - crop) // 2)
    evidence = recheck_artifact(exported.artifact, options).evidence

    assert evidence.verdict == "failed"
    assert evidence.rows[evidence.first_fault].stage == "geometry"
    failed = {(row.path, row.group) for row in evidence.rows if row.fault and row.group.startswith("made pixels")}
    assert [path for path, _ in failed] == ["runtime"]
    assert all("CenterCrop" in group for _, group in failed)


@pytest.mark.parametrize("off", [0.0, 0.1])
def test_another_device_is_judged_end_to_end_alone(exported, options, monkeypatch, off):
    """The stages of every path are run on the CPU. A CPU that is called CUDA stands for the device here."""

    class Elsewhere(Model):
        def __init__(self, artifact, *, device, options=None):
            super().__init__(artifact, device="cpu")
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
    assert "TF32 on CUDA, which sessions leave off: no verdict" in " ".join(evidence.not_compared)


def test_another_checkpoint_is_refused(exported, options, tmp_path, state_dict):
    torch.save({key: value + 0.5 for key, value in state_dict.items()}, tmp_path / "other.pth")
    with pytest.raises(exporter.CheckpointError, match="not the checkpoint of 'mine': expected SHA-256"):
        recheck_artifact(
            exported.artifact, ExportOptions(checkpoint=tmp_path / "other.pth", preprocess=options.preprocess)
        )


def test_another_transform_is_refused(exported, checkpoint_file):
    from torchvision import transforms

    other = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    with pytest.raises(exporter.ParityError, match="another transform was folded in"):
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
    assert (row.path, row.stage, row.fault) == ("runtime", "labels", "label")


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
    done = parity("--json", "--github", "--baseline", exported.artifact / "parity.json", *options)

    assert done.exit_code == 0, done.output
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
    "options",
    [
        ("--junit", "nowhere/parity.xml"),
        ("--baseline", "missing.json"),
        ("--preprocess", "x.py:t", "--resize", "32"),
        ("--max-ratio", "no"),
    ],
)
def test_wrong_use_exits_with_2_before_anything_runs(parity, options):
    assert parity(*options).exit_code == 2
