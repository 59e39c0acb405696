"""Comparison of prepared pixels with the user's transform, step by step, on made images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec
import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import helper
from PIL import Image, ImageDraw

from exporter.conversion.to_onnx import OPSET
from exporter.conversion.to_torchscript import script
from exporter.inputs.image import Geometry, PixelFormat, TrainingTransform, geometry_nodes
from runtime.evidence import Row
from runtime.geometry.arrays import Pixels
from runtime.geometry.preparation import prepare
from runtime.manifest import Preprocessing

# (height, width): one pixel, long and tall strips, sides whose halves and thirds round either way, and a whole photo.
SIZES = (
    *((1, 1), (1, 640), (480, 1), (2, 3), (13, 17), (33, 613), (700, 29)),
    *((224, 224), (255, 257), (256, 256), (299, 299), (427, 640), (640, 427), (480, 640), (701, 290), (1080, 1920)),
)
LARGE = (3000, 4000)

_NoiseSource: TypeAlias = Image.Image | Pixels
_Path: TypeAlias = Callable[[_NoiseSource], Pixels]


@dataclass(frozen=True, kw_only=True)
class PixelRow:
    """One path up to one step of the transform: the largest difference in gray levels, and the share that differs."""

    step: str
    path: str
    images: int
    difference: int
    share: float
    worst: str


def compare_pixels(
    reading: TrainingTransform, pixels: PixelFormat, *, sizes: Sequence[tuple[int, int]] = (*SIZES, LARGE)
) -> list[PixelRow]:
    """Return one row per step and path: each execution of ours against the user's transform, on made images."""
    rows = []
    for prefix in reading.prefixes:
        steps = msgspec.structs.replace(reading.steps, geometry=reading.steps.geometry[: prefix.steps])
        for name, path in _paths(steps, pixels).items():
            images, worst, share, worst_image = 0, 0, 0.0, ""
            for image_name, image in made_images(sizes, pixels):
                difference = np.abs(path(image).astype(np.int32) - prefix.pixels(image))
                images += 1
                share = max(share, float((difference > 0).mean()))
                if int(difference.max(initial=0)) > worst:
                    worst, worst_image = int(difference.max()), image_name
            rows.append(
                PixelRow(step=prefix.name, path=name, images=images, difference=worst, share=share, worst=worst_image)
            )
    return rows


def pixel_rows(reading: TrainingTransform, pixels: PixelFormat) -> list[Row]:
    """Return the rows of ``compare_pixels`` as rows of evidence, one group per step."""
    return [
        Row(
            path=row.path,
            device="cpu",
            stage="geometry",
            group=f"made pixels, after {row.step}",
            planned=row.images,
            inputs=row.images,
            fault="value" if row.difference else None,
            finding=f"prepared pixels after {row.step}: expected eager's, got {row.difference} gray levels off"
            if row.difference
            else "",
            worst_input=row.worst,
            unit="gray levels",
            difference=float(row.difference),
            difference_p99=None,
            share=row.share,
            floor=0.0,
            limit=0.0,
        )
        for row in compare_pixels(reading, pixels)
    ]


def made_images(sizes: Sequence[tuple[int, int]], pixels: PixelFormat) -> Iterator[tuple[str, _NoiseSource]]:
    """Yield, of every size, ramps (exact ties at half a level), noise, waves as in photos, and edges as of text."""
    for height, width in sizes:
        y, x = np.mgrid[0:height, 0:width]
        patterns = {
            "ramps": np.stack([x * 2, y * 2 + x, x + y], axis=-1),
            "noise": np.random.default_rng(height * 10_007 + width).integers(0, 256, (height, width, 3)),
            "waves": 127 * np.stack([np.sin(x / 3.1 + y / 7.7), np.cos(x / 17.3), np.sin((x + y) / 29.0)], -1) + 128,
            "text": _text(height, width),
        }
        for pattern, values in patterns.items():
            photo = values.astype(np.int64).astype(np.uint8)
            yield f"{pattern} {height} x {width}", _of_format(photo, pixels)


def _of_format(photo: NDArray[np.uint8], pixels: PixelFormat) -> _NoiseSource:
    if pixels.mode != "bands":
        return Image.fromarray(photo).convert(pixels.mode)
    bands = np.take(photo, np.arange(pixels.channels) % 3, axis=2)
    return bands.astype(np.uint16) * 257 if pixels.dtype == "uint16" else bands


def _text(height: int, width: int) -> NDArray[np.uint8]:
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for row in range(0, height, 14):
        draw.text((row % 23, row), "The quick brown fox jumps over 0123456789 " * (1 + width // 250), fill="black")
    return np.asarray(image)


def _paths(steps: Preprocessing, pixels: PixelFormat) -> dict[str, _Path]:
    session = _session(steps, pixels)
    module = script(Geometry(steps))

    def in_torch(image: _NoiseSource) -> Pixels:
        with torch.no_grad():
            result: Pixels = module(torch.from_numpy(_batch(image).copy()))[0].numpy()
            return result

    def in_onnx(image: _NoiseSource) -> Pixels:
        result: Pixels = session.run(None, {"image": _batch(image)})[0][0]
        return result

    return {
        "model.onnx": in_onnx,
        "runtime": lambda image: prepare(image, steps.geometry),
        "model.torchscript": in_torch,
    }


def _session(steps: Preprocessing, pixels: PixelFormat) -> onnxruntime.InferenceSession:
    wide = pixels.dtype == "uint16"
    kind = onnx.TensorProto.UINT16 if wide else onnx.TensorProto.UINT8
    nodes = geometry_nodes(steps, image="image", pixels="pixels", wide=wide)
    values = [
        helper.make_tensor_value_info(name, kind, ["batch", f"{name}_height", f"{name}_width", channels])
        for name, channels in (("image", pixels.channels), ("pixels", "channels"))
    ]
    graph = helper.make_graph(nodes.nodes, "geometry", values[:1], values[1:], list(nodes.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def _batch(image: _NoiseSource) -> Pixels:
    array = np.asarray(image)
    return (array if array.ndim == 3 else array[:, :, np.newaxis])[np.newaxis]
