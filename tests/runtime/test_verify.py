"""verify tells a sound artifact on a sound device from anything else, without PyTorch."""

import io

import msgspec
import numpy as np
import pytest

import runtime
from runtime.artifact.golden import GoldenSet, golden_to_npz, read_golden
from runtime.verify import verify


@pytest.fixture
def change_golden(rehash):
    """Change every case of an artifact's golden set."""

    def change(artifact, edit):
        cases = tuple(edit(case) for case in read_golden(artifact / "golden.npz").cases)
        (artifact / "golden.npz").write_bytes(golden_to_npz(GoldenSet(cases=cases)))
        rehash(artifact, "golden.npz")

    return change


def test_the_committed_artifact_passes(tiny):
    verification = verify(tiny)

    assert verification.passed, verification
    assert verification.inputs >= 2
    lossy = ", lossy formats"
    assert [check.title for check in verification.checks] == [
        *("prepared", f"prepared{lossy}", "network", "end to end", f"end to end{lossy}"),
        *("in a batch", f"in a batch{lossy}", "labels", "model.onnx", f"model.onnx{lossy}"),
    ]
    assert [check.stage for check in verification.checks] == [
        *("geometry", "geometry", "network", *["end to end"] * 4, "labels", "end to end", "end to end"),
    ]
    assert not any(check.output for check in verification.checks)


def test_a_damaged_file_is_found_even_if_the_runtime_never_opens_it(copy):
    data = bytearray((copy / "model.torchscript").read_bytes())
    data[100] ^= 1
    (copy / "model.torchscript").write_bytes(data)

    with pytest.raises(runtime.ArtifactError, match=r"model\.torchscript': damaged"):
        verify(copy)


def test_other_weights_with_a_fixed_up_hash_are_found(copy, rehash):
    weights = np.frombuffer((copy / "weights.bin").read_bytes(), dtype=np.float32) * np.float32(1.05)
    (copy / "weights.bin").write_bytes(weights.tobytes())
    rehash(copy, "weights.bin")

    failed = {check.title for check in verify(copy).checks if not check.passed}

    assert "network" in failed


def test_not_a_number_fails(copy, rehash):
    golden = read_golden(copy / "golden.npz")
    golden.cases[0].outputs["probabilities"][0, 0] = np.nan
    data = golden_to_npz(golden)
    (copy / "golden.npz").write_bytes(data)
    rehash(copy, "golden.npz")

    assert not verify(copy).passed


def test_preprocessing_that_was_edited_is_found(copy, edit_manifest):
    edit_manifest(copy, lambda manifest: manifest["inputs"][0]["preprocessing"]["geometry"][0].update(size=44))

    failed = {check.title for check in verify(copy).checks if not check.passed}

    assert "prepared" in failed


def test_pixels_of_a_lossless_photo_are_equal_on_every_machine(copy, change_golden):
    """One gray level is what another JPEG decoder may do; of a PNG, it is another resize."""
    pngs = {"prepared"}
    jpegs = {"prepared, lossy formats"}

    def off_by_one(case):
        return msgspec.structs.replace(
            case, prepared={name: (array ^ np.uint8(1)) for name, array in case.prepared.items()}
        )

    change_golden(copy, off_by_one)
    failed = {check.title for check in verify(copy).checks if not check.passed}

    assert pngs <= failed
    assert not jpegs & failed


def test_labels_that_were_edited_are_found(copy, change_golden, rehash):
    """Their hash is right, and every score is: only what is said of it has changed."""
    model = runtime.load(copy, device="cpu")

    def with_words(case):
        (scores,) = case.outputs.values()
        return msgspec.structs.replace(case, labels=model.interpret(scores[0], name="").to_arrays())

    change_golden(copy, with_words)
    assert {check.title: check.passed for check in verify(copy).checks}["labels"]

    words = (copy / "labels.txt").read_text().split()
    (copy / "labels.txt").write_text("".join(f"{word}\n" for word in (words[1], words[0], *words[2:])))
    rehash(copy, "labels.txt")

    assert {check.title for check in verify(copy).checks if not check.passed} == {"labels"}


def test_an_answer_that_depends_on_its_neighbors_is_found(copy, edit_manifest, monkeypatch):
    """Alone, every input is right."""
    run = runtime.Model.run

    def averaged(model, arrays):
        return {name: 0.5 * array + 0.5 * array.mean(axis=0) for name, array in run(model, arrays).items()}

    monkeypatch.setattr(runtime.Model, "run", averaged)

    assert {check.name for check in verify(copy).checks if not check.passed} == {"in a batch"}


def test_a_golden_file_that_is_none_is_named(copy, rehash):
    (copy / "golden.npz").write_bytes(b"not a zip")
    rehash(copy, "golden.npz")

    with pytest.raises(runtime.ArtifactError, match="not a golden set"):
        verify(copy)


def test_a_golden_file_cannot_fill_the_memory(copy, rehash):
    stream = io.BytesIO()
    np.savez_compressed(stream, pixels=np.zeros(300 * 2**20, dtype=np.uint8))
    (copy / "golden.npz").write_bytes(stream.getvalue())
    rehash(copy, "golden.npz")

    with pytest.raises(runtime.ArtifactError, match="unpacks to too much"):
        verify(copy)
