"""Prepared pixels against the user's own transform, step by step, on images where rounding matters."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from exporter.inputs.image import PixelFormat, TrainingTransform
from runtime.evidence import Row
from runtime.geometry.arrays import Pixels
from runtime.manifest import Preprocessing

# (height, width): one pixel, long and tall strips, sides whose halves and thirds round either way, and a whole photo.
SIZES = (
    *((1, 1), (1, 640), (480, 1), (2, 3), (13, 17), (33, 613), (700, 29)),
    *((224, 224), (255, 257), (256, 256), (299, 299), (427, 640), (640, 427), (480, 640), (701, 290), (1080, 1920)),
)
LARGE = (3000, 4000)

PixelSource: TypeAlias = Image.Image | Pixels

# From the steps and the pixel format to one form's own execution of the geometry, for a decoded image.
GeometryFunction: TypeAlias = Callable[[PixelSource], Pixels]
GeometryExecution: TypeAlias = Callable[[Preprocessing, PixelFormat], GeometryFunction]


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
    reading: TrainingTransform,
    pixels: PixelFormat,
    executions: Mapping[str, GeometryExecution],
    *,
    sizes: Sequence[tuple[int, int]] = (*SIZES, LARGE),
) -> list[PixelRow]:
    """Return one row per step and path: the user's transform on generated images, against each of our executions."""
    rows = []
    for prefix in reading.prefixes:
        steps = msgspec.structs.replace(reading.steps, geometry=reading.steps.geometry[: prefix.steps])
        for name, execution in executions.items():
            prepare = execution(steps, pixels)
            images, worst, share, worst_image = 0, 0, 0.0, ""
            for image_name, image in made_images(sizes, pixels):
                difference = np.abs(prepare(image).astype(np.int32) - prefix.pixels(image))
                images += 1
                share = max(share, float((difference > 0).mean()))
                if int(difference.max(initial=0)) > worst:
                    worst, worst_image = int(difference.max()), image_name
            rows.append(
                PixelRow(step=prefix.name, path=name, images=images, difference=worst, share=share, worst=worst_image)
            )
    return rows


def pixel_rows(
    reading: TrainingTransform, pixels: PixelFormat, executions: Mapping[str, GeometryExecution]
) -> list[Row]:
    """Return what ``compare_pixels`` finds as rows of evidence, one group per step."""
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
        for row in compare_pixels(reading, pixels, executions)
    ]


def made_images(sizes: Sequence[tuple[int, int]], pixels: PixelFormat) -> Iterator[tuple[str, PixelSource]]:
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


def _of_format(photo: NDArray[np.uint8], pixels: PixelFormat) -> PixelSource:
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
