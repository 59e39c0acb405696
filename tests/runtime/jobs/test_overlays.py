"""Pictures of label maps: over the photo where there is one."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from runtime.errors import InputError
from runtime.jobs.overlays import Overlays
from runtime.manifest import ImageInput, Labels, Preprocessing, Segment
from runtime.results import Failure, Segmentation

RED = (200, 0, 0)


@pytest.fixture
def overlays(tmp_path):
    def run(pixels: np.ndarray) -> Overlays:
        preprocessing = Preprocessing(geometry=(), arithmetic=(), height=2, width=3, channels=pixels.shape[2])
        spec = ImageInput(name="image", mode="L", exif=False, preprocessing=preprocessing)
        task = Segment(labels=Labels(file="labels.txt", count=1), colors=(RED,))
        manifest = SimpleNamespace(inputs=(spec,), task=task)
        model = SimpleNamespace(manifest=manifest, labels=("a",), prepare=lambda _source, subject: pixels)
        return Overlays(model, tmp_path / "out")

    return run


def picture_of(overlays: Overlays, name: str) -> np.ndarray:
    path = overlays.write(Segmentation(input=name, label_map=np.zeros((2, 3), np.int64), shares={"a": 1.0}))
    return np.asarray(Image.open(path))


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.full((2, 3, 1), 100, np.uint8), (150, 50, 50)),
        (np.full((2, 3, 3), 100, np.uint8), (150, 50, 50)),
        (np.full((2, 3, 5), 100, np.uint8), RED),
        (np.full((2, 3, 1), 100, np.uint16), RED),
    ],
)
def test_photos_are_under_the_colors(overlays, tmp_path, pixels, expected):
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"")

    assert (picture_of(overlays(pixels), str(photo)) == expected).all()


@pytest.mark.parametrize("name", ["rows.parquet#3", "train/cat.jpg"])
def test_an_image_of_a_table_has_the_colors_alone(overlays, name):
    pixels = np.full((2, 3, 1), 100, np.uint8)

    assert (picture_of(overlays(pixels), name) == RED).all()


def test_a_photo_that_cannot_be_read_again_is_its_row_alone(overlays, tmp_path):
    writer = overlays(np.full((2, 3, 1), 100, np.uint8))
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"")

    def refuse(source, subject):
        raise InputError(f"{subject}: damaged")

    writer._model.prepare = refuse
    results = [
        Segmentation(input=name, label_map=np.zeros((2, 3), np.int64), shares={"a": 1.0})
        for name in (str(photo), "rows.parquet#1")
    ]
    failed, written = writer.write_each(results)

    assert isinstance(failed, Failure)
    assert failed.error == f"'{photo}': damaged"
    assert written is results[1]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["rows.png"]


def test_names_longer_than_a_files_are_cut(overlays):
    writer = overlays(np.full((2, 3, 1), 100, np.uint8))

    names = [writer.name("\u732b" * 500), writer.name("\u732b" * 501)]

    assert len(set(names)) == 2
    assert max(len(name.encode()) for name in names) < 250
