"""An artifact is compared as closely, and on as much, as its evidence says; what was thinned is refused."""

import json
import zipfile

import msgspec
import pytest

import runtime
from runtime.artifact.golden import GoldenSet, golden_to_npz, read_golden
from runtime.artifact.open import open_artifact
from runtime.artifact.proof import check_proof
from runtime.server.served_model import load_verified
from runtime.verify import verify


@pytest.fixture
def edit_evidence(copy, rehash):
    """Change the evidence of the artifact, as JSON."""

    def edit(change):
        path = copy / "parity.json"
        evidence = json.loads(path.read_text())
        change(evidence)
        path.write_text(json.dumps(evidence))
        rehash(copy, "parity.json")

    return edit


def limits_of(kind, value):
    return lambda manifest: manifest["golden"].update({kind: value})


LIMITS = {
    "no limits": limits_of("output_limits", {}),
    "no limits end to end": limits_of("end_to_end_limits", {}),
    "another output's": limits_of("output_limits", {"other": 0.0}),
    "one more output's": limits_of("output_limits", {"probabilities": 1.92e-05, "other": 1.0}),
    "negative": limits_of("output_limits", {"probabilities": -1.0}),
    "twice as wide": limits_of("output_limits", {"probabilities": 3.84e-05}),
    "a score of one": limits_of("output_limits", {"probabilities": 1.0}),
    "huge": limits_of("output_limits", {"probabilities": 1e308}),
    "twice as wide end to end": limits_of("end_to_end_limits", {"probabilities": 0.04}),
    "of pixels": limits_of("prepared_limit", 255.0),
    "no number": limits_of("output_limits", {"probabilities": None}),
}


@pytest.mark.parametrize("name", LIMITS)
def test_thinned_limits_are_refused(copy, edit_manifest, name):
    edit_manifest(copy, LIMITS[name])

    with pytest.raises(runtime.ArtifactError):
        verify(copy, device="cpu")


def test_an_infinite_limit_is_refused(copy):
    path = copy / "truecopy.json"
    for infinity in ("1e999", "Infinity", "NaN"):
        path.write_text(path.read_text().replace("0.0000192", infinity))

        with pytest.raises(runtime.ArtifactError, match="not a truecopy manifest"):
            verify(copy, device="cpu")


@pytest.mark.parametrize("kept", [slice(1), slice(1, None), slice(0, 0), slice(None, None, -1)])
def test_a_thinned_golden_set_is_refused(copy, rehash, kept):
    cases = read_golden(copy / "golden.npz").cases[kept]
    (copy / "golden.npz").write_bytes(golden_to_npz(GoldenSet(cases=cases)))
    rehash(copy, "golden.npz")

    with pytest.raises(runtime.ArtifactError, match="golden"):
        verify(copy, device="cpu")


def test_a_golden_set_of_countless_arrays_is_refused_before_they_are_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "golden.npz", "w") as archive:
        for number in range(10_001):
            archive.writestr(str(number), b"")

    with pytest.raises(runtime.ArtifactError, match="not a golden set: expected at most 10000 arrays, got 10001"):
        read_golden(tmp_path / "golden.npz")


def test_an_easier_golden_input_is_refused(copy, rehash):
    cases = list(read_golden(copy / "golden.npz").cases)
    cases[1] = cases[0]
    (copy / "golden.npz").write_bytes(golden_to_npz(GoldenSet(cases=tuple(cases))))
    rehash(copy, "golden.npz")

    with pytest.raises(runtime.ArtifactError, match="not the golden inputs of the parity check"):
        verify(copy, device="cpu")


def test_a_golden_set_without_its_labels_fails(copy, rehash):
    cases = [msgspec.structs.replace(case, labels={}) for case in read_golden(copy / "golden.npz").cases]
    (copy / "golden.npz").write_bytes(golden_to_npz(GoldenSet(cases=tuple(cases))))
    rehash(copy, "golden.npz")

    assert {check.title for check in verify(copy, device="cpu").checks if not check.passed} == {"labels"}


@pytest.mark.parametrize(
    "name",
    ["golden.npz", "labels.txt", "model.onnx", "model.torchscript", "network.onnx", "parity.json", "weights.bin"],
)
def test_a_thinned_file_list_is_refused(copy, edit_manifest, name):
    edit_manifest(copy, lambda manifest: manifest["files"].pop(name))

    with pytest.raises(runtime.ArtifactError, match=name):
        verify(copy, device="cpu")


@pytest.mark.parametrize(
    ("ranges", "problem"),
    [
        ({"batch": [1, 64], "length": [2, 96]}, "'batch' was compared from 1 to 16, and the manifest promises 1 to 64"),
        ({"batch": [1, 7], "length": [1, 97]}, "'length' was compared from 2 to 96, and the manifest promises 1 to 97"),
        ({"batch": [2, 7]}, "sizes of 'length' were compared, and the manifest does not list them"),
        ({}, "sizes of 'length' were compared, and the manifest does not list them"),
    ],
)
def test_sizes_beyond_those_that_were_compared_are_refused(copy, edit_manifest, edit_evidence, ranges, problem):
    edit_evidence(lambda evidence: evidence.update(lengths={"length": [2, 32, 96]}))
    compared = {name: {"lowest": lowest, "highest": highest} for name, (lowest, highest) in ranges.items()}
    edit_manifest(copy, lambda manifest: manifest.update(compared=compared))

    with pytest.raises(runtime.ArtifactError, match=problem):
        verify(copy, device="cpu")


