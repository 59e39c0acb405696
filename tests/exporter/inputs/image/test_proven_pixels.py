"""Made images with a cache: nothing is run again that was proven, and no fault is hidden by that."""

import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
from mutation.planting import rehash
from support.modules import load_file

from exporter.inputs.image import RGB, pixel_check, read_transform
from exporter.inputs.image.made_images import drawings_of
from exporter.inputs.image.pixel_check import PixelCheck
from exporter.parity import proof_cache
from exporter.parity.paths import Subgraph, SubgraphCache
from exporter.parity.proof_cache import ProofCache
from runtime.artifact.open import open_artifact


@pytest.fixture(autouse=True)
def small(monkeypatch):
    few = drawings_of([(1, 1), (61, 44)])
    monkeypatch.setattr(pixel_check, "choose_drawings", lambda _steps, *, thorough=False: few)


@pytest.fixture
def reading(tiny):
    return read_transform(load_file(tiny.parent / "net.py").transform)


@pytest.fixture
def run(reading, tmp_path):
    """Compare the geometry of an artifact's model.onnx; return the row, and how many images were run."""

    def compare(folder, reading=reading):
        stage = stage_of(folder)
        images = []
        counted = replace(stage, run=lambda reference: images.append(reference.case.name) or stage.run(reference))
        cache = ProofCache(tmp_path / "proofs")
        check = PixelCheck(reading=reading, pixels=RGB, executions={})
        (row,) = check.rows({"model.onnx": counted}, "image", cache=cache)
        return row, len(images), cache.notes

    return compare


def stage_of(folder):
    """Return the geometry of an artifact's model.onnx."""
    subgraph = Subgraph(graph="model.onnx", takes="decoded", sources={"image": ()}, targets=("pixels",))
    return SubgraphCache(open_artifact(folder), lambda: None).stage("geometry", subgraph)


def edited(folder, target, change):
    """Return a copy of an artifact whose model.onnx is changed, with right hashes."""
    shutil.copytree(folder, target)
    model = onnx.load(target / "model.onnx", load_external_data=False)
    change(model.graph)
    (target / "model.onnx").write_bytes(model.SerializeToString())
    rehash(target)
    return target


def mirror(graph):
    for node in graph.node:
        node.input[:] = ["mirrored" if name == "image" else name for name in node.input]
    names = ("first", "end", "axis", "step")
    for name, value in zip(names, (-1, -(1 << 30), 2, -1), strict=True):
        graph.initializer.append(onnx.numpy_helper.from_array(np.array([value]), f"mirrored/{name}"))
    inputs = ["image", *(f"mirrored/{name}" for name in names)]
    graph.node.insert(0, onnx.helper.make_node("Slice", inputs, ["mirrored"]))


def shift(graph):
    """Change one number among the geometry's constants."""
    constant = next(one for one in graph.initializer if one.name.startswith("geometry/") and one.data_type == 7)
    array = onnx.numpy_helper.to_array(constant).copy()
    array.reshape(-1)[0] += 1
    constant.CopyFrom(onnx.numpy_helper.from_array(array, constant.name))


def test_what_passed_is_not_run_again_and_the_row_says_so(tiny, run):
    before, first, _ = run(tiny)
    row, again, notes = run(tiny)

    assert (first, again, notes) == (8, 0, [])
    assert (before.group, before.finding) == ("made pixels", "")
    assert row.passed
    assert row.group.startswith("made pixels, from the cache of 20")
    assert (row.inputs, row.planned, row.difference) == (8, 8, 0.0)
    assert "taken from the cache of 20" in row.finding
    assert "proven with 8 inputs by torch " in row.finding


@pytest.mark.parametrize("change", [mirror, shift])
def test_a_fault_planted_into_the_graph_after_a_pass_is_caught(tiny, run, tmp_path, change):
    run(tiny)
    row, images, _ = run(edited(tiny, tmp_path / "edited", change))

    assert images == 8
    assert row.fault is not None
    assert row.group == "made pixels"
    # A failure is not kept.
    assert run(tmp_path / "edited")[1] == 8


@pytest.mark.parametrize("name", ["torch", "Pillow", "onnxruntime", "truecopy", "kernel", "code", "processor"])
def test_another_version_or_machine_runs_everything(tiny, run, monkeypatch, name):
    run(tiny)
    machine = proof_cache.describe_machine()
    monkeypatch.setattr(pixel_check, "describe_machine", lambda: {**machine, name: "another"})

    assert run(tiny)[1] == 8


def test_another_behavior_of_the_users_own_transform_is_compared(tiny, run, reading):
    """Its steps are the same: the pixels alone tell, as of an edited function or library."""
    run(tiny)
    prefix = reading.prefixes[-1]
    changed = replace(prefix, pixels=lambda image: prefix.pixels(image) ^ 1)

    row, images, _ = run(tiny, replace(reading, prefixes=(*reading.prefixes[:-1], changed)))

    assert images == 8
    assert (row.fault, row.difference) == ("value", 1.0)


def test_a_damaged_file_is_ignored(tiny, run, tmp_path):
    run(tiny)
    (file,) = (tmp_path / "proofs").iterdir()
    file.write_bytes(file.read_bytes()[:100])

    row, images, notes = run(tiny)

    assert (images, row.passed, len(notes)) == (8, True, 1)


def test_constants_in_the_file_of_weights_are_part_of_what_was_proven(tiny, tmp_path):
    """The same graph with other numbers in that file is another computation."""

    def move(graph):
        constant = next(one for one in graph.initializer if one.name.startswith("geometry/") and one.data_type == 7)
        values = onnx.numpy_helper.to_array(constant)
        constant.ClearField("raw_data")
        constant.ClearField("int64_data")
        constant.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", str(values.nbytes))):
            entry = constant.external_data.add()
            entry.key, entry.value = key, value

    folder = edited(tiny, tmp_path / "moved", move)
    before = stage_of(folder).id
    weights = bytearray((folder / "weights.bin").read_bytes())
    weights[0] ^= 1
    (folder / "weights.bin").write_bytes(weights)
    rehash(folder)

    assert stage_of(folder).id != before
