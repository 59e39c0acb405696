"""'truecopy parity' of every kind of input and task: proven again, and another day's weights found."""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.kinds import NAMES, kinds_in

from exporter.options.export import ExportOptions
from exporter.options.task import TaskOptions
from exporter.recheck import recheck_artifact
from runtime.manifest import Value

# Options that contradict the artifact, by kind, and what the reason has to name: the option and both values.
WRONG = {
    "regress": [
        ({"task_options": TaskOptions(target_mean=(110.0,))}, ("--target-mean", "expected 110.0", "got 100.0")),
        ({"task_options": TaskOptions(target_std=(2.0,))}, ("--target-std", "expected 2.0", "got 20.0")),
        ({"task_options": TaskOptions(target_transform="log")}, ("--target-transform", "expected", "got none")),
        ({"task_options": TaskOptions(values=(Value(name="rent"),))}, ("--values", 'expected "rent"', 'got "price"')),
    ],
    "multilabel": [
        ({"task_options": TaskOptions(thresholds=(0.25,))}, ("--thresholds", "expected 0.25", "got 0.5", "4 more")),
        ({"task_options": TaskOptions(task="raw")}, ("--task", 'expected "raw"', 'got "multilabel"')),
        ({"labels": ("green", "red", "blue", "white", "black")}, ("labels", "expected 'green'", "got 'red'")),
        ({"exif": True}, ("--exif", "expected true", "got false")),
    ],
    "binary": [({"task_options": TaskOptions(task="classify")}, ("--task", 'expected "classify"', 'got "binary"'))],
    "text": [({"max_length": 7}, ("--max-length", "expected 7", "got 24")), ({"text_pairs": True}, ("--text-pairs",))],
    "segment": [
        ({"task_options": TaskOptions(colors=((1, 2, 3),) * 5)}, ("--colors", "expected 1", "got ")),
    ],
}


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

    for more, findings in WRONG.get(name, ()):
        refused = recheck_artifact(artifact, replace(options, **more), pixels=False).evidence
        assert refused.verdict == "failed"
        for finding in findings:
            assert finding in refused.reason, refused.reason

    edited = tmp_path / "edited"
    shutil.copytree(artifact, edited)
    edit_weights(edited)
    again = recheck_artifact(edited, options, pixels=False).evidence

    assert again.verdict == "failed"
    assert again.rows[again.first_fault].stage == "network"
