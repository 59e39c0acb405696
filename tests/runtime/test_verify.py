"""verify tells a sound artifact on a sound device from anything else, without PyTorch."""

import io

import numpy as np
import pytest

import runtime
from runtime.golden import golden_to_npz, read_golden
from runtime.verify import verify


def test_the_committed_artifact_passes(tiny):
    verification = verify(tiny)

    assert verification.passed, verification
    assert verification.inputs >= 2
    assert [check.name for check in verification.checks] == ["prepared", "network", "end to end", "model.onnx"]


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

    failed = {check.name for check in verify(copy).checks if not check.passed}

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

    failed = {check.name for check in verify(copy).checks if not check.passed}

    assert "prepared" in failed


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
