"""An artifact opens whole, or not at all, and the error says why."""

import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

import runtime
from runtime.artifact.open import open_artifact


def test_a_whole_artifact_hands_out_its_files(tiny):
    artifact = open_artifact(tiny)

    assert artifact.labels() == ("cat", "coffee", "rocket", "astronaut")
    assert artifact.file("model.onnx") == tiny / "model.onnx"


@pytest.mark.parametrize("name", ["network.onnx", "weights.bin", "labels.txt"])
def test_one_flipped_byte_is_found_before_the_file_is_used(copy, name):
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)

    with pytest.raises(runtime.ArtifactError, match=f"{name}': damaged: expected SHA-256"):
        runtime.load(copy)


def test_a_truncated_file_is_told_by_its_size(copy):
    path = copy / "weights.bin"
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(runtime.ArtifactError, match=r"wrong size: expected 8704 bytes, got 8703"):
        runtime.load(copy)


def test_a_missing_file_is_named(copy):
    (copy / "weights.bin").unlink()

    with pytest.raises(runtime.ArtifactError, match=r"weights\.bin': missing"):
        runtime.load(copy)


def test_a_newer_format_version_says_to_install_a_newer_runtime(copy, edit_manifest):
    edit_manifest(copy, lambda manifest: manifest.update(format_version=3, invented_later=True))

    with pytest.raises(runtime.ArtifactError, match=r"expected 2, got 3\. Install a newer truecopy runtime"):
        runtime.load(copy)


def test_an_older_format_version_says_to_export_again(copy, edit_manifest):
    """Version 1 had other words for the same things; no reader of it is kept."""
    edit_manifest(copy, lambda manifest: manifest.update(format_version=1))

    with pytest.raises(runtime.ArtifactError, match=r"expected 2, got 1\. Export again\."):
        runtime.load(copy)


def test_a_manifest_of_an_earlier_release_lacks_later_keys_and_is_read(copy, edit_manifest):
    """Without them it promises what it promised: nothing about lengths, and no calibration."""
    edit_manifest(copy, lambda manifest: [manifest.pop(key, None) for key in ("calibration", "compared")])

    model = runtime.load(copy)

    assert (model.manifest.compared, model.manifest.calibration) == ({}, None)
    assert model.predict(np.zeros((50, 60, 3), np.uint8)).label in model.labels


@pytest.mark.parametrize("name", ["../weights.bin", "/etc/passwd", "a/b", "..", ".", "", "a\\b", "a\0b"])
def test_a_file_name_that_leaves_the_folder_is_refused(copy, edit_manifest, name):
    def change(manifest):
        manifest["files"][name] = manifest["files"]["weights.bin"]

    edit_manifest(copy, change)

    with pytest.raises(runtime.ArtifactError, match="file name leaves the artifact"):
        runtime.load(copy)


def test_a_link_is_not_followed(copy, tiny):
    (copy / "weights.bin").unlink()
    (copy / "weights.bin").symlink_to(tiny / "weights.bin")

    with pytest.raises(runtime.ArtifactError, match="is a link"):
        runtime.load(copy)


def link_to_blobs(snapshot, blobs):
    """Move the files of a folder away, and put links to them in their place, as the cache of a hub has them."""
    blobs.mkdir(parents=True)
    for file in snapshot.iterdir():
        file.rename(blobs / f"blob-{file.name}")
        file.symlink_to(f"../../blobs/blob-{file.name}")


def test_a_snapshot_in_the_cache_of_the_hub_is_an_artifact(tiny, tmp_path, photos):
    snapshot = tmp_path / "models--me--mine" / "snapshots" / "0a1b2c"
    shutil.copytree(tiny, snapshot)
    link_to_blobs(snapshot, snapshot.parents[1] / "blobs")

    assert runtime.load(snapshot, device="cpu").predict(photos["cat"]).label == "cat"
    with runtime.Model(open_artifact(snapshot, mapped=True), device="cpu") as model:
        assert model.predict(photos["cat"]).label == "cat"
    (snapshot.parents[1] / "blobs" / "blob-weights.bin").write_bytes(b"x")
    with pytest.raises(runtime.ArtifactError, match="wrong size"):
        runtime.load(snapshot, device="cpu")


@pytest.mark.parametrize(
    "target", ["../../blobs/link", "../../other/blob", "../../blobs/../other/blob", "{folder}/other/blob"]
)
def test_other_links_of_a_snapshot_are_not_followed(tiny, tmp_path, target):
    snapshot = tmp_path / "snapshots" / "0a1b2c"
    shutil.copytree(tiny, snapshot)
    weights = snapshot / "weights.bin"
    for folder in ("blobs", "other"):
        (tmp_path / folder).mkdir()
    weights.rename(tmp_path / "other" / "blob")
    (tmp_path / "blobs" / "link").symlink_to(tmp_path / "other" / "blob")
    weights.symlink_to(target.format(folder=tmp_path))

    with pytest.raises(runtime.ArtifactError, match="is a link"):
        runtime.load(snapshot, device="cpu")


