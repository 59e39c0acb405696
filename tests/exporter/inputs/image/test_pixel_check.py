"""The comparison step by step: equal where it should be, and a planted fault named by its step and path."""

import pytest
import torch
from torchvision import transforms
from torchvision.transforms import v2

from exporter.backends.registry import geometry_executions
from exporter.inputs.image import GRAY, RGB, Letterbox, PixelFormat, read_transform
from exporter.inputs.image.pixel_check import compare_pixels
from runtime.geometry import sizes

SIZES = [(1, 1), (13, 17), (2, 90), (61, 44), (427, 640)]
CLASSIC = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(33), transforms.ToTensor()])


@pytest.mark.parametrize(
    ("transform", "pixels"),
    [
        (CLASSIC, RGB),
        (CLASSIC, GRAY),
        (transforms.Compose([Letterbox(size=(40, 50)), transforms.ToTensor()]), RGB),
        (v2.Compose([v2.ToImage(), v2.Resize(40), v2.CenterCrop(33), v2.ToDtype(torch.float32)]), RGB),
        (
            v2.Compose([v2.ToImage(), v2.CenterCrop(33), v2.ToDtype(torch.float32)]),
            PixelFormat(mode="bands", channels=5, dtype="uint16"),
        ),
        (transforms.ToTensor(), RGB),
    ],
)
def test_every_step_is_the_users_own(transform, pixels):
    container = transform if hasattr(transform, "transforms") else transforms.Compose([transform])
    rows = compare_pixels(read_transform(container, pixels), pixels, geometry_executions(), sizes=SIZES)

    assert {row.path for row in rows} == {"model.onnx", "runtime", "model.torchscript"}
    assert all(row.difference == 0 and row.images == 4 * len(SIZES) for row in rows), rows


def test_the_step_that_differs_is_named_with_the_image_that_shows_it_most(monkeypatch):
    monkeypatch.setattr(sizes, "crop_origin", lambda size, crop, _rounding: (size - crop) // 2)

    rows = compare_pixels(read_transform(CLASSIC), RGB, geometry_executions(), sizes=SIZES)
    wrong = [row for row in rows if row.difference]

    assert [(row.step, row.path) for row in wrong] == [("2 of 3, 'CenterCrop'", "runtime")]
    assert wrong[0].share > 0.5
    assert wrong[0].worst.endswith(("13 x 17", "61 x 44", "427 x 640"))
