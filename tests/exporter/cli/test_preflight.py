"""Mistakes of the command line are found before PyTorch is loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision

from exporter import ExportError, ExportOptions
from exporter.cli.preflight import check_export, check_recheck

TINY = Path(__file__).parents[2] / "data" / "tiny"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "model.pth"
    torch.save(torchvision.models.squeezenet1_1(num_classes=7).state_dict(), path)
    return path


@pytest.fixture
def options_of(checkpoint, tmp_path):
    def build(arch: str = "squeezenet1_1", **options: object) -> ExportOptions:
        return ExportOptions.from_keywords(checkpoint, arch, **{"out": tmp_path / "out", **options})

    return build


@pytest.mark.parametrize(
    ("arch", "given", "missing"),
    [
        ("net.py:Net", {}, "'net.py': no such file or folder. Check the path in --arch."),
        ("hf:nowhere", {}, "'nowhere': no such file or folder. Check the path in --arch."),
        ("resnet18", {"preprocess": "v.py:t"}, "'v.py': no such file or folder. Check the path in --preprocess."),
        ("resnet18", {"preprocess": "f/preprocessor_config.json:pil"}, "'f/preprocessor_config.json': no such"),
        ("resnet18", {"preprocess": "scaler.skops"}, "'scaler.skops': no such file or folder"),
        ("resnet18", {"labels": "n.txt"}, "'n.txt': no such file or folder. Check the path in --labels."),
        ("resnet18", {"samples": "photos"}, "'photos': no such file or folder. Check the path in --samples."),
        ("resnet18", {"tokenizer": "t.json"}, "'t.json': no such file or folder. Check the path in --tokenizer."),
        ("resnet18", {"imports": "lib", "trust": True}, "'lib': no such file or folder. Check the path in --import."),
        (
            "resnet18",
            {"task": "regress", "target_transform": "y.skops"},
            "'y.skops': no such file or folder. Check the path in --target-transform.",
        ),
    ],
)
def test_a_missing_file_is_named_with_its_option(options_of, arch, given, missing):
    with pytest.raises(ExportError) as caught:
        check_export(options_of(arch, **given))

    assert str(caught.value).startswith(missing)


@pytest.mark.parametrize("option", ["labels", "samples", "tokenizer", "preprocess"])
def test_a_pipe_or_device_is_not_read(options_of, option, tmp_path):
    """Without a writer, opening a pipe waits for ever; a device may never end."""
    pipe = tmp_path / "x.json"
    os.mkfifo(pipe)

    with pytest.raises(ExportError, match=f"x.json': a pipe or device: .* Copy it first, for --{option}"):
        check_export(options_of(**{option: str(pipe)}))


def test_a_file_that_is_read_whole_has_a_size(options_of, tmp_path):
    with (tmp_path / "labels.txt").open("wb") as stream:
        stream.truncate(3 * 2**30)

    with pytest.raises(ExportError, match=r"labels.txt': too large: .* got 3221225472. Check the path in --labels"):
        check_export(options_of(labels=str(tmp_path / "labels.txt")))


def test_what_is_no_file_is_not_looked_for(options_of):
    check_export(options_of("package.module:Net", preprocess="timm:resnet18", locate="fault"))
    check_export(options_of("timm:resnet18", task="regress", target_transform="log"))


@pytest.mark.parametrize("count", [3, 6, 1000])
def test_labels_that_no_layer_of_a_known_architecture_has_outputs_for_are_refused(options_of, count):
    labels = [f"class {index}" for index in range(count)]

    with pytest.raises(ExportError, match=rf"wrong number of labels: got {count}, and no layer of '.*model.pth' has"):
        check_export(options_of(labels=labels))
    # What a network of the user's own makes of its last layer shows only when it runs.
    check_export(options_of("package.module:Net", labels=labels))
    check_export(options_of(labels=labels, task="binary"))


def test_labels_of_the_last_layer_are_left_to_the_export(options_of):
    check_export(options_of(labels=[f"class {index}" for index in range(7)]))


def test_a_folder_that_is_in_use_is_refused(options_of, tmp_path):
    (tmp_path / "out").mkdir()

    with pytest.raises(ExportError, match=r"exists already\. Pass --force"):
        check_export(options_of())


def test_options_of_a_recheck_are_for_the_artifact(checkpoint):
    with pytest.raises(ExportError, match="--vocabulary: is for token sequences, and this model takes images"):
        check_recheck(TINY, ExportOptions.from_keywords(checkpoint, vocabulary="words.txt"))
    with pytest.raises(ExportError, match=r"'words.txt': no such file or folder. Check the path in --labels."):
        check_recheck(TINY, ExportOptions.from_keywords(checkpoint, labels="words.txt"))


@pytest.mark.parametrize("command", ["export CHECKPOINT --labels nowhere.txt", "parity TINY --checkpoint nowhere.pth"])
def test_pytorch_is_not_loaded_for_a_mistake(checkpoint, command, tmp_path):
    arguments = ["truecopy", *command.replace("CHECKPOINT", str(checkpoint)).replace("TINY", str(TINY)).split()]
    code = f"""
import sys
sys.argv = {arguments!r}
from runtime.cli.main import main
try:
    main()
except SystemExit as stop:
    print(stop.code, sorted({{"torch", "torchvision", "onnx"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path
    )

    assert done.stdout == "1 []\n"
    assert "no such file" in done.stderr