def test_a_graph_whose_external_data_lies_outside_the_folder_does_not_load(copy, rehash, tmp_path):
    """The path is inside the graph; onnxruntime 1.23 followed it."""
    (tmp_path / "weights.bin").write_bytes((copy / "weights.bin").read_bytes())
    graph = (copy / "network.onnx").read_bytes()
    # Same length, so that the protobuf stays whole: 'weights.bin' -> '../ights.bin'[:11] is the parent folder's file.
    (tmp_path / "hts.bin").write_bytes((copy / "weights.bin").read_bytes())
    assert b"weights.bin" in graph
    (copy / "network.onnx").write_bytes(graph.replace(b"weights.bin", b"..//hts.bin"))
    rehash(copy, "network.onnx")

    with pytest.raises(runtime.ArtifactError, match=r"lies in another file: expected 'weights\.bin'"):
        runtime.load(copy)


def test_an_artifact_that_was_never_proven_is_refused(copy, edit_manifest):
    edit_manifest(copy, lambda manifest: manifest.update(parity=None))

    with pytest.raises(runtime.ArtifactError, match="never proven"):
        runtime.load(copy)


def test_an_artifact_whose_proof_failed_is_refused(copy, edit_manifest):
    edit_manifest(copy, lambda manifest: manifest["parity"].update(verdict="failed"))

    with pytest.raises(runtime.ArtifactError, match="verdict"):
        runtime.load(copy)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ("cat\ncoffee\nrocket\n" + "a" * 1001, "not labels: expected at most 1000 characters in each, got 1001"),
        ("a\n" * (8 * 2**20 + 1), "'labels.txt' is too large: expected at most 16777216 bytes, got 16777218"),
    ],
)
def test_labels_that_are_none_are_refused(copy, rehash, labels, reason):
    (copy / "labels.txt").write_text(labels)
    rehash(copy, "labels.txt")

    with pytest.raises(runtime.ArtifactError, match=reason):
        open_artifact(copy).labels()


def test_evidence_of_absurd_size_is_refused(copy, edit_manifest):
    """A parity.json of 62 MB took 1.4 GB."""
    edit_manifest(copy, lambda manifest: manifest["files"]["parity.json"].update(size_bytes=2**24 + 1))

    with pytest.raises(runtime.ArtifactError, match=r"'parity\.json' is too large: expected at most 16777216 bytes"):
        open_artifact(copy)


def test_labels_that_do_not_match_their_count_are_refused(copy, rehash):
    (copy / "labels.txt").write_text("cat\ncoffee\nrocket\n")
    rehash(copy, "labels.txt")

    with pytest.raises(runtime.ArtifactError, match="expected 4, got 3"):
        runtime.load(copy)


def test_what_is_not_an_artifact_is_told_apart(tmp_path):
    with pytest.raises(runtime.ArtifactError, match="no such folder"):
        runtime.load(tmp_path / "nowhere")
    with pytest.raises(runtime.ArtifactError, match=r"expected a file 'truecopy\.json'"):
        runtime.load(tmp_path)
    file = tmp_path / "model.pth"
    file.touch()
    with pytest.raises(runtime.ArtifactError, match="not a folder"):
        runtime.load(file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a truecopy manifest"),
        (b'{"format_version": 2}', "missing required field `name`"),
        (b'{"format_version": "one"}', "Expected `int`, got `str`"),
        (b"[1, 2]", "Expected `object`, got `array`"),
        (b"{" * 100_000, "not a truecopy manifest"),
    ],
)
def test_a_broken_manifest_says_where(copy, content, reason):
    (copy / "truecopy.json").write_bytes(content)

    with pytest.raises(runtime.ArtifactError, match=re.escape(reason)):
        runtime.load(copy)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"format_version": 2', b'"format_version": 1, "format_version": 2'),
        (b'"width": 32', b'"width": 64, "width": 32'),
        (b'"prepared_limit": 1.0', b'"prepared_limit": 0.0, "prepared_limit": 1.0'),
        (b'"num_classes": 4', b'"num_classes": 5, "num_classes": 4'),
    ],
)
def test_a_name_that_is_there_twice_is_refused(copy, before, after):
    """Of two values, other readers of the manifest may take the other one."""
    path = copy / "truecopy.json"
    assert before in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(before, after))

    with pytest.raises(runtime.ArtifactError, match="two members of the name"):
        open_artifact(copy)


def test_a_name_that_is_there_twice_is_found_among_many(copy, edit_manifest):
    edit_manifest(copy, lambda manifest: manifest["tools"].update({str(number): "" for number in range(300_000)}))
    path = copy / "truecopy.json"
    path.write_bytes(path.read_bytes().replace(b'"299999": ""', b'"299999": "", "299999": ""'))
    started = time.monotonic()

    with pytest.raises(runtime.ArtifactError, match="two members of the name '299999'"):
        open_artifact(copy)
    assert time.monotonic() - started < 5


def test_an_unknown_field_is_refused_rather_than_ignored(copy, edit_manifest):
    edit_manifest(copy, lambda manifest: manifest.update(rotate=True))

    with pytest.raises(runtime.ArtifactError, match="unknown field `rotate`"):
        runtime.load(copy)


def test_reading_an_artifact_writes_nothing(copy):
    before = {path: path.stat().st_mtime_ns for path in [copy, *copy.iterdir()]}

    runtime.load(copy).predict(Path(__file__).parents[2] / "data" / "cat.jpg")

    assert {path: path.stat().st_mtime_ns for path in [copy, *copy.iterdir()]} == before
