"""Three executions of the steps against torchvision itself: no gray level and no pixel off."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms import functional as tv

import exporter
from exporter.inputs.image import (
    Arithmetic,
    Geometry,
    Letterbox,
    OpenCVResize,
    TrainingTransform,
    arithmetic_nodes,
    geometry_nodes,
    read_transform,
)
from runtime.geometry import sizes
from runtime.geometry.preparation import prepare
from runtime.manifest import Resize
from runtime.manifest import SquarePad as SquarePadStep

MODES = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")


def reading_of(*steps: object) -> TrainingTransform:
    """Return the reading of some geometry, closed by the usual arithmetic."""
    tensor = any(isinstance(step, v2.ToImage) for step in steps)
    to_float = v2.ToDtype(torch.float32, scale=True) if tensor else transforms.ToTensor()
    return read_transform(transforms.Compose([*steps, to_float]))


def resize_and_crop(size: object, crop: object, mode: str = "bilinear") -> TrainingTransform:
    return reading_of(transforms.Resize(size, InterpolationMode(mode)), transforms.CenterCrop(crop))


def onnx_function(reading: TrainingTransform, part: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return one part of the preprocessing, as onnxruntime runs its nodes."""
    steps = reading.steps
    if part == "geometry":
        nodes, kind = geometry_nodes(steps, image="x", pixels="y"), onnx.TensorProto.UINT8
    else:
        nodes, kind = arithmetic_nodes(steps, pixels="x", normalized="y"), onnx.TensorProto.FLOAT
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes.nodes,
        part,
        [info("x", onnx.TensorProto.UINT8, ["n", "h", "w", 3])],
        [info("y", kind, ["n", "a", "b", "c"])],
        list(nodes.constants.values()),
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda array: session.run(None, {"x": array})[0]


def scripted(module: torch.nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.jit.script(module)
    return lambda array: compiled(torch.from_numpy(np.array(array))).numpy()


def smooth(height: int, width: int) -> Image.Image:
    """Structure at every scale, as photos have; the residues of the size decide the phase."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [np.sin(x / 3.1 + y / 7.7), np.cos(x / 17.3 - y / 5.9), np.sin((x + y) / 29.0)]
    return Image.fromarray((np.stack(waves, axis=-1) * 127 + 128).astype(np.uint8))


SIZES = [(300, 451), (427, 640), (480, 640), (448, 448), (257, 255), (13, 17), (1, 1), (700, 290), (33, 613), (40, 40)]


def assert_all_three_equal(reading: TrainingTransform, image_sizes: Sequence[tuple[int, int]] = SIZES) -> None:
    """The host, the ONNX nodes and the TorchScript module give the pixels of the user's own transform, bit for bit."""
    in_onnx, in_torch = onnx_function(reading, "geometry"), scripted(Geometry(reading.steps))
    for height, width in image_sizes:
        image = smooth(height, width)
        expected = reading.pixels(image)
        batch = np.asarray(image)[np.newaxis]
        assert expected.shape == (reading.steps.height, reading.steps.width, reading.steps.channels)
        assert np.array_equal(prepare(image, reading.steps.geometry), expected), ("host", height, width)
        assert np.array_equal(in_onnx(batch)[0], expected), ("onnx", height, width)
        assert np.array_equal(in_torch(batch)[0], expected), ("torch", height, width)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("size", "crop"), [(256, 224), (40, 32), ((37, 50), (37, 50)), (32, 45)])
def test_resize_and_crop(size, crop, mode):
    assert_all_three_equal(resize_and_crop(size, crop, mode))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "crop"), [(256, 224), ((37, 50), (37, 50)), (32, 45)])
def test_a_tensor_is_resized_as_torch_does(size, crop, mode):
    """As torchvision's documentation recommends: ToImage first, then resize the uint8 tensor."""
    resize = v2.Resize(size, InterpolationMode(mode), antialias=True)
    assert_all_three_equal(reading_of(v2.ToImage(), v2.ToDtype(torch.uint8, scale=True), resize, v2.CenterCrop(crop)))


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "nearest-exact"])
@pytest.mark.parametrize(("size", "crop"), [(256, 224), ((37, 50), (37, 50)), (32, 45)])
def test_a_tensor_is_resized_without_antialias_as_torch_does(size, crop, mode):
    resize = v2.Resize(size, InterpolationMode(mode), antialias=False)
    assert_all_three_equal(reading_of(v2.ToImage(), resize, v2.CenterCrop(crop)))


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [(37, 50), (224, 224), (9, 640), (320, 240)])
def test_opencv(size, mode):
    assert_all_three_equal(reading_of(OpenCVResize(size=size, interpolation=mode)))


@pytest.mark.parametrize("enlarge", [True, False])
@pytest.mark.parametrize("size", [(320, 320), (97, 201)])
def test_letterbox(size, enlarge):
    assert_all_three_equal(reading_of(Letterbox(size=size, enlarge=enlarge)))


