"""The committed artifact with an int8 variant, made once, a classifier of texts, and data to calibrate with."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.modules import load_file
from torch import Tensor, nn

import exporter
from exporter.precision.quantize import quantize
from exporter.precision.variant import VariantReport, VariantRequest

DATA = Path(__file__).parents[2] / "data"
languages = load_file(DATA / "languages.py")
LABELS = ("cat", "coffee", "rocket", "astronaut")


@pytest.fixture(scope="session")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 photos: crops of the four that the network was trained on, in a folder per class."""
    folder = tmp_path_factory.mktemp("crops")
    generator = random.Random(3)
    for label in LABELS:
        photo = Image.open(DATA / f"{label}.jpg").convert("RGB")
        (folder / label).mkdir()
        for number in range(15):
            side = generator.randint(min(photo.size) // 2, min(photo.size) - 2)
            left, top = generator.randint(0, photo.width - side), generator.randint(0, photo.height - side)
            crop = photo.crop((left, top, left + side, top + side)).resize((48, 48))
            crop.save(folder / label / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def request_for(crops: Path) -> Callable[..., VariantRequest]:
    """Return a request with the crops as its data, with what a test wants different."""

    def build(**changes: object) -> VariantRequest:
        return VariantRequest(**{"calibration": crops, "min_agreement": 0.95, **changes})

    return build


@pytest.fixture(scope="session")
def report(tiny: Path, request_for, tmp_path_factory: pytest.TempPathFactory) -> VariantReport:
    """What 'truecopy quantize' made of the tiny artifact; it is in the folder ``report.artifact``."""
    out = tmp_path_factory.mktemp("quantized") / "tiny"
    return quantize(tiny, request_for(labels_from=request_for().calibration), out=out)


@pytest.fixture(scope="session")
def quantized(report: VariantReport) -> Path:
    return Path(report.artifact)


class Reader(nn.Module):
    """Vectors of words, a hidden layer each, and a pooled class of their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 64)
        self.hidden = nn.Linear(64, 64)
        self.pool = nn.Linear(64, 64)
        self.head = nn.Linear(64, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        kept = (input_ids != 0).unsqueeze(2).to(torch.float32)
        states = torch.relu(self.hidden(self.words(input_ids))) * kept
        return 9 * self.head(torch.tanh(self.pool(states.sum(dim=1) / kept.sum(dim=1))))


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    torch.manual_seed(1)
    network = Reader().eval()
    languages.build_tokenizer(folder / "tokenizer.json")
    torch.save(network.state_dict(), folder / "reader.pth")
    exported = exporter.export(
        folder / "reader.pth", network, tokenizer=folder / "tokenizer.json", out=folder / "artifact"
    )
    return exported.artifact


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = random.Random(0)
    lines = {" ".join(generator.choices(languages.WORDS[4:], k=generator.randint(1, 9))) for _ in range(90)}
    path = tmp_path_factory.mktemp("data") / "texts.txt"
    path.write_text("".join(f"{line}\n" for line in sorted(lines)))
    return path