def test_a_manifest_without_the_sizes_that_were_compared_is_refused(copy, edit_manifest):
    edit_manifest(copy, lambda manifest: manifest.pop("compared"))

    with pytest.raises(runtime.ArtifactError, match="sizes of 'batch' were compared, and the manifest does not list"):
        verify(copy, device="cpu")


def test_fewer_sizes_than_were_compared_are_a_smaller_promise(copy, edit_manifest):
    edit_manifest(copy, lambda manifest: manifest.update(compared={"batch": {"lowest": 2, "highest": 3}}))

    assert verify(copy, device="cpu").passed


@pytest.mark.parametrize("highest", [0, -1, -(2**63), 2**31])
def test_sizes_that_nothing_has_are_refused(copy, edit_manifest, highest):
    edit_manifest(copy, lambda manifest: manifest["compared"]["batch"].update(highest=highest))

    with pytest.raises(runtime.ArtifactError, match="highest"):
        open_artifact(copy)


def test_a_range_of_sizes_that_ends_before_it_begins_is_refused(copy, edit_manifest):
    edit_manifest(copy, lambda manifest: manifest["compared"]["batch"].update(lowest=17))

    with pytest.raises(runtime.ArtifactError, match="from 17 to 16"):
        open_artifact(copy)


def test_what_verify_refuses_is_not_served(copy, edit_manifest):
    edit_manifest(copy, LIMITS["a score of one"])

    with pytest.raises(runtime.ArtifactError, match=r"too wide: expected at most 1\.92e-05, got 1"):
        load_verified(copy, name="tiny", device="cpu", cores=1, max_pixels=10**7)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"verdict": "failed"}, "expected the verdict 'passed', got 'failed'"),
        ({"format_version": 2}, "unsupported format: expected 3, got 2"),
        ({"noise": []}, "no noise was measured for the output 'probabilities'"),
        ({"golden": []}, "not the golden inputs"),
        ({"rows": 3}, "not the evidence of a parity check"),
    ],
)
def test_evidence_of_something_else_is_refused(copy, edit_evidence, change, problem):
    edit_evidence(lambda evidence: evidence.update(change))
    artifact = open_artifact(copy)

    with pytest.raises(runtime.ArtifactError, match=problem):
        check_proof(artifact, read_golden(copy / "golden.npz").cases)


def test_an_older_artifact_says_to_export_again(copy, edit_evidence):
    """Evidence of before had no golden inputs."""
    edit_evidence(lambda evidence: evidence.pop("golden"))

    with pytest.raises(runtime.ArtifactError, match=r"Export again\."):
        verify(copy, device="cpu")


@pytest.mark.parametrize("name", ["other", "Probabilities"])
def test_renamed_outputs_are_refused_when_the_graph_is_opened(copy, edit_manifest, name):
    def rename(manifest):
        manifest["outputs"][0]["name"] = name
        for limits in ("output_limits", "end_to_end_limits"):
            manifest["golden"][limits] = {name: manifest["golden"][limits]["probabilities"]}

    edit_manifest(copy, rename)

    with pytest.raises(runtime.ArtifactError, match=f"expected '{name}'.*got 'probabilities'"):
        runtime.load(copy, device="cpu")


def test_an_output_of_another_dtype_is_refused_when_the_graph_is_opened(copy, edit_manifest):
    edit_manifest(copy, lambda manifest: manifest["outputs"][0].update(dtype="int64"))

    with pytest.raises(runtime.ArtifactError, match="other outputs than its manifest declares"):
        runtime.load(copy, device="cpu")


@pytest.mark.parametrize("change", [{"outputs": []}, {"inputs": []}, {"variants": []}])
def test_a_manifest_without_a_part_is_refused(copy, edit_manifest, change):
    edit_manifest(copy, lambda manifest: manifest.update(change))

    with pytest.raises(runtime.ArtifactError):
        open_artifact(copy)


@pytest.mark.parametrize("part", ["inputs", "outputs"])
def test_two_parts_of_one_name_are_refused(copy, edit_manifest, part):
    edit_manifest(copy, lambda manifest: manifest[part].append(manifest[part][0]))

    with pytest.raises(runtime.ArtifactError, match="of one name"):
        open_artifact(copy)


@pytest.mark.parametrize("size", [0, -5, 2**21, 10**30, [0, 4], [4, 2**40]])
def test_a_size_out_of_all_bounds_is_refused(copy, edit_manifest, size):
    edit_manifest(copy, lambda manifest: manifest["inputs"][0]["preprocessing"]["geometry"][0].update(size=size))

    with pytest.raises(runtime.ArtifactError, match="not a truecopy manifest"):
        open_artifact(copy)


def test_evidence_with_a_name_twice_is_refused(copy, rehash):
    path = copy / "parity.json"
    path.write_bytes(path.read_bytes().replace(b'"verdict": "passed"', b'"verdict": "failed", "verdict": "passed"', 1))
    rehash(copy, "parity.json")

    with pytest.raises(runtime.ArtifactError, match="two members of the name 'verdict'"):
        verify(copy, device="cpu")
