"""albumentations' Compose is read, and held against itself; where it is not installed, this is skipped."""

import pytest

import runtime
from exporter.errors import PreprocessingError
from exporter.inputs.image.pixel_format import RGB
from exporter.inputs.image.stated import read_library

A = pytest.importorskip("albumentations", reason="albumentations is not installed: its Compose was not compared")
from albumentations.pytorch import ToTensorV2  # noqa: E402

NORMALIZE = (A.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)), ToTensorV2())


@pytest.mark.parametrize(
    "parts",
    [
        (A.Resize(224, 200), *NORMALIZE),
        (A.Resize(64, 64, interpolation=0), *NORMALIZE),
        (A.SmallestMaxSize(256), A.CenterCrop(224, 224), *NORMALIZE),
        (A.LongestMaxSize(160), A.PadIfNeeded(160, 160, border_mode=0), *NORMALIZE),
        (A.LongestMaxSize(161), A.PadIfNeeded(161, 161, border_mode=0, fill=(124, 116, 104)), *NORMALIZE),
        (A.Resize(32, 32), A.ToFloat(max_value=255), ToTensorV2()),
        (A.Resize(32, 32), A.ToFloat(), A.Normalize(max_pixel_value=1.0), ToTensorV2()),
        (A.Sequential([A.Resize(40, 40)], p=1), *NORMALIZE),
    ],
)
def test_a_compose_is_read_and_equal_to_the_steps(parts):
    assert read_library(A.Compose(parts), RGB).called_with == "RGB arrays"


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ((A.Resize(32, 32), A.HorizontalFlip(p=0.5), *NORMALIZE), "'HorizontalFlip': is applied with a probability"),
        ((A.Sequential([A.Resize(40, 40)], p=0.5), *NORMALIZE), "'Sequential': is applied with a probability"),
        ((A.Resize(32, 32, interpolation=2), *NORMALIZE), "expected cv2.INTER_LINEAR"),
        ((A.Resize(32, 32), A.Normalize(normalization="image"), ToTensorV2()), "'Normalize': cannot be folded in"),
        ((A.PadIfNeeded(100, 100), *NORMALIZE), "Put a resize before a frame"),
        ((A.CenterCrop(224, 224), *NORMALIZE), "fails on an image of 96 x 61"),
        ((A.RandomCrop(32, 32), *NORMALIZE), "is training augmentation"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_name(parts, reason):
    with pytest.raises(PreprocessingError, match=reason):
        read_library(A.Compose(parts), RGB)


def test_a_compose_that_is_not_always_applied_is_refused():
    with pytest.raises(PreprocessingError, match=r"a probability of 0\.5"):
        read_library(A.Compose([A.Resize(8, 8), *NORMALIZE], p=0.5), RGB)


def test_a_network_behind_it_is_proven_on_all_images(export_mine, photos):
    compose = A.Compose([A.SmallestMaxSize(40), A.CenterCrop(32, 32), *NORMALIZE])

    exported = export_mine(preprocess=compose)

    assert exported.parity.passed
    assert runtime.load(exported.artifact, device="cpu").predict(photos[0]).label
