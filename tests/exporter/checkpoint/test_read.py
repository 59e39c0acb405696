"""Every file people call a checkpoint is read whole or refused with what to do; none runs code."""

import argparse
import collections
import datetime
import enum
import gzip
import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy
import pytest
import safetensors.torch
import torch

import exporter
from exporter.checkpoint import read_checkpoint
from exporter.checkpoint.load import load_tensors
from exporter.checkpoint.unpickler import read_pickle

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


class Recorder:
    """What training scripts keep beside the weights: an object of a class of their own."""

    def __init__(self) -> None:
        self.losses = numpy.zeros(3)
        self.best = numpy.float64(0.5)


class Phase(enum.Enum):
    """An enumeration of the script."""

    FIRST = 1


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_objects_beside_the_weights_are_skipped_and_named(tmp_path, zipped, protocol):
    beside = {
        "recorder": Recorder(),
        "phase": Phase.FIRST,
        "when": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        "folder": Path("runs"),
        "best": numpy.float32(0.25),
        "bytes": bytearray(b"abc"),
        "counts": collections.Counter("aab"),
        "args": argparse.Namespace(lr=0.1),
    }
    content = {"model": TENSORS, **beside}
    path = save(tmp_path / "x.pth", content, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)

    checkpoint = read_checkpoint(path)

    assert f"{__name__}.Recorder" in checkpoint.skipped
    assert set(checkpoint.leftovers) == set(beside)
    loaded = load_tensors(checkpoint)
    assert all(torch.equal(loaded[key], tensor) for key, tensor in TENSORS.items())


def test_names_of_python_2_are_data_as_well(tmp_path):
    script = (
        b"\x80\x02}q\x00U\x01xq\x01ccopy_reg\n_reconstructor\nq\x02c__main__\nMeter\nc__builtin__\nobject\nN\x87Rs."
    )

    content, imports = read_pickle(io.BytesIO(script), lambda _key, _size: None)

    assert str(content["x"].symbol) == "copy_reg._reconstructor"
    assert "__main__.Meter" in imports


class Learner:
    """An object whose parts know each other, as trainers' and callbacks' do."""


def test_an_object_that_is_no_dictionary_is_named_with_what_to_save(tmp_path):
    learner = Learner()
    learner.callbacks = [Learner() for _ in range(4)]
    for callback in learner.callbacks:
        callback.learner = learner

    with pytest.raises(exporter.CheckpointError, match=rf"got an object of '{__name__}\.Learner'.*model\.state_dict"):
        read_checkpoint(save(tmp_path / "x.pth", learner))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_modules_weights_are_data_where_an_architecture_is_named(tmp_path, zipped):
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    path = save(tmp_path / "x.pth", {"model": module, "epoch": 3}, _use_new_zipfile_serialization=zipped)

    loaded = load_tensors(read_checkpoint(path, rebuilt=True))

    assert loaded.keys() == module.state_dict().keys()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in module.state_dict().items())
    with pytest.raises(exporter.CheckpointError, match=r"--arch FILE\.py:NAME"):
        read_checkpoint(path)


def test_numbers_and_names_in_the_dictionary_of_tensors_are_left_over(tmp_path):
    checkpoint = read_checkpoint(save(tmp_path / "x.pth", {**TENSORS, "epoch": 3}))

    assert checkpoint.shapes.keys() == TENSORS.keys()
    assert checkpoint.leftovers == {"epoch": "3"}


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_a_quantized_checkpoint_is_called_that(tmp_path):
    tensor = torch.quantize_per_tensor(torch.rand(3, 4), 0.1, 0, torch.qint8)

    with pytest.raises(
        exporter.CheckpointError, match=r"quantized: 'fc\.weight' .* Export the floating-point checkpoint"
    ):
        read_checkpoint(save(tmp_path / "x.pth", {"state_dict": {"fc.weight": tensor, "fc.bias": torch.rand(3)}}))


def test_tensors_that_need_code_are_refused_with_the_class(tmp_path):
    sparse = torch.eye(3).to_sparse()

    with pytest.raises(exporter.CheckpointError, match=r"'fc\.weight' is no tensor but an object of .*_rebuild_sparse"):
        read_checkpoint(save(tmp_path / "x.pth", {"fc.weight": sparse, "fc.bias": torch.rand(3)}))


@pytest.mark.parametrize("name", ["", "adapter_model.safetensors"])
def test_an_adapter_says_the_lines_that_merge_it_with_its_base(tmp_path, name):
    (tmp_path / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "task_type": "SEQ_CLS", "base_model_name_or_path": "base"}'
    )
    (tmp_path / "tokenizer.json").write_text("{}")
    safetensors.torch.save_file({"x.lora_A.weight": torch.rand(2, 3)}, tmp_path / "adapter_model.safetensors")

    with pytest.raises(exporter.CheckpointError) as refused:
        read_checkpoint(tmp_path / name)

    message = str(refused.value)
    assert "a LORA adapter, which is no model without its base 'base'" in message
    assert "peft.AutoPeftModelForSequenceClassification.from_pretrained" in message
    assert "model.merge_and_unload().save_pretrained('merged')" in message
    assert "AutoTokenizer" in message


