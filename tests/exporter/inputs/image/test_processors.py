"""transformers' image processors: what is read off their settings gives their own pixels, on both backends."""

import json
from pathlib import Path

import numpy as np
import pytest
import transformers
from PIL import Image
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

import exporter
from exporter.backends.registry import geometry_executions
from exporter.inputs.image import RGB, TrainingTransform, read_transform
from exporter.inputs.image.made_images import Drawing, drawings_of
from exporter.inputs.image.pixel_check import PixelCheck, compare_pixels
from exporter.inputs.image.processors import PROCESSORS
from runtime.geometry.preparation import prepare

SIZES = ((61, 44), (44, 61), (97, 150), (150, 97), (13, 17), (1, 1), (7, 40), (300, 90), (64, 64))

COLORS = (np.random.default_rng(0).random((32, 3)) * 2 - 1).tolist()

# By class: its settings, small ones, so that every rounding occurs.
CASES: dict[str, list[dict[str, object]]] = {
    "BeitImageProcessor": [{"size": 24, "do_center_crop": True, "crop_size": {"height": 19, "width": 21}}],
    "BitImageProcessor": [{"size": {"shortest_edge": 26}, "crop_size": 21}],
    "CLIPImageProcessor": [{"size": {"shortest_edge": 24}, "crop_size": 24}],
    "ConvNextImageProcessor": [
        {"size": {"shortest_edge": 29}, "crop_pct": 0.8},
        {"size": {"shortest_edge": 384}},
        {"size": {"shortest_edge": 33}, "do_center_crop": True, "crop_size": 30},
    ],
    "DeiTImageProcessor": [{"size": {"height": 25, "width": 31}, "crop_size": 22}, {"size": 20, "crop_size": 27}],
    "DonutImageProcessor": [
        {"size": {"height": 40, "width": 30}},
        {"size": {"height": 31, "width": 31}},
        {"size": {"height": 30, "width": 47}},
    ],
    "EfficientNetImageProcessor": [
        {"size": 24, "resample": 0},
        {"size": 24, "rescale_offset": True, "rescale_factor": 1 / 127.5, "include_top": False},
        {"size": 24, "rescale_offset": True, "rescale_factor": 1 / 127.5},
        {"size": 24, "do_rescale": False, "image_mean": 0.5, "image_std": 0.25},
    ],
    "ImageGPTImageProcessor": [
        {"size": 24, "clusters": COLORS},
        {"size": 24, "clusters": COLORS, "do_color_quantize": False, "image_mean": 0.4},
    ],
    "LevitImageProcessor": [
        {"size": {"shortest_edge": 25}, "crop_size": 24},
        {"size": {"height": 25, "width": 23}, "crop_size": 20},
    ],
    "MobileNetV1ImageProcessor": [{"size": {"shortest_edge": 26}, "crop_size": 21}],
    "MobileNetV2ImageProcessor": [{"size": {"shortest_edge": 26}, "crop_size": 21}],
    "MobileViTImageProcessor": [
        {"size": {"shortest_edge": 24}, "crop_size": 31},
        {"size": {"shortest_edge": 24}, "crop_size": 21, "do_flip_channel_order": False, "do_normalize": True},
    ],
    "PPLCNetImageProcessor": [
        {"resize_short": 26, "crop_size": 21},
        {"resize_short": 25, "size_divisor": 8, "crop_size": 24},
        {"resize_short": 25, "size_divisor": 8, "do_center_crop": False},
    ],
    "PerceiverImageProcessor": [
        {"size": {"height": 28, "width": 28}, "crop_size": {"height": 32, "width": 32}},
        {"size": {"height": 25, "width": 21}, "crop_size": {"height": 27, "width": 29}},
    ],
    "PoolFormerImageProcessor": [
        {"size": {"shortest_edge": 25}, "crop_size": 24},
        {"size": {"height": 25, "width": 25}, "crop_size": 24, "crop_pct": 0.8},
        {"size": {"height": 25, "width": 21}, "crop_size": 20},
    ],
    "PvtImageProcessor": [{"size": 24, "image_mean": 0.5, "image_std": 0.5}],
    "SegformerImageProcessor": [{"size": 24, "do_center_crop": True, "crop_size": 20, "do_reduce_labels": True}],
    "SiglipImageProcessor": [{"size": {"height": 24, "width": 20}, "do_normalize": False}],
    "TextNetImageProcessor": [{"size": {"shortest_edge": 30}, "size_divisor": 8}, {"size": {"shortest_edge": 32}}],
    "ViTImageProcessor": [
        {"size": 24, "image_mean": 0.5, "image_std": 0.5},
        {"size": 24, "do_rescale": False},
        {"size": 24, "do_resize": False},
        {"size": 24, "resample": 0, "rescale_factor": 1 / 127.5},
    ],
}


