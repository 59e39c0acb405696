"""The committed artifact with an int8 variant, made once, and photos to calibrate with."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from exporter.precision.quantize import quantize
from exporter.precision.variant import VariantReport, VariantRequest

DATA = Path(__file__).parents[2] / "data"
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
