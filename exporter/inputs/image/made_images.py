"""Made images for the pixel check: sizes by what they stress, and patterns where rounding shows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from exporter.inputs.image.pixel_format import PixelFormat
from runtime.geometry.arrays import Pixels
from runtime.geometry.registry import STEPS
from runtime.geometry.sizes import PreparedShape, resized_size, vertical_first
from runtime.manifest import CenterCrop, Preprocessing, Resize, ShareCrop

PixelSource: TypeAlias = Image.Image | Pixels

Size: TypeAlias = tuple[int, int]  # (height, width)

PATTERNS = ("ramps", "noise", "waves", "text")

# What each size is for.
SIZES: Mapping[Size, str] = {
    (1, 1): "every window is clamped on both sides, and a crop pads on four",
    (1, 7): "a row: vertical windows are clamped alone",
    (7, 1): "a column: horizontal windows are clamped alone",
    (2, 3): "enlarged so far that many outputs share a window",
    (13, 17): "smaller than usual crops, by odd numbers: padding that is one more on one side",
    (61, 640): "a wide strip: more than 2,048 columns once its short side is 256",
    (640, 61): "a tall strip: the same for rows",
    (224, 224): "the usual crop: nothing is cut",
    (255, 257): "a pixel off the usual size: nearly no scaling, hence windows of all phases",
    (256, 256): "the usual size: a pass that changes nothing is left out",
    (299, 299): "the other usual size",
    (427, 640): "the long side is 383.7 (truncated or rounded?), the crop begins at 79.5 (half to even?)",
    (640, 427): "the same for rows",
    (480, 640): "simple fractions, whose products end on half a gray level",
    (701, 290): "cut to less than half: Pillow 13 resizes rows first",
}

# Beyond a megapixel and what tables, bands and copies are usually limited to. Only noise is drawn: it shows any weight.
LARGE: Mapping[Size, str] = {
    (3000, 4000): "a phone's photo, 12 megapixels: weights past column 2,048, columns first",
    (4200, 1100): "a tall panorama, more than 4,096 rows: rows first",
    (8, 4099): "a strip that has every weight of a long row, at a hundredth of a photo's cost",
    (4099, 8): "the same for rows",
}

# Sizes of a thorough check besides: in all patterns; and, as noise, more than the host copies for its kernel.
THOROUGH: Sequence[Size] = ((1, 640), (480, 1), (33, 613), (700, 29), (1080, 1920), (3000, 4000))
THOROUGH_LARGE: Sequence[Size] = ((4000, 4100),)

# The photo that is encoded and decoded: more than the fast decoders' usual thresholds.
ENCODED: Size = (1700, 2500)

# A size is left out where a transform would enlarge it beyond this many times what it makes of a usual photo: of an
# image of 8 x 4099, Resize(256) makes 34 megapixels that a crop then drops. Large photos cost less.
_USUAL: Size = (480, 640)
_LARGEST_GROWTH = 12

# The width that the order of the passes is tried with, and the largest height.
_ORDER_WIDTH, _ORDER_HEIGHT = 300, 1500

# The short side of images whose long side leaves each remainder of a crop, and how much longer that is tried.
_RESIDUE_SIDE, _LONGEST_OF_RESIDUES = 97, 120


@dataclass(frozen=True, kw_only=True)
class MadeImage:
    """One made image: ``array`` is what a decoder gives, [height, width, channels]."""

    name: str
    array: Pixels
    pixels: PixelFormat

    def source(self) -> PixelSource:
        """Return the image as the user's transform takes it."""
        if self.pixels.mode == "bands":
            return self.array
        return Image.fromarray(self.array if self.pixels.mode == "RGB" else self.array[:, :, 0])


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A made image that is not drawn yet."""

    size: Size
    pattern: str

    @property
    def name(self) -> str:
        """What the report calls the image."""
        return f"{self.pattern} {self.size[0]} x {self.size[1]}"

    def draw(self, pixels: PixelFormat) -> MadeImage:
        """Return the image."""
        height, width = self.size
        photo = _PATTERNS[self.pattern](height, width)
        return MadeImage(name=self.name, array=_of_format(photo, pixels), pixels=pixels)


def choose_drawings(steps: Preprocessing, *, thorough: bool = False) -> list[Drawing]:
    """Return the images that show each fault of a geometry; ``thorough`` adds those that cost minutes."""
    affordable = [size for size in SIZES if _is_affordable(steps, size, thorough=thorough)]
    derived = [size for size in (*_sizes_of_pass_order(steps), *_sizes_of_residues(steps)) if size not in SIZES]
    large = [size for size in LARGE if _is_affordable(steps, size)]
    more = THOROUGH_LARGE if thorough else ()
    drawings = [
        *drawings_of([*affordable, *(THOROUGH if thorough else ())]),
        *(Drawing(size=size, pattern="noise") for size in (*derived, *large, *more)),
    ]
    return list(dict.fromkeys(drawings))


def drawings_of(sizes: Sequence[Size]) -> list[Drawing]:
    """Return images of all patterns."""
    return [Drawing(size=size, pattern=pattern) for size in sizes for pattern in PATTERNS]


def sizes_through(steps: Preprocessing, size: Size) -> Iterator[Size]:
    """Yield the size of an image after each step."""
    for step in steps.geometry:
        if isinstance(step, Resize):
            size = resized_size(*size, step)
        else:
            shape = PreparedShape(size=size, channels=steps.channels)
            size = STEPS[type(step)].shape_after(shape, step).size or size
        yield size


def _is_affordable(steps: Preprocessing, size: Size, *, thorough: bool = False) -> bool:
    """Return whether no step makes much more of an image than of a usual one, unless it was as large before.

    Nor does a crop leave nothing of it, which transformers fails for.
    """
    shares = [share for step in steps.geometry if isinstance(step, ShareCrop) for share in (step.height, step.width)]
    if any(share * min(size) < 1 for share in shares):
        return False
    if thorough:
        return True
    usual, largest = (
        max((height * width for height, width in sizes_through(steps, image)), default=0) for image in (_USUAL, size)
    )
    return largest <= max(_LARGEST_GROWTH * usual, size[0] * size[1])


def _sizes_of_pass_order(steps: Preprocessing) -> Iterator[Size]:
    """Yield the sizes around which Pillow begins to resize rows first."""
    first = next((step for step in steps.geometry if isinstance(step, Resize)), None)
    if first is None or first.implementation != "pillow":
        return
    width = _ORDER_WIDTH
    # By the rule that Pillow 13 follows, whatever the manifest says.
    rule = msgspec.structs.replace(first, axis_order="larger_cut_first")
    for height in range(2, _ORDER_HEIGHT):
        orders = [vertical_first(tall, width, resized_size(tall, width, rule), rule) for tall in (height - 1, height)]
        if orders[0] != orders[1]:
            yield from ((height - 1, width), (height, width), (height + 1, width))
            return


def _sizes_of_residues(steps: Preprocessing) -> Iterator[Size]:
    """Yield sizes whose long side, before the last crop, leaves each remainder by 4: halves are rounded to even.

    A band of the graph's loop is 16 pixels: without a crop, the last ones are cut at different lengths.
    """
    crop = next((index for index, step in enumerate(steps.geometry) if isinstance(step, CenterCrop)), None)
    left = {0, 1, 2, 3}
    for longer in range(_LONGEST_OF_RESIDUES):
        size = (_RESIDUE_SIDE, _RESIDUE_SIDE + longer)
        before = [size, *sizes_through(steps, size)][-1 if crop is None else crop]
        if before[1] % 4 in left:
            left.discard(before[1] % 4)
            yield from (size, size[::-1])


def _of_format(photo: NDArray[np.uint8], pixels: PixelFormat) -> Pixels:
    if pixels.mode == "RGB":
        return photo
    if pixels.mode == "L":
        return np.asarray(Image.fromarray(photo).convert("L"))[:, :, np.newaxis]
    bands = np.take(photo, np.arange(pixels.channels) % 3, axis=2)
    return bands.astype(np.uint16) * 257 if pixels.dtype == "uint16" else bands


def _ramps(height: int, width: int) -> NDArray[np.uint8]:
    """Return ramps, whose mixtures are often exactly half a gray level."""
    y, x = (np.arange(size).astype(np.uint8) for size in (height, width))
    column = y[:, np.newaxis]
    return np.stack(np.broadcast_arrays(column * 0 + x * 2, column * 2 + x, column + x), axis=-1)


def _noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height * 10_007 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _waves(height: int, width: int) -> NDArray[np.uint8]:
    """Return waves as in photos."""
    y, x = np.arange(height, dtype=np.float32)[:, np.newaxis], np.arange(width, dtype=np.float32)
    waves = np.empty((height, width, 3), dtype=np.uint8)
    # Waves across both axes are products of waves along each: no sine for every pixel.
    for channel, (along_x, along_y) in enumerate(((x / 3.1, y / 7.7), (x / 17.3, y * 0), (x / 29.0, y / 29.0))):
        wave = np.sin(along_x) * (127 * np.cos(along_y)) + np.cos(along_x) * (127 * np.sin(along_y))
        waves[:, :, channel] = wave + 128
    return waves


def _text(height: int, width: int) -> NDArray[np.uint8]:
    """Return the edges of letters."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for row in range(0, height, 14):
        draw.text((row % 23, row), "The quick brown fox jumps over 0123456789 " * (1 + width // 250), fill="black")
    return np.asarray(image)


_PATTERNS = {"ramps": _ramps, "noise": _noise, "waves": _waves, "text": _text}
