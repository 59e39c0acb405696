"""Adding an input kind: a folder on each side, a type in the manifest, and one entry in each registry.

The kind is a point of two numbers, in ``tests/support/toy_kind``. What this test patches are the edits that a real kind
makes in existing files: ``Input`` in ``runtime/manifest/inputs.py``, ``INPUT_KINDS`` in ``runtime/inputs/registry.py``,
and ``INPUT_KINDS`` in ``exporter/inputs/registry.py``, before the kinds that would match as well.
"""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from support.toy_kind.exporter.open import KIND
from support.toy_kind.manifest import PointInput

import exporter
import exporter.inputs.registry as exporter_registry
import runtime
import runtime.inputs.registry as runtime_registry
from exporter.inputs.registry import to_bytes
from exporter.options.export import ExportOptions
from exporter.recipe_from_artifact import options_from_artifact
from runtime.artifact.open import open_artifact
from runtime.evaluation.data import read_labeled
from runtime.inputs.registry import open_payload
from runtime.manifest import Input, Manifest, document
from runtime.server import payloads
from runtime.server.errors import MediaTypeError
from runtime.verify import verify

RUNTIME_KIND = runtime_registry.InputKind(
    decoder="support.toy_kind.runtime.decoder:PointDecoder",
    source="support.toy_kind.runtime.source:source_format",
    payload="support.toy_kind.runtime.payload:PointPayload",
    example="points.csv",
)


class ManifestWithPoints(Manifest, frozen=True, kw_only=True):
    inputs: tuple[Input | PointInput, ...]


@pytest.fixture(autouse=True, scope="module")
def points():
    """The kind is registered on both sides, and the manifest knows its type."""
    kinds = exporter_registry.INPUT_KINDS
    others = dict(kinds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document, "Manifest", ManifestWithPoints)
        patch.setitem(runtime_registry.INPUT_KINDS, PointInput, RUNTIME_KIND)
        kinds.clear()
        kinds.update({PointInput: KIND, **others})
        yield
    kinds.clear()
    kinds.update(others)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return torch.nn.Linear(2, 3).eval()


@pytest.fixture(scope="module")
def artifact(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("points")
    torch.save(network.state_dict(), folder / "points.pth")
    exported = exporter.export(folder / "points.pth", network, out=folder / "points", inputs=["at=point"])
    return exported.artifact


@pytest.fixture(scope="module")
def model(artifact):
    with runtime.load(artifact, device="cpu") as loaded:
        yield loaded


def test_a_network_of_points_is_exported_and_proven(artifact):
    manifest = open_artifact(artifact).manifest

    assert manifest.inputs == (PointInput(name="at"),)
    assert manifest.parity.verdict == "passed"
    assert msgspec.json.decode((artifact / "truecopy.json").read_bytes())["inputs"] == [{"kind": "point", "name": "at"}]
    assert verify(artifact, device="cpu").passed


def test_a_point_in_python_has_the_label_that_pytorch_gives(model, network):
    with torch.inference_mode():
        scores = network(torch.tensor([[0.5, -2.0], [3.0, 1.0]])).softmax(dim=1)

    results = model.predict([(0.5, -2.0), (3.0, 1.0)])

    assert [result.index for result in results] == scores.argmax(dim=1).tolist()
    assert [result.probability for result in results] == pytest.approx(scores.max(dim=1).values.tolist(), abs=1e-6)
    with pytest.raises(runtime.InputError, match="not a point: expected two numbers, got"):
        model.predict((1, 2, 3))


def test_points_are_read_from_files_lists_and_tables(model, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "one.point").write_text("0.5,-2")
    (tmp_path / "list.txt").write_text("0.5,-2\nfar,away\n")
    (tmp_path / "table.csv").write_text("x,y\n0.5,-2\n")
    expected = model.predict((0.5, -2))

    inputs = list(runtime.read_inputs(model, tmp_path / "folder", tmp_path / "list.txt", tmp_path / "table.csv"))
    results = list(model.predict_each(inputs))

    assert [Path(name).name for name, _ in inputs] == ["one.point", "list.txt#1", "list.txt#2", "table.csv#1"]
    failure = results.pop(2)
    assert "not a point: expected two numbers, got b'far,away'" in failure.error
    assert [result.probability for result in results] == [expected.probability] * 3


def test_labeled_points_are_read_from_their_columns(model, tmp_path):
    (tmp_path / "labeled.csv").write_text("id,x,y,label\n7,0.5,-2,1\n")

    (entry,) = read_labeled(model, tmp_path / "labeled.csv", column="label")

    assert entry.source == ("0.5", "-2")
    assert model.predict([entry.source])[0].index == model.predict((0.5, -2)).index
    assert entry.truth == 1


def test_a_server_reads_points_from_tensors_json_forms_and_bodies(model):
    manifest = model.manifest
    expected = model.predict((0.5, -2)).probability
    (tensor,) = payloads.input_specs(manifest)
    (row,) = payloads.rows_of({"at": np.array([[0.5, -2]], dtype=np.float32)}, manifest, "points")
    sources = [
        row,
        payloads.source_from_json([0.5, -2], manifest, "'#0'"),
        payloads.source_from_part(b"[0.5, -2]", manifest, "'file'"),
        payloads.source_from_body(b"0.5,-2", "text/csv", open_payload(manifest.inputs)),
    ]

    assert payloads.kind_of(manifest) == "point"
    assert (tensor.name, tensor.datatype, tensor.shape) == ("at", "FP32", (-1, 2))
    assert payloads.schema_of(manifest)["maxItems"] == 2
    assert [model.predict([source])[0].probability for source in sources] == [expected] * 4
    with pytest.raises(runtime.InputError, match="'#0': expected a list of two numbers, got a text"):
        payloads.source_from_json("0.5,-2", manifest, "'#0'")
    with pytest.raises(MediaTypeError, match="expected 'text/csv', 'multipart/form-data' or 'application/json'"):
        payloads.source_from_body(b"", "image/png", open_payload(manifest.inputs))


def test_an_export_of_points_can_be_repeated_from_its_artifact(artifact, model):
    options = options_from_artifact(open_artifact(artifact), ExportOptions(checkpoint=artifact))

    assert options.inputs == ("at=point",)
    assert to_bytes((0.5, -2.0), model.manifest) == b"0.5,-2.0"