def test_an_adapter_that_names_no_base_asks_for_it(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "task_type": "SEQ_CLS"}')
    safetensors.torch.save_file({"x.lora_A.weight": torch.rand(2, 3)}, tmp_path / "adapter_model.safetensors")

    with pytest.raises(exporter.CheckpointError, match="its base, 'BASE' in what follows") as refused:
        read_checkpoint(tmp_path)

    base = "transformers.AutoModelForSequenceClassification.from_pretrained('BASE')"
    assert f"peft.PeftModel.from_pretrained({base}, '{tmp_path}')" in str(refused.value)


def test_the_list_of_a_sharded_checkpoints_files_names_their_folder(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {}}')

    with pytest.raises(exporter.CheckpointError, match=f"Pass the folder with all of them, '{tmp_path}'"):
        read_checkpoint(tmp_path / "model.safetensors.index.json")


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


def test_an_adapter_of_a_users_own_network_says_the_lines_with_that(tmp_path):
    (tmp_path / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "auto_mapping": {"base_model_class": "Net", "parent_library": "train"}}'
    )
    safetensors.torch.save_file({"x.lora_A.weight": torch.rand(2, 3)}, tmp_path / "adapter_model.safetensors")

    with pytest.raises(exporter.CheckpointError, match=r"of your own, 'Net'.*PeftModel.from_pretrained\(network, '"):
        read_checkpoint(tmp_path)


def zipped(**entries: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name.replace("__", "/"), data)
    return stream.getvalue()


def arrays() -> bytes:
    stream = io.BytesIO()
    numpy.savez(stream, weight=numpy.ones(3))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("m.pth.gz", gzip.compress(b"x", mtime=0), r"those of a gzip file\. Unpack it"),
        (
            "m.onnx",
            b"\x08\x08\x12\x07pytorch",
            r"those of an ONNX graph\. Export the PyTorch checkpoint",
        ),
        ("m.h5", b"\x89HDF\r\n\x1a\n", r"those of HDF5, as Keras"),
        (
            "train.py",
            b"import torch\n",
            r"those of a script\. Name the checkpoint, and .*--arch FILE.py",
        ),
        ("m.npz", arrays(), r"an archive of NumPy arrays\. Save tensors: .*numpy.load\('.*m.npz'\)"),
        ("m.zip", zipped(**{"run__best.pth": b"x"}), r"an archive with a checkpoint in it\. Unpack it"),
        (
            "m.pt2",
            zipped(**{"m__models__model.json": b"{}"}),
            r"of torch.export\. .*torch.export.load\('.*m.pt2",
        ),
        ("s.joblib", b"\x80\x04\x95cjoblib.numpy_pickle\n", r"a file of joblib"),
        ("o.pth", {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}, "the state of an optimizer alone"),
        ("a.pth", {"weight": numpy.ones(3)}, r"holds NumPy arrays, such as 'weight'.*torch.from_numpy"),
    ],
)
def test_what_is_no_checkpoint_is_named_with_the_way_to_one(tmp_path, name, data, reason):
    path = tmp_path / name
    path.write_bytes(data) if isinstance(data, bytes) else torch.save(data, path)

    with pytest.raises(exporter.CheckpointError, match=reason):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ((".metadata", "__0_0.distcp"), r"format_utils dcp_to_torch .* weights\.pth"),
        (("latest", "global_step3/mp_rank_00_model_states.pt"), r"DeepSpeed.* pass '.*mp_rank_00_model_states\.pt'"),
        (("zero_to_fp32.py",), r"Join its pieces: python .*zero_to_fp32\.py"),
        (("best.pt", "last.pt"), r"got 'best\.pt', 'last\.pt'\. Name the file in it"),
    ],
)
def test_a_folder_of_pieces_says_how_they_are_joined(tmp_path, names, reason):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")

    with pytest.raises(exporter.CheckpointError, match=reason):
        read_checkpoint(tmp_path)


def test_the_network_of_a_trainer_that_was_saved_whole_is_found(tmp_path):
    learner = Learner()
    learner.model, learner.owner = torch.nn.Linear(3, 2), learner
    path = save(tmp_path / "export.pkl", learner)

    checkpoint = read_checkpoint(path, rebuilt=True)

    assert checkpoint.entry == "model"
    assert torch.equal(load_tensors(checkpoint)["weight"], learner.model.weight)
    trusted = read_checkpoint(path, trust=True).module
    assert torch.equal(trusted.weight, learner.model.weight)
