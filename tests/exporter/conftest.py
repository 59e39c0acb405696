"""Real checkpoints: a tiny network trained on real photos, once a session."""

import io
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.modules import load_file
from torch import nn

import exporter
from exporter.workflow import ExportResult

DATA = Path(__file__).parents[1] / "data"
PHOTOS = ("chelsea", "coffee", "rocket", "astronaut")
LABELS = ("cat", "coffee", "rocket", "astronaut")


@pytest.fixture(scope="session")
def photos() -> list[Image.Image]:
    """Four real photos, decoded."""
    folder = files("exporter.parity") / "photos"
    return [Image.open(io.BytesIO((folder / f"{name}.jpg").read_bytes())).convert("RGB") for name in PHOTOS]


@pytest.fixture(scope="session")
def net_file() -> Path:
    """The user's source file with ``MyCNN`` and ``transform``."""
    return DATA / "net.py"


@pytest.fixture(scope="session")
def state_dict(photos: list[Image.Image], net_file: Path) -> dict[str, torch.Tensor]:
    """The trained weights of MyCNN(num_classes=4)."""
    torch.manual_seed(0)
    net = load_file(net_file)
    trained = load_file(DATA / "training.py").train(net.MyCNN(num_classes=4), photos, net.transform)
    return dict(trained.state_dict())


@pytest.fixture(scope="session")
def give_signal() -> Callable[[nn.Module, torch.Tensor], None]:
    """Makes a random network's outputs vary over a batch of photos."""
    function: Callable[[nn.Module, torch.Tensor], None] = load_file(DATA / "training.py").give_signal
    return function


@pytest.fixture(scope="session")
def checkpoint_file(state_dict: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained weights as a .pth file."""
    path = tmp_path_factory.mktemp("checkpoint") / "mine.pth"
    torch.save(state_dict, path)
    return path


@pytest.fixture(scope="session")
def labels_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "names.txt"
    path.write_text("".join(f"{label}\n" for label in LABELS), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def exported(
    checkpoint_file: Path, net_file: Path, labels_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> ExportResult:
    """The tiny network, exported once; tests that change it work on a copy."""
    return exporter.export(
        checkpoint_file,
        f"{net_file}:MyCNN",
        arguments={"num_classes": 4},
        preprocess=f"{net_file}:transform",
        labels=labels_file,
        out=tmp_path_factory.mktemp("artifacts") / "mine",
    )


@pytest.fixture
def export_mine(checkpoint_file, net_file, labels_file, tmp_path):
    """Export the tiny network into ``tmp_path``, with what a test wants different."""

    def run(**changes: object) -> ExportResult:
        options: dict[str, object] = {
            "checkpoint": checkpoint_file,
            "arch": f"{net_file}:MyCNN",
            "arguments": {"num_classes": 4},
            "preprocess": f"{net_file}:transform",
            "labels": labels_file,
            "out": tmp_path / "mine",
        }
        return exporter.export(**{**options, **changes})

    return run