def read(folder: Path, name: str, settings: dict[str, object], backend: str = "") -> TrainingTransform:
    """Return the reading of a file with a processor's settings."""
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": name, **settings}))
    return read_transform(f"{folder / 'preprocessor_config.json'}{backend}")


def images(smallest: int) -> list[Image.Image]:
    return [Drawing(size=size, pattern="noise").draw(RGB).source() for size in SIZES if min(size) >= smallest]


@pytest.mark.parametrize("backend", ["", ":pil"])
@pytest.mark.parametrize(("name", "settings"), [(name, case) for name, cases in CASES.items() for case in cases])
def test_the_steps_give_the_processors_own_pixels_and_values(name, settings, backend, tmp_path):
    if backend and not hasattr(transformers, f"{name}Pil"):
        pytest.skip("transformers has it on torchvision alone")
    reading = read(tmp_path, name, settings, backend)

    smallest = 2 if PROCESSORS.get(name, PROCESSORS["BeitImageProcessor"]).crops_first else 1
    for image in images(smallest):
        expected = reading.pixels(image)
        assert np.array_equal(prepare(image, reading.steps.geometry), expected), (image.size, reading.describe())
        assert reading.transform(image).numel() in (expected.size, expected.size // 3)


def test_every_class_with_steps_of_its_own_is_compared():
    assert PROCESSORS.keys() <= CASES.keys()


def test_the_processors_of_image_classifiers_are_read():
    """Those that are not say why: see the messages below."""
    classes = {
        (IMAGE_PROCESSOR_MAPPING_NAMES.get(name) or {}).get("torchvision")
        for name in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    }

    assert classes - CASES.keys() == {None, "Gemma3ImageProcessor", "Siglip2ImageProcessor"}


@pytest.mark.parametrize("backend", ["", ":pil"])
def test_images_arrays_onnx_and_torchscript_agree(backend, tmp_path):
    """The sizes that only transformers computes, in all executions."""
    for name in ("TextNetImageProcessor", "DonutImageProcessor", "PerceiverImageProcessor", "MobileViTImageProcessor"):
        reading = read(tmp_path, name, CASES[name][0], backend)
        check = PixelCheck(reading=reading, pixels=RGB, executions=geometry_executions())
        rows = compare_pixels(check.step_tests(reading.prefixes), RGB, drawings_of(SIZES[:5]))

        assert {row.path for row in rows} == {"model.onnx", "runtime", "model.torchscript"}
        assert not [(name, row) for row in rows if row.difference or row.fault is not None]


@pytest.mark.parametrize(
    ("name", "settings", "problem"),
    [
        (
            "ViTImageProcessor",
            {"size": {"shortest_edge": 9, "longest_edge": 20}},
            r"'size' cannot be folded in: ",
        ),
        ("ViTImageProcessor", {"size": 9, "do_pad": True, "pad_size": 12}, "'do_pad' cannot be folded in"),
        (
            "ViTImageProcessor",
            {"size": 9, "image_mean": [0.5, 0.5]},
            "ViTImageProcessor fails on an image",
        ),
        ("ViTImageProcessor", {"size": 9, "do_center_crop": True}, "ViTImageProcessor fails on an image"),
        ("ConvNextImageProcessor", {"size": {"height": 9, "width": 9}}, "ConvNextImageProcessor fails on an image"),
        ("DonutImageProcessor", {"size": [30, 40], "do_align_long_axis": True}, "'do_align_long_axis' turns images"),
        ("DonutImageProcessor", {"size": [30, 40], "do_thumbnail": False, "do_pad": False}, ""),
    ],
)
def test_what_cannot_be_followed_is_said_with_the_way_on(name, settings, problem, tmp_path):
    if not problem:
        read(tmp_path, name, settings)
        return
    with pytest.raises(exporter.PreprocessingError, match=problem) as refused:
        read(tmp_path, name, settings)
    assert "--preprocess" in str(refused.value)


def test_a_release_that_does_otherwise_is_refused(tmp_path, monkeypatch):
    """The settings are the same, the pixels are not."""
    monkeypatch.setattr(
        transformers.LevitImageProcessor, "resize", transformers.image_processing_backends.TorchvisionBackend.resize
    )
    with pytest.raises(exporter.PreprocessingError, match="'LevitImageProcessor' does otherwise than its settings say"):
        read(tmp_path, "LevitImageProcessor", {"size": {"shortest_edge": 25}, "crop_size": 24})
