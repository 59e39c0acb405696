"""True label maps: what is a class, before they are resized as the photos are."""

from types import SimpleNamespace

import numpy as np
import pytest

from runtime.errors import InputError
from runtime.evaluation.segmentation import compare_maps, read_mask
from runtime.manifest import ImageInput, Labels, Preprocessing, Resize, Segment


def model_of(classes: int) -> SimpleNamespace:
    resize = Resize(size=(4, 6), interpolation="bilinear", axis_order="vertical_first")
    preprocessing = Preprocessing(geometry=(resize,), arithmetic=(), height=4, width=6, channels=3)
    spec = ImageInput(name="image", mode="RGB", exif=False, preprocessing=preprocessing)
    task = Segment(labels=Labels(file="labels.txt", count=classes), colors=((0, 0, 0),) * classes)
    return SimpleNamespace(manifest=SimpleNamespace(inputs=(spec,), task=task))


@pytest.mark.parametrize("number", [300, 3, 256, -1])
@pytest.mark.parametrize("shape", [(4, 6), (8, 12)])
def test_a_number_that_is_no_class_is_named_in_any_size(tmp_path, number, shape):
    mask = np.zeros(shape, np.int16)
    mask[0, 0] = number
    np.save(tmp_path / "mask.npy", mask)

    with pytest.raises(InputError, match=f"no class: expected numbers from 0 to 2, or 255 .* got {number}"):
        read_mask(tmp_path / "mask.npy", None, model_of(3), (4, 6))


def test_more_classes_than_a_byte_holds_stay_the_same(tmp_path):
    np.save(tmp_path / "mask.npy", np.full((8, 12), 300))

    mask = read_mask(tmp_path / "mask.npy", None, model_of(400), (4, 6))

    assert (mask == 300).all()
    assert mask.shape == (4, 6)


def test_a_bad_mask_costs_only_its_image(tmp_path):
    masks = {"good": np.array([[0, 1], [2, 255]]), "bad": np.array([[0, -1], [0, 0]])}
    for name, mask in masks.items():
        np.save(tmp_path / f"{name}.npy", mask)
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\0IHDR")
    scores = np.eye(3)[[[0, 1], [1, 1]]].transpose(2, 0, 1)
    items = [
        (SimpleNamespace(name=name, source=None, truth=tmp_path / name), scores)
        for name in ("good.npy", "bad.npy", "damaged.png")
    ]

    maps = compare_maps(model_of(3), iter(items))

    assert maps.confusion.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert list(maps.failures) == ["bad.npy", "damaged.png"]
