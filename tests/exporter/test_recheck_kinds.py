"""'truecopy parity' of every kind of input and task: proven again, and another day's weights found."""

import hashlib
import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.kinds import NAMES, kinds_in

from exporter.recheck import recheck_artifact
from exporter.recipe import ExportOptions


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    return kinds_in(tmp_path_factory.mktemp("kinds"))


def edit_weights(artifact):
    """Change a checkpoint's weights in every graph, and make the hashes fit."""
    manifest = json.loads((artifact / "truecopy.json").read_bytes())
    for path in artifact.glob("*.onnx"):
        model = onnx.load(path, load_external_data=False)
        weights = [one for one in model.graph.initializer if one.name.endswith("weight")]
        assert weights, "nothing to change"
        for one in weights:
            one.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(one) * np.float32(1.02), one.name))
        path.write_bytes(model.SerializeToString())
        size, digest = path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()
        manifest["files"][path.name] |= {"size_bytes": size, "sha256": digest}
    (artifact / "truecopy.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_is_proven_again_and_another_days_weights_are_found(kinds, name, tmp_path):
    kind = kinds[name]
    artifact = kind.export().artifact
    options = ExportOptions(checkpoint=kind.checkpoint, arch=kind.network, **kind.again)
    evidence = recheck_artifact(artifact, options, pixels=False).evidence

    assert evidence.passed, evidence.reason
    assert {row.path for row in evidence.rows} >= {"model.onnx", "runtime", "golden.npz"}
    for one in evidence.noise:
        assert one.limit < 0.01 * one.size or one.limit == 0, one

    edited = tmp_path / "edited"
    shutil.copytree(artifact, edited)
    edit_weights(edited)
    again = recheck_artifact(edited, options, pixels=False).evidence

    assert again.verdict == "failed"
    assert again.rows[again.first_fault].stage == "network"
