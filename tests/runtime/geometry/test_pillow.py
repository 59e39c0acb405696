"""The host's resize and crop give Pillow's own pixels, to the last bit, whatever the size."""

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from runtime.geometry import pillow, sizes
from runtime.geometry.preparation import prepare
from runtime.manifest import CenterCrop, Resize

ORDER = "larger_cut_first" if int(PIL.__version__.partition(".")[0]) >= 13 else "horizontal_first"
FILTERS = {
    name: Image.Resampling[name.upper()] for name in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
}

side = st.integers(1, 300)


def noise(height: int, width: int) -> Image.Image:
    random = np.random.default_rng(height * 1000 + width)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


@settings(deadline=None, max_examples=150)
@given(side, side, st.integers(1, 200), st.sampled_from(sorted(FILTERS)), st.integers(1, 220))
def test_short_side_resize_and_crop_equal_pillows_single_call(height, width, size, interpolation, crop):
    image = noise(height, width)
    short = min(height, width)
    resized = (int(size * width / short), int(size * height / short))
    if resized[0] * resized[1] > 1_000_000:
        return
    left, top = (round((length - crop) / 2) if length >= crop else -((crop - length) // 2) for length in resized)
    expected = image.resize(resized, FILTERS[interpolation]).crop((left, top, left + crop, top + crop))

    steps = [
        Resize(size=size, interpolation=interpolation, axis_order=ORDER),
        CenterCrop(height=crop, width=crop),
    ]

    assert np.array_equal(prepare(image, steps), np.asarray(expected))


@pytest.mark.parametrize(
    ("width", "height"), [(600, 400), (512, 512), (451, 300), (640, 427), (1920, 1080), (300, 451), (4000, 3000)]
)
def test_the_classic_transform_equals_pillows_single_call_at_usual_sizes(width, height):
    """Where the crop's corners are exact in float32, only what it keeps is resized."""
    image = noise(height, width)
    short = min(height, width)
    resized = (256 * width // short, 256 * height // short)
    left, top = (round((length - 224) / 2) for length in resized)
    steps = [Resize(size=256, interpolation="bicubic", axis_order=ORDER), CenterCrop(height=224, width=224)]

    expected = image.resize(resized, Image.Resampling.BICUBIC).crop((left, top, left + 224, top + 224))

    assert np.array_equal(prepare(image, steps), np.asarray(expected))


@pytest.mark.parametrize(
    ("size", "resized", "window"),
    [
        (600, 384, (80, 304)),  # 25/16: any sixteenth is exact
        (451, 384, (78, 306)),  # 451/384: threes
        (1920, 455, (91, 364)),  # 384/91
        (640, 383, (0, 383)),  # a prime: no corner but the image's own
        (70_000, 65_536, (0, 65_536)),  # 17 bits before the point and 12 behind it
    ],
)
def test_a_window_is_resized_alone_where_its_corners_are_exact(size, resized, window):
    start = sizes.crop_origin(resized, 224)
    kept = (start, start + 224) if resized < 1000 else (1001, 2001)

    assert pillow._exact_window(size, resized, kept) == window


@settings(deadline=None, max_examples=100)
@given(side, side, side, side, st.sampled_from(["bilinear", "bicubic"]))
def test_exact_resize_equals_pillows_single_call(height, width, to_height, to_width, interpolation):
    image = noise(height, width)
    expected = image.resize((to_width, to_height), FILTERS[interpolation])

    steps = [Resize(size=(to_height, to_width), interpolation=interpolation, axis_order=ORDER)]

    assert np.array_equal(prepare(image, steps), np.asarray(expected))


def test_the_order_of_the_passes_shows_in_the_pixels():
    """Otherwise the manifest would not have to state it."""
    image = noise(700, 290)
    first, second = (
        prepare(image, [Resize(size=256, interpolation="bicubic", axis_order=order)])
        for order in ("horizontal_first", "larger_cut_first")
    )

    assert (first != second).mean() > 0.05


@pytest.mark.parametrize(
    ("size", "crop", "origin"),
    [
        (383, 224, 80),  # 79.5: half to even, up
        (385, 224, 80),  # 80.5: half to even, down
        (384, 224, 80),
        (224, 224, 0),
        (20, 31, -5),  # 5.5 in front: floor
        (20, 30, -5),
    ],
)
def test_a_crop_starts_where_torchvision_starts_it(size, crop, origin):
    assert sizes.crop_origin(size, crop) == origin


def test_the_long_side_is_truncated():
    """256 * 640 / 427 = 383.7: rounding gives a crop one pixel off."""
    step = Resize(size=256, interpolation="bilinear", axis_order="horizontal_first")

    assert sizes.resized_size(427, 640, step) == (256, 383)
    assert sizes.resized_size(640, 427, step) == (383, 256)


def test_a_smaller_image_is_padded_with_zeros():
    prepared = prepare(Image.new("RGB", (2, 2), (9, 9, 9)), [CenterCrop(height=4, width=5)])

    assert prepared.shape == (4, 5, 3)
    assert prepared[1:3, 1:3].min() == 9
    assert prepared.sum() == 9 * 4 * 3
