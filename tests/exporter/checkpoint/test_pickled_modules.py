"""Whole pickled modules: refused unless trusted, and then only what is importable."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import exporter
from exporter.checkpoint import read_checkpoint

SOURCE = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)
    def forward(self, x):
        return self.fc(x)
if __name__ == "__main__":
    import sys
    torch.save({"model": Net(), "epoch": 1} if sys.argv[2:] else Net(), sys.argv[1])
"""


@pytest.fixture
def pickled(tmp_path):
    """A module pickled by the script that defines it, so that it says '__main__'; and the script."""

    def make(*arguments: str) -> tuple[Path, Path]:
        source = tmp_path / "train_it.py"
        source.write_text(SOURCE)
        path = tmp_path / "whole.pt"
        subprocess.run([sys.executable, source, path, *arguments], check=True, timeout=120)
        return path, source

    return make


def test_it_is_refused_with_its_names_and_the_way_out(pickled):
    path, _ = pickled()

    with pytest.raises(exporter.CheckpointError, match=r"'__main__\.Net', 'torch\.nn\..*Linear'.*--trust"):
        read_checkpoint(path)


def test_trusted_without_its_source_it_says_what_to_add(pickled):
    path, _ = pickled()

    with pytest.raises(exporter.CheckpointError, match=r"needs '__main__\.Net'.*--import FILE\.py"):
        read_checkpoint(path, trust=True)


@pytest.mark.parametrize("arguments", [(), ("nested",)])
def test_trusted_with_its_source_it_is_the_network(pickled, capsys, arguments, monkeypatch):
    path, source = pickled(*arguments)
    monkeypatch.setattr(sys, "path", [*sys.path])
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "Net", None, raising=False)
    monkeypatch.delattr(main, "Net")

    checkpoint = read_checkpoint(path, trust=True, imports=[source])

    assert "importing and running '__main__.Net'" in capsys.readouterr().err
    assert checkpoint.format == "module"
    assert checkpoint.entry == ("model" if arguments else "")
    assert checkpoint.module(torch.ones(1, 3)).shape == (1, 2)
    assert checkpoint.shapes == {"fc.weight": (2, 3), "fc.bias": (2,)}
    del main.Net


def test_what_is_no_module_is_not_run_even_when_trusted(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"model": {"w": torch.ones(2)}, "evil": Touch(tmp_path / "was-run")}, path)

    checkpoint = read_checkpoint(path, trust=True)

    assert checkpoint.entry == "model"
    assert not (tmp_path / "was-run").exists()


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)
