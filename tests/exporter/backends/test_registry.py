"""Forms of the artifact: each written, run and compared through the registry alone."""

import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from mutation.planting import edit_manifest, rehash
from support.networks import MeanThenHead

import exporter
from exporter.backends import registry
from exporter.backends.backend import CalibratedForm, NetworkSource, OpenArtifact, WrittenForm
from exporter.bundle import Staging
from exporter.options.forms import FormOptions
from exporter.parity.cases import Case, ServedPath
from exporter.parity.paths import split_batch
from runtime.artifact.open import open_artifact

PICKLE = "model.pt"
TINY = Path(__file__).parents[2] / "data" / "tiny"
TRACED = "model.torchscript: there is none: it cannot be traced: 'Net': its forward branches"
FALLBACK = "the network was converted by torch.onnx's legacy exporter, as dynamo failed: RuntimeError: no RNN"


class PickledNetwork:
    """A form of its own: the eager network as torch pickles it, and its postprocessing in torch."""

    title = "pickle"
    files = (PICKLE,)

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset

    def write(self, stage: Staging, source: NetworkSource) -> WrittenForm:
        stream = io.BytesIO()
        torch.save(source.network, stream)
        stage.write(PICKLE, stream.getvalue())
        return WrittenForm(finding=PICKLE)

    def open_path(self, opened: OpenArtifact) -> ServedPath:
        network = torch.load(opened.artifact.file(PICKLE), weights_only=False)

        def run(cases: Sequence[Case]):
            decoded = [opened.adapter.decode(case) for case in cases]
            inputs = [np.concatenate([case[name] for case in decoded]) for name in opened.adapter.borders.network]
            with torch.no_grad():
                value = network(*map(torch.from_numpy, inputs)) + self.offset * torch.tensor([1.0, 0.0, 0.0])
            return split_batch(opened.postprocessing.expect(value), opened.model.manifest, len(cases))

        return ServedPath(name=PICKLE, stages={}, run=run)

    def read_weights(self, _artifact):
        return {}

    def open_scorer(self, _artifact, _device):
        return None

    def calibrate(self, _artifact, _scales) -> CalibratedForm:
        return CalibratedForm(left_out=self.files)


@pytest.fixture
def export(tmp_path):
    """Export a small network of arrays, whose class the pickle can name."""

    def run(name: str = "artifact", listener=None) -> exporter.ExportResult:
        torch.manual_seed(0)
        network = MeanThenHead().eval()
        torch.save(network.state_dict(), tmp_path / "model.pth")
        inputs = ["x=float32[batch,length,4]"]
        return exporter.export(tmp_path / "model.pth", network, inputs=inputs, out=tmp_path / name, listener=listener)

    return run


class Listener:
    """Keeps the finding of each step by its name."""

    def __init__(self) -> None:
        self.findings: dict[str, str] = {}

    def started(self, name: str) -> None:
        assert name not in self.findings

    def advanced(self, name: str, done: int, planned: int) -> None:
        pass

    def finished(self, step) -> None:
        self.findings[step.name] = step.finding


def test_a_form_that_is_one_more_line_of_the_registry_is_written_and_proven(export, monkeypatch):
    monkeypatch.setitem(registry.BACKENDS, PICKLE, PickledNetwork())
    listener = Listener()

    exported = export(listener=listener)

    assert PICKLE in exported.manifest.files
    assert listener.findings["pickle"] == PICKLE
    assert [row.path for row in exported.parity.rows][-1] == PICKLE
    rows = [row for row in exported.parity.rows if row.path == PICKLE]
    assert {row.stage for row in rows} == {"end to end"}
    assert all(row.passed and row.difference is not None for row in rows)
    assert any(row.group == "batches" for row in rows)


def test_a_fault_of_such_a_form_stops_the_export(export, monkeypatch, tmp_path):
    monkeypatch.setitem(registry.BACKENDS, PICKLE, PickledNetwork(offset=0.01))

    with pytest.raises(exporter.ParityError, match=f"{PICKLE}, stage 'end to end'") as caught:
        export()

    assert {row.path for row in caught.value.report.rows if not row.passed} == {PICKLE}
    assert not (tmp_path / "artifact").exists()


def test_every_file_belongs_to_one_form(export):
    owned = [name for backend in registry.BACKENDS.values() for name in backend.files]
    assert len(owned) == len(set(owned))

    manifest = export().manifest

    others = {manifest.golden.file, "labels.txt", "parity.json"}
    assert set(manifest.files) - set(owned) <= others
    assert list(registry.backends_in(manifest)) == ["model.onnx", "runtime", "model.torchscript"]


def test_an_artifact_without_an_archive_has_no_such_path(export, monkeypatch):
    from exporter.backends import torchscript
    from exporter.errors import ConversionError

    def fail(_network, _example):
        raise ConversionError("its forward has its own control flow")

    monkeypatch.setattr(torchscript, "trace", fail)
    listener = Listener()

    exported = export(listener=listener)

    assert listener.findings["TorchScript"] == "none: it cannot be traced: its forward has its own control flow"
    assert list(registry.backends_in(exported.manifest)) == ["model.onnx", "runtime"]
    assert {row.path for row in exported.parity.rows} == {"model.onnx", "runtime"}


def test_graphs_are_converted_last_and_the_runtime_writes_nothing():
    assert [backend.title for backend in registry.backends_to_write(FormOptions())] == ["TorchScript", "ONNX"]


def test_every_form_has_its_own_execution_of_geometry():
    executions = registry.geometry_executions()

    assert list(executions) == list(registry.BACKENDS)
    assert len(set(executions.values())) == len(executions)


def tiny_whose_export(folder: Path, *, exporter: str, fallbacks: Sequence[str], not_proven: Sequence[str]) -> Path:
    """Copy the tiny artifact, as if its export had come to this, without a TorchScript archive."""
    artifact = Path(shutil.copytree(TINY, folder / "tiny"))
    (artifact / "model.torchscript").unlink()
    path = artifact / "parity.json"
    evidence = json.loads(path.read_text())
    path.write_text(json.dumps({**evidence, "fallbacks": fallbacks, "not_proven": not_proven}))

    def change(manifest):
        del manifest["files"]["model.torchscript"]
        manifest["source"]["onnx_exporter"] = exporter

    edit_manifest(artifact, change)
    rehash(artifact)
    return artifact


def test_a_form_that_the_export_could_not_make_is_named_with_its_reason(tmp_path):
    others = ["CUDA: this machine has no such device", "model.onnx: there is none: no such form is left out"]
    artifact = tiny_whose_export(tmp_path, exporter="dynamo", fallbacks=(), not_proven=[*others, TRACED])

    assert registry.missing_forms(open_artifact(artifact)) == (TRACED,)
    assert registry.missing_forms(open_artifact(TINY)) == ()


@pytest.mark.parametrize(
    ("converted_by", "fallbacks", "expected"),
    [
        ("legacy", [FALLBACK], (FALLBACK,)),
        ("legacy", [], ("the network was converted by torch.onnx's legacy exporter",)),
        ("dynamo", [], ()),
    ],
)
def test_why_the_legacy_exporter_was_needed_is_read_from_the_evidence(tmp_path, converted_by, fallbacks, expected):
    artifact = tiny_whose_export(tmp_path, exporter=converted_by, fallbacks=fallbacks, not_proven=())

    assert registry.fallbacks_of(open_artifact(artifact)) == expected
