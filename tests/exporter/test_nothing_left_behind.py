"""Bad input and bad luck: a clear error, and nothing half-written stays."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import exporter
import runtime
from runtime.geometry import native, pillow


def everything_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("cat\ncoffee\nrocket\n", r"wrong number of labels: expected 4, .* got 3"),
        ("cat\n\ncoffee\nrocket\nastronaut\n", "line 2 is empty"),
    ],
)
def test_a_label_file_that_does_not_fit_is_refused(export_mine, tmp_path, content, reason):
    labels = tmp_path / "names.txt"
    labels.write_text(content)

    with pytest.raises(exporter.ExportError, match=reason):
        export_mine(labels=labels)
    assert not (tmp_path / "mine").exists()


def test_labels_may_come_from_windows(export_mine, tmp_path):
    labels = tmp_path / "names.txt"
    labels.write_bytes(b"\xef\xbb\xbfcat\r\ncoffee\r\nrocket\r\nastronaut\r\n\r\n")

    assert runtime.load(export_mine(labels=labels).artifact).labels == ("cat", "coffee", "rocket", "astronaut")


def test_an_architecture_without_a_known_transform_asks_for_it(export_mine):
    with pytest.raises(exporter.PreprocessingError, match=r"Pass the one that you evaluate with: --preprocess"):
        export_mine(preprocess=None)


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        ("return (x, x)", r"expected one output \[batch, classes\], got tuple"),
        ("return super().forward(x)[0]", r"expected one output \[batch, classes\], got \[4\]"),
        ("return super().forward(x[:, :1])", r"a forward pass on \[1, 3, 32, 32\] failed"),
        ("return super().forward(x.half())", r"Weights in half precision run in float32 here: leave \.half\(\)"),
    ],
)
def test_what_is_no_classifier_is_told(export_mine, tmp_path, net_file, forward, reason):
    source = tmp_path / "odd.py"
    source.write_text(
        f"import importlib.util as u\nspec = u.spec_from_file_location('net', {str(net_file)!r})\n"
        "net = u.module_from_spec(spec); spec.loader.exec_module(net)\n"
        f"class Odd(net.MyCNN):\n    def forward(self, x): {forward}\n"
    )
    with pytest.raises(exporter.ConversionError, match=reason):
        export_mine(arch=f"{source}:Odd")


def test_an_existing_folder_is_kept_unless_forced(export_mine, tmp_path):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")

    with pytest.raises(exporter.ExportError, match=r"exists already\. Pass --force"):
        export_mine()
    with pytest.raises(exporter.ExportError, match="--force replaces artifacts only"):
        export_mine(force=True)
    assert (out / "thesis.txt").read_text() == "years of work"


def test_force_replaces_an_artifact_and_a_failure_keeps_the_old_one(export_mine, exported, tmp_path, monkeypatch):
    out = tmp_path / "mine"
    shutil.copytree(exported.artifact, out)
    (out / "labels.txt").write_text("old\n")
    before = everything_in(out)

    with monkeypatch.context() as fault:
        fault.setitem(pillow._FILTERS, "bilinear", Image.Resampling.NEAREST)
        fault.setattr(native, "find_kernel", native.Kernel)  # which has filters of its own
        with pytest.raises(exporter.ParityError):
            export_mine(force=True)
    assert everything_in(out) == before

    export_mine(force=True)
    assert everything_in(out) == everything_in(exported.artifact)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("limit", [3_000, 10_000, 30_000])
def test_a_full_disk_leaves_nothing_behind(checkpoint_file, net_file, labels_file, tmp_path, limit):
    """A file-size limit makes the kernel refuse the write in the middle of a file, as a full disk does."""
    script = (
        "import resource, sys, exporter\n"
        "import exporter.workflow\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        f"exporter.export({str(checkpoint_file)!r}, {f'{net_file}:MyCNN'!r}, arguments={{'num_classes': 4}},\n"
        f"    preprocess={f'{net_file}:transform'!r}, labels={str(labels_file)!r}, out='deep/er/mine')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )

    assert "File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("step", ["TorchScript", "parity"])
def test_an_interruption_leaves_nothing_behind(checkpoint_file, net_file, labels_file, tmp_path, signal_name, step):
    """The signal comes when the step begins, whatever the machine's speed."""
    script = (
        "import os, signal, sys\n"
        "from exporter.cli import export as cli\n"
        "started = cli.TerminalProgress.started\n"
        "def interrupt(self, name):\n"
        f"    if name == {step!r}: os.kill(os.getpid(), signal.{signal_name})\n"
        "    started(self, name)\n"
        "cli.TerminalProgress.started = interrupt\n"
        f"sys.argv[1:] = [{str(checkpoint_file)!r}, '--arch', {f'{net_file}:MyCNN'!r}, '--arch-arg', 'num_classes=4',\n"
        f"    '--preprocess', {f'{net_file}:transform'!r}, '--labels', {str(labels_file)!r}]\n"
        "cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )

    assert done.returncode in {130, 143}, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
