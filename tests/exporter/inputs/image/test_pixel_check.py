"""The comparison step by step: equal where it should be, and a planted fault named by its step and path."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import v2

from exporter.backends.registry import geometry_executions
from exporter.inputs.image import GRAY, RGB, Letterbox, PixelFormat, read_transform
from exporter.inputs.image.made_images import Drawing, drawings_of
from exporter.inputs.image.pixel_check import PixelCheck, PixelTest, compare_pixels, decode_rows
from exporter.parity.paths import host_stage
from runtime.geometry import sizes

SIZES = [(1, 1), (13, 17), (2, 90), (61, 44), (427, 640)]
CLASSIC = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(33), transforms.ToTensor()])


def rows_of(reading, pixels):
    """Return each execution's pixels after each step of the transform, compared with its own."""
    check = PixelCheck(reading=reading, pixels=pixels, executions=geometry_executions())
    return compare_pixels(check.step_tests(reading.prefixes), pixels, drawings_of(SIZES))


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
    rows = rows_of(read_transform(container, pixels), pixels)

    assert {row.path for row in rows} == {"model.onnx", "runtime", "model.torchscript"}
    assert all(row.difference == 0 and row.images == 4 * len(SIZES) for row in rows), rows


def test_the_step_that_differs_is_named_with_the_image_that_shows_it_most(monkeypatch):
    monkeypatch.setattr(sizes, "crop_origin", lambda size, crop, _rounding: (size - crop) // 2)

    rows = rows_of(read_transform(CLASSIC), RGB)
    wrong = [row for row in rows if row.difference]

    assert [(row.step, row.path) for row in wrong] == [("2 of 3, 'CenterCrop'", "runtime")]
    assert wrong[0].share > 0.5
    assert wrong[0].worst.name.endswith(("13 x 17", "61 x 44", "427 x 640"))


def test_a_path_that_fails_on_one_image_is_at_fault_and_the_others_are_compared():
    reading = read_transform(CLASSIC)
    (prefix,) = reading.prefixes[-1:]

    def run(made, expected):
        if made.array.shape[0] == 61:
            raise ValueError("too long")
        return expected ^ int(made.array.shape[0] == 1)

    (row,) = compare_pixels([PixelTest(path="x", prefix=prefix, run=run)], RGB, drawings_of(SIZES))

    assert (row.fault, row.sentence, row.worst.name) == ("error", "ValueError: too long", "ramps 61 x 44")
    assert (row.planned, row.images, row.difference) == (20, 16, 1)


def test_another_shape_or_type_is_a_fault_of_form():
    reading = read_transform(CLASSIC)
    for fault, change in (("shape", lambda pixels: pixels[1:]), ("dtype", lambda pixels: pixels.astype(np.int16))):
        test = PixelTest(path="x", prefix=reading.prefixes[-1], run=lambda _, pixels, change=change: change(pixels))
        (row,) = compare_pixels([test], RGB, drawings_of([(13, 17)]))
        assert row.fault == fault


@pytest.mark.parametrize("size", [(3000, 4000), (600, 300), (61, 640)])
def test_an_image_is_drawn_and_prepared_by_the_user_once_for_all_paths(size):
    reading = read_transform(CLASSIC)
    seen = []
    prefix = replace(
        reading.prefixes[-1], pixels=lambda image: seen.append(image.size) or np.zeros((33, 33, 3), np.uint8)
    )
    tests = [PixelTest(path=name, prefix=prefix, run=lambda _, pixels: pixels) for name in "abc"]

    compare_pixels(tests, RGB, [Drawing(size=size, pattern="noise")])

    assert seen == [size[::-1]]


def test_a_jpeg_of_several_megapixels_is_decoded_as_the_user_does():
    def decode(case):
        return {"image": np.asarray(Image.open(io.BytesIO(case.data)).convert("RGB"))[np.newaxis]}

    def half(reference):
        image = Image.open(io.BytesIO(reference.case.data))
        image.draft("RGB", (image.width // 2, image.height // 2))
        return {"image": np.asarray(image)[np.newaxis]}

    stages = {
        "right": host_stage("decode", lambda reference: decode(reference.case), takes="case"),
        "wrong": host_stage("decode", half, takes="case"),
    }
    rows = {row.path: row for row in decode_rows(stages, decode, "image")}

    assert rows["right"].passed
    assert (rows["wrong"].stage, rows["wrong"].fault) == ("decode", "shape")
