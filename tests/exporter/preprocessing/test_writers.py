"""The ONNX nodes and the TorchScript module against torchvision on PIL images: sizes exact, pixels within a level."""

import warnings
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from exporter.preprocessing import Arithmetic, Geometry, Reading, arithmetic_nodes, geometry_nodes, read_transform
from runtime import geometry
from runtime.manifest import Resize

MODES = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


def reading_of(size: object, crop: object, mode: str = "bilinear") -> Reading:
    steps = [transforms.Resize(size, MODES[mode]), transforms.CenterCrop(crop), transforms.ToTensor()]
    return read_transform(transforms.Compose([*steps, transforms.Normalize([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])]))


def onnx_function(reading: Reading, part: str) -> Callable[[np.ndarray], np.ndarray]:
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


SIZES = [(300, 451), (427, 640), (640, 427), (333, 500), (257, 255), (13, 17), (1, 1), (700, 290), (160, 613), (40, 40)]


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "crop"), [(256, 224), (40, 32), ((37, 50), (37, 50)), (32, 45)])
def test_both_writers_follow_torchvision_on_pil_images(size, crop, mode):
    reading = reading_of(size, crop, mode)
    in_onnx, in_torch = onnx_function(reading, "geometry"), scripted(Geometry(reading.steps))
    differing = {"onnx": [], "torch": []}
    for height, width in SIZES:
        image = smooth(height, width)
        expected = reading.pixels(image).astype(np.int16)
        batch = np.asarray(image)[np.newaxis]
        for name, function, levels in (("onnx", in_onnx, 1), ("torch", in_torch, 2)):
            actual = function(batch)[0]
            assert actual.shape == expected.shape, (name, height, width)
            difference = np.abs(actual - expected)
            assert difference.max() <= levels, (name, height, width)
            differing[name].append((difference > 0).mean())
        assert np.array_equal(geometry.prepare(image, reading.steps.geometry), expected), (height, width)
    assert np.mean(differing["onnx"]) <= 0.005
    assert np.mean(differing["torch"]) <= 0.01


def test_arithmetic_is_torchvisions_to_the_last_bit(photos):
    reading = reading_of(40, 32)
    expected = reading.transform(photos[0]).numpy()
    pixels = reading.pixels(photos[0])[np.newaxis]

    assert np.array_equal(onnx_function(reading, "arithmetic")(pixels)[0], expected)
    assert np.array_equal(scripted(Arithmetic(reading.steps))(pixels)[0], expected)


def test_a_batch_is_prepared_as_its_images_are():
    reading = reading_of(40, 32)
    batch = np.stack([np.asarray(smooth(60, 90)), np.asarray(smooth(60, 90))[::-1]])
    for function in (onnx_function(reading, "geometry"), scripted(Geometry(reading.steps))):
        together = function(batch)
        assert all(np.array_equal(together[row], function(batch[row : row + 1])[0]) for row in range(2))


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 6000), st.integers(1, 6000), st.integers(1, 600), st.integers(1, 600))
def test_size_and_position_are_torchvisions(height, width, size, crop):
    """torchvision's own functions, asked about images too large to make."""
    step = Resize(size=size, interpolation="bilinear", axis_order="horizontal_first")
    resized = geometry.resized_size(height, width, step)
    assert list(resized) == tv._compute_resized_output_size((height, width), [size])
    if crop <= resized[0]:
        assert geometry.crop_origin(resized[0], crop) == int(round((resized[0] - crop) / 2.0))  # noqa: RUF046


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([(17, 14), (20, 27), (9, 9)]))
def test_every_residue_gives_the_same_crop(height, width, sizes):
    """A crop that starts a pixel off shows as a whole image of differences on a steep ramp."""
    reading = reading_of(*sizes)
    y, x = np.mgrid[0:height, 0:width]
    image = Image.fromarray(np.stack([x * 2, y * 2, (x + y)], axis=-1).astype(np.uint8))
    expected = reading.pixels(image).astype(np.int16)
    assert np.array_equal(geometry.prepare(image, reading.steps.geometry), expected)
    key = tuple(sizes)
    if key not in _SESSIONS:
        _SESSIONS[key] = onnx_function(reading, "geometry")
    # A ramp is made of exact ties at half a level, which float32 weights may break the other way in both passes.
    assert np.abs(_SESSIONS[key](np.asarray(image)[np.newaxis])[0] - expected).max() <= 2


_SESSIONS: dict[tuple[int, ...], Callable[[np.ndarray], np.ndarray]] = {}