@settings(deadline=None, max_examples=2000)
@given(
    st.integers(1, 6000), st.integers(1, 6000), st.integers(8, 900), st.integers(8, 900), st.sampled_from([0.0, 1.0])
)
def test_a_kept_ratio_is_timms(height, width, to_height, to_width, longest):
    from timm.data.transforms import ResizeKeepRatio

    image = np.broadcast_to(np.zeros((1, 1), np.uint8), (height, width))
    expected = ResizeKeepRatio.get_params(
        torch.from_numpy(np.array([[0]])).expand(height, width)[None], (to_height, to_width), longest
    )
    reading = reading_of(ResizeKeepRatio((to_height, to_width), longest=longest), transforms.CenterCrop(8))

    assert [max(1, side) for side in expected] == list(sizes.resized_size(*image.shape, reading.steps.geometry[0]))
    assert min(sizes.unbounded_size(*image.shape, reading.steps.geometry[0])) == min(expected)


@pytest.mark.parametrize("mode", ["border", "squash", "center"])
@pytest.mark.parametrize("size", [(3, 56, 56), (3, 40, 64)])
def test_timms_crop_modes(mode, size):
    from timm.data import create_transform

    transform = create_transform(
        size, is_training=False, crop_mode=mode, crop_pct=0.9, interpolation="bicubic", mean=(0.5, 0.4, 0.3)
    )
    assert_all_three_equal(read_transform(transform))


def test_torchs_resize_is_not_pillows():
    """Otherwise the manifest would not have to tell them apart."""
    on_pil = reading_of(transforms.Resize(256), transforms.CenterCrop(224))
    on_tensor = reading_of(v2.ToImage(), v2.Resize(256), v2.CenterCrop(224))
    image = smooth(320, 320)
    assert (on_pil.pixels(image) != on_tensor.pixels(image)).mean() > 0.001


def test_max_size_bounds_the_long_side():
    assert_all_three_equal(
        reading_of(transforms.Resize(40, max_size=60), transforms.CenterCrop((40, 60))),
        [(100, 100), (100, 149), (100, 150), (100, 151), (300, 90), (37, 40)],
    )


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
def test_padding(mode):
    pad = transforms.Pad((3, 1, 2, 5), padding_mode=mode)
    assert_all_three_equal(reading_of(transforms.Resize((20, 17)), pad))
    assert_all_three_equal(reading_of(pad, transforms.Resize((20, 17))), [(30, 40), (7, 6)])


def test_a_crop_alone():
    assert_all_three_equal(reading_of(transforms.CenterCrop((50, 31))))
    assert_all_three_equal(reading_of(transforms.Pad(3), transforms.CenterCrop(40), transforms.Pad(2)))


def test_padding_with_a_color():
    assert_all_three_equal(reading_of(transforms.Resize((20, 17)), transforms.Pad(2, fill=(9, 100, 255))))
    assert_all_three_equal(reading_of(transforms.Resize((20, 17)), transforms.Pad((1, 2), fill=7)))


@pytest.mark.parametrize("channels", [1, 3])
def test_grayscale(channels):
    gray = transforms.Grayscale(channels)
    assert_all_three_equal(reading_of(gray, transforms.Resize(40), transforms.CenterCrop(32)))
    assert_all_three_equal(reading_of(transforms.Resize(40), gray, transforms.CenterCrop(45)))


def test_arithmetic_is_torchvisions_to_the_last_bit(photos):
    normalize = transforms.Normalize([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])
    steps = [transforms.Resize(40), transforms.CenterCrop(32), transforms.ToTensor(), normalize]
    reading = read_transform(transforms.Compose(steps))
    expected = reading.transform(photos[0]).numpy()
    pixels = reading.pixels(photos[0])[np.newaxis]

    assert np.array_equal(onnx_function(reading, "arithmetic")(pixels)[0], expected)
    assert np.array_equal(scripted(Arithmetic(reading.steps))(pixels)[0], expected)


def test_a_batch_is_prepared_as_its_images_are():
    reading = resize_and_crop(40, 32)
    batch = np.stack([np.asarray(smooth(60, 90)), np.asarray(smooth(60, 90))[::-1]])
    for function in (onnx_function(reading, "geometry"), scripted(Geometry(reading.steps))):
        together = function(batch)
        assert all(np.array_equal(together[row], function(batch[row : row + 1])[0]) for row in range(2))


@settings(deadline=None, max_examples=5000)
@given(st.integers(1, 6000), st.integers(1, 6000), st.integers(1, 600), st.integers(1, 600), st.integers(1, 900))
def test_size_and_position_are_torchvisions(height, width, size, crop, more):
    """torchvision's own functions, asked about images too large to make."""
    for max_size in (None, size + more):
        step = Resize(size=size, interpolation="bilinear", axis_order="horizontal_first", max_size=max_size)
        resized = sizes.resized_size(height, width, step)
        expected = tv._compute_resized_output_size((height, width), [size], max_size)
        assert [max(1, side) for side in expected] == list(resized)
        assert list(sizes.unbounded_size(height, width, step)) == expected
    if crop <= resized[0]:
        assert sizes.crop_origin(resized[0], crop) == int(round((resized[0] - crop) / 2.0))  # noqa: RUF046


