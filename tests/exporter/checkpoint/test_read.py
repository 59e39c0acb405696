"""Every file people call a checkpoint is read whole or refused with what to do; none runs code."""

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

import exporter
from exporter.checkpoint import read_checkpoint
from exporter.checkpoint.load import load_tensors

TENSORS = {"fc.weight": torch.arange(6.0).view(2, 3), "fc.bias": torch.tensor([0.5, -0.5])}


def save(path: Path, content: object, **options: object) -> Path:
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("entry", ["", "state_dict", "model_state_dict", "model_state", "model", "net", "params"])
def test_a_state_dict_is_found_bare_or_under_a_usual_key(tmp_path, entry, zipped):
    content = {entry: TENSORS, "epoch": 7, "optimizer": {"lr": 0.1}} if entry else TENSORS
    checkpoint = read_checkpoint(save(tmp_path / "x.pth", content, _use_new_zipfile_serialization=zipped))

    assert checkpoint.entry == entry
    assert checkpoint.container == ("zip" if zipped else "legacy")
    assert checkpoint.parameters == 8
    loaded = load_tensors(checkpoint)
    assert all(torch.equal(loaded[key], tensor) for key, tensor in TENSORS.items())


class Mine:
    """What unpickling it would do."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_by_name_and_not_run(tmp_path, zipped):
    proof = tmp_path / "was-run"
    path = save(tmp_path / "evil.pth", {"model": TENSORS, "x": Mine(proof)}, _use_new_zipfile_serialization=zipped)

    with pytest.raises(exporter.CheckpointError, match=r"would import and run '(posix|nt)\.system'"):
        read_checkpoint(path)
    assert not proof.exists()


def test_a_whole_pickled_module_is_refused_with_the_line_that_saves_its_weights(tmp_path):
    path = save(tmp_path / "module.pth", torch.nn.Linear(2, 2))

    with pytest.raises(exporter.CheckpointError, match=r"torch\.nn\.modules\.linear\.Linear.*model\.state_dict\(\)"):
        read_checkpoint(path)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(exporter.CheckpointError, match="no such file"):
        read_checkpoint(tmp_path / "none.pth")
    with pytest.raises(exporter.CheckpointError, match="is a folder without a checkpoint"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty: expected a file that torch.save or safetensors wrote, got 0 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "a web page"),
        (b"<html><body>404</body></html>", "a web page"),
        (b"PK\x03\x04 and no more", "truncated"),
        (b"\x80\x02}q\x00.", "damaged|holds no state dict"),
        (b"\x80\x02garbage", "damaged"),
        (b"GGUF\x03\x00\x00\x00", r"not a PyTorch checkpoint: .* start with b'GGUF"),
    ],
)
def test_what_is_no_checkpoint_says_what_it_is(tmp_path, content, reason):
    path = tmp_path / "x.pth"
    path.write_bytes(content)

    with pytest.raises(exporter.CheckpointError, match=reason):
        read_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_download_that_stopped_is_refused_wherever_it_did(tmp_path, zipped, share):
    path = save(tmp_path / "x.pth", {"w": torch.rand(200, 200)}, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])

    with pytest.raises(exporter.CheckpointError, match=r"truncated|damaged"):
        read_checkpoint(path)


def test_a_zip_that_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")

    with pytest.raises(exporter.CheckpointError, match="damaged"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [
        {"epoch": 3, "optimizer": {"state": TENSORS}},
        {},
        [1, 2],
        {"model": {"nested": {}}},
        {"a": {"b": {"c": TENSORS}}},
    ],
)
def test_a_file_without_weights_lists_what_it_holds(tmp_path, content):
    path = save(tmp_path / "x.pth", content)

    with pytest.raises(exporter.CheckpointError, match="holds no state dict"):
        read_checkpoint(path)


def test_a_plain_pickle_of_tensors_is_not_run_either(tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"x": Mine(tmp_path / "was-run")}))

    with pytest.raises(exporter.CheckpointError):
        read_checkpoint(path)
    assert not (tmp_path / "was-run").exists()
