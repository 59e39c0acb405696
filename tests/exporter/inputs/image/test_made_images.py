"""Made images: chosen by what they stress in a transform, and never at the cost of minutes."""

import numpy as np
import pytest
from torchvision import transforms

from exporter.inputs.image import GRAY, RGB, Letterbox, PixelFormat, read_transform
from exporter.inputs.image.made_images import LARGE, PATTERNS, SIZES, THOROUGH, Drawing, choose_drawings, sizes_through
from runtime.geometry.sizes import resized_size, vertical_first

TRANSFORMS = {
    "ratio kept": [transforms.Resize(256), transforms.CenterCrop(224)],
    "exact": [transforms.Resize((224, 224))],
    "letterbox": [Letterbox(size=(320, 320))],
    "crop alone": [transforms.CenterCrop(200)],
    "nothing": [],
}


def steps_of(name):
    return read_transform(transforms.Compose([*TRANSFORMS[name], transforms.ToTensor()])).steps


@pytest.mark.parametrize("name", TRANSFORMS)
def test_no_image_is_enlarged_to_many_megapixels(name):
    steps = steps_of(name)
    for drawing in choose_drawings(steps):
        largest = max((height * width for height, width in sizes_through(steps, drawing.size)), default=0)
        assert largest <= max(1_200_000, np.prod(drawing.size))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_photos_beyond_every_usual_threshold_are_among_them(name):
    sizes = {drawing.size for drawing in choose_drawings(steps_of(name))}

    assert (3000, 4000) in sizes
    assert (4200, 1100) in sizes
    assert {(1, 1), (13, 17), (427, 640), (701, 290)} <= sizes


@pytest.mark.parametrize(("name", "strips"), [("exact", True), ("letterbox", True), ("ratio kept", False)])
def test_strips_stand_for_long_rows_where_a_resize_does_not_enlarge_them(name, strips):
    sizes = {drawing.size for drawing in choose_drawings(steps_of(name))}

    assert ((8, 4099) in sizes) == ((4099, 8) in sizes) == strips


@pytest.mark.parametrize("name", ["ratio kept", "exact"])
def test_sizes_on_both_sides_of_the_order_of_the_passes_are_among_them(name):
    steps = steps_of(name)
    step = steps.geometry[0]
    tall = [drawing.size for drawing in choose_drawings(steps) if drawing.size[1] == 300]

    orders = [vertical_first(*size, resized_size(*size, step), step) for size in tall]

    assert orders == [False, True, True]
    height, width = resized_size(*tall[0], step)
    assert abs((tall[0][0] - height) - 2 * (300 - width)) <= 1


def test_every_remainder_of_a_crop_is_among_them():
    steps = steps_of("ratio kept")
    sides = {max(resized_size(*drawing.size, steps.geometry[0])) for drawing in choose_drawings(steps)}

    assert {(side - 224) % 4 for side in sides} == {0, 1, 2, 3}


def test_a_thorough_check_takes_all_of_them_and_more():
    steps = steps_of("ratio kept")
    default, thorough = set(choose_drawings(steps)), set(choose_drawings(steps, thorough=True))

    assert default < thorough
    assert {Drawing(size=size, pattern=pattern) for size in THOROUGH for pattern in PATTERNS} <= thorough
    assert len(choose_drawings(steps, thorough=True)) == len(thorough)
    assert all((*SIZES.values(), *LARGE.values()))


@pytest.mark.parametrize(
    ("pixels", "channels", "dtype"),
    [(RGB, 3, "uint8"), (GRAY, 1, "uint8"), (PixelFormat(mode="bands", channels=5, dtype="uint16"), 5, "uint16")],
)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_images_have_the_format_of_the_input_and_are_the_same_every_time(pixels, channels, dtype, pattern):
    drawing = Drawing(size=(13, 300), pattern=pattern)
    made, again = drawing.draw(pixels), drawing.draw(pixels)

    assert made.array.shape == (13, 300, channels)
    assert made.array.dtype == dtype
    assert np.array_equal(made.array, again.array)
    assert np.array_equal(np.asarray(made.source()).reshape(made.array.shape), made.array)