_FUNCTIONS: dict[
    str, tuple[TrainingTransform, Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]
] = {}


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 120), st.integers(1, 120), st.sampled_from(MODES), st.integers(0, 2**32 - 1))
def test_every_residue_on_noise_and_ramps(height, width, mode, seed):
    """Ramps are made of exact ties at half a level; a crop that starts a pixel off differs everywhere."""
    if mode not in _FUNCTIONS:
        reading = resize_and_crop(20, 17, mode)
        _FUNCTIONS[mode] = (reading, onnx_function(reading, "geometry"), scripted(Geometry(reading.steps)))
    reading, in_onnx, in_torch = _FUNCTIONS[mode]
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(seed).integers(0, 256, (height, width))
    array = np.stack([x * 2, y * 2 + x, noise], axis=-1).astype(np.uint8)
    expected = reading.pixels(Image.fromarray(array))
    assert np.array_equal(prepare(Image.fromarray(array), reading.steps.geometry), expected)
    assert np.array_equal(in_onnx(array[np.newaxis])[0], expected)
    assert np.array_equal(in_torch(array[np.newaxis])[0], expected)


@pytest.mark.parametrize(
    "settings_of",
    [
        {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": {"height": 33, "width": 31}},
        {"size": {"shortest_edge": 30}, "resample": 3, "do_center_crop": True, "crop_size": 35},
        {"size": {"height": 24, "width": 29}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]},
        {"size": {"height": 24, "width": 29}, "do_normalize": False},
    ],
)
@pytest.mark.parametrize("backend", ["", ":pil"])
def test_a_hugging_face_processor(settings_of, backend, tmp_path, photos):
    from transformers import ViTImageProcessor

    ViTImageProcessor(**settings_of).save_pretrained(tmp_path)
    name = f"{tmp_path / 'preprocessor_config.json'}{backend}"
    reading = read_transform(name)

    assert reading.steps.geometry[0].implementation == ("pillow" if backend else "torch")
    assert_all_three_equal(reading, [(100, 149), (101, 100), (41, 60), (13, 17), (300, 90)])
    expected = reading.transform(photos[0]).numpy()
    pixels = reading.pixels(photos[0])[np.newaxis]
    assert np.abs(onnx_function(reading, "arithmetic")(pixels)[0] - expected).max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "lanczos"])
def test_extreme_images(mode):
    assert_all_three_equal(resize_and_crop(64, 56, mode), [(3000, 4000), (2, 2000), (2000, 3), (1, 2)])


class SquarePad:
    """A class of a user's own, as forums have it; ``ceil`` puts the odd pixel before the image."""

    def __init__(self, fill: object = 0, *, ceil: bool = False) -> None:
        self.fill, self.ceil = fill, ceil

    def __call__(self, image: Image.Image) -> Image.Image:
        rows, columns = (max(image.size) - length for length in (image.height, image.width))
        top, left = ((rows + self.ceil) // 2, (columns + self.ceil) // 2)
        return tv.pad(image, (left, top, columns - left, rows - top), self.fill, "constant")


@pytest.mark.parametrize("pad", [SquarePad(), SquarePad((9, 100, 255)), SquarePad(128, ceil=True)])
def test_padding_to_a_square_by_the_users_own_class(pad):
    reading = reading_of(pad, transforms.Resize((20, 20)))

    assert type(reading.steps.geometry[0]) is SquarePadStep
    assert_all_three_equal(reading, [(30, 41), (41, 30), (7, 7), (20, 1)])


def test_what_leaves_images_as_they_are_is_no_step():
    reading = reading_of(transforms.Lambda(lambda image: image.convert("RGB")), transforms.Resize((20, 17)))

    assert len(reading.steps.geometry) == 1
    assert_all_three_equal(reading)


@pytest.mark.parametrize("function", [np.array, lambda image: np.asarray(image)])
def test_what_makes_arrays_of_images_is_no_step(function):
    reading = reading_of(transforms.Resize((20, 17)), function)

    assert len(reading.steps.geometry) == 1
    assert_all_three_equal(reading)


def test_gray_by_the_users_own_function():
    assert reading_of(lambda image: image.convert("L")).steps.channels == 1
    assert_all_three_equal(reading_of(lambda image: image.convert("L").convert("RGB"), transforms.CenterCrop(40)))


@pytest.mark.parametrize(
    "step",
    [
        lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        lambda image: image.crop((0, 0, image.width // 2, image.height)),
        lambda image: tv.pad(image, [max(image.size) - image.width, max(image.size) - image.height, 0, 0]),
        lambda image: np.asarray(image)[::-1],
        lambda image: np.asarray(image, dtype=np.float32),
        lambda image: image.point(lambda level: level * 2),
    ],
)
def test_other_functions_of_images_are_refused(step):
    with pytest.raises(exporter.PreprocessingError, match="step 1 of 2, 'function': cannot be folded in"):
        reading_of(step)
