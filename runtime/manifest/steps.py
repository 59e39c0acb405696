"""Preprocessing steps of images."""

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, UnsetType

from runtime.manifest.parts import MAX_SIDE, Channels, Fill, Margin, Part, PerChannel, Side

Interpolation: TypeAlias = Literal["nearest", "nearest_exact", "box", "bilinear", "hamming", "bicubic", "lanczos"]
AxisOrder: TypeAlias = Literal["horizontal_first", "larger_cut_first"]


class KeepRatio(Part, frozen=True, kw_only=True):
    """A size that keeps the aspect ratio: the largest one ``inside`` a box, or the smallest one ``outside`` it.

    Both sides are rounded half to even: of ``side / ratio`` as timm's ResizeKeepRatio computes them, or of ``side *
    ratio`` as Ultralytics' LetterBox does. Or, as transformers' thumbnails (``long_side``), the image's longer side is
    cut to the box, and the other follows, truncated. Without ``enlarge`` smaller images stay as they are.
    """

    height: Side
    width: Side
    side: Literal["inside", "outside"]
    arithmetic: Literal["divide", "multiply", "long_side"]
    enlarge: bool = True


class Resize(Part, frozen=True, kw_only=True, tag="resize", tag_field="step"):
    """A resize of uint8 pixels.

    ``size`` is an exact ``(height, width)``; or the length of the short side, the long side following the aspect ratio
    (truncated, as torchvision does) up to ``max_size``; or a box that the image is fitted to. ``axis_order`` states
    which of the two one-axis passes comes first: Pillow rounds to uint8 between them, so the order shows in the pixels.
    Up to Pillow 12 the horizontal pass is always first; since Pillow 13 the vertical one is, where it removes more than
    twice as many rows as the other removes columns.

    ``implementation`` is Pillow's, for transforms of PIL images, with weights in 22 bits; or torch's, for transforms of
    uint8 tensors, which fits the largest weight into 15 bits; or OpenCV's, with weights in 11 bits. All are followed to
    the last bit. Without ``antialias``, as OpenCV always does it, two pixels along each axis are mixed, however many
    lie between them. Both sides are rounded up to a multiple of ``multiple``, where there is one.
    """

    size: int | tuple[Side, Side] | KeepRatio
    interpolation: Interpolation
    axis_order: AxisOrder
    max_size: Side | None = None
    implementation: Literal["pillow", "torch", "opencv"] = "pillow"
    antialias: bool = True
    multiple: Side | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Bound the short side: msgspec 0.22 crashes where a union of bounded numbers and pairs makes its schema."""
        if isinstance(self.size, int) and not 1 <= self.size <= MAX_SIDE:
            raise ValueError(f"Expected a size from 1 to {MAX_SIDE}, got {self.size}")


class CenterCrop(Part, frozen=True, kw_only=True, tag="center_crop", tag_field="step"):
    """The middle ``height x width`` pixels; smaller images are padded with ``fill``, one value or one per channel.

    Where an odd number of pixels is cut, ``rounding`` says on which side one more is: torchvision rounds the
    start half to even, transformers down. Where an odd number is padded, the extra pixel follows the image; with
    ``floor``, as transformers has it on Pillow, the start is rounded down in both, and the extra pixel precedes it.
    """

    height: Side
    width: Side
    rounding: Literal["half_even", "down", "floor"] = "half_even"
    fill: Fill = (0,)


class ShareCrop(Part, frozen=True, kw_only=True, tag="share_crop", tag_field="step"):
    """The middle of an image: ``height`` and ``width`` are shares of its short side, truncated to at least one pixel.

    Where an odd number of pixels is cut, the start is rounded down.
    """

    height: Annotated[float, Meta(gt=0, le=1)]
    width: Annotated[float, Meta(gt=0, le=1)]


class ToFloat(Part, frozen=True, kw_only=True, tag="to_float", tag_field="step"):
    """uint8 pixels to float32 by division."""

    divisor: Annotated[float, Meta(gt=0)]


class Normalize(Part, frozen=True, kw_only=True, tag="normalize", tag_field="step"):
    """``(x - mean) / std``, one value per channel, in the units that the step before leaves."""

    mean: PerChannel
    std: PerChannel


class Standardize(Part, frozen=True, kw_only=True, tag="standardize", tag_field="step"):
    """``(x - mean) / (deviation + epsilon)`` by an image's own mean and standard deviation.

    Those of all its values, or of each channel alone; ``unbiased`` divides by one less than their number, as torch does
    by default and numpy does not.
    """

    per: Literal["image", "channel"]
    unbiased: bool
    epsilon: Annotated[float, Meta(ge=0)]


class ChannelOrder(Part, frozen=True, kw_only=True, tag="channel_order", tag_field="step"):
    """Channels by their indices: ``(2, 1, 0)`` makes BGR of RGB, ``(0, 0, 0)`` three channels of gray."""

    order: tuple[int, ...]


class NearestColor(Part, frozen=True, kw_only=True, tag="nearest_color", tag_field="step"):
    """Whole numbers [pixels] in place of an image: for each pixel, row by row, the index of the nearest color.

    ``colors`` have three values each, in the units that the step before leaves; of equal distances the first counts.
    It is the last step.
    """

    colors: Annotated[tuple[tuple[float, float, float], ...], Meta(min_length=1, max_length=2**16)]


class Pad(Part, frozen=True, kw_only=True, tag="pad", tag_field="step"):
    """Pixels added on each side: of one color, or the image's own, repeated or mirrored as ``numpy.pad`` does.

    ``fill`` has one value, or one per channel, for ``constant`` alone.
    """

    left: Margin
    top: Margin
    right: Margin
    bottom: Margin
    mode: Literal["constant", "edge", "reflect", "symmetric"]
    fill: Fill = (0,)


class SquarePad(Part, frozen=True, kw_only=True, tag="square_pad", tag_field="step"):
    """Pixels of one color around the shorter side, so that the image is the middle of a square.

    ``fill`` has one value, or one per channel. Where an odd number is added, one more is ``before`` or ``after`` the
    image.
    """

    fill: Fill = (0,)
    odd: Literal["before", "after"] = "after"


class Grayscale(Part, frozen=True, kw_only=True, tag="grayscale", tag_field="step"):
    """Pillow's ``convert("L")``, ITU-R 601 luma in 16-bit fixed point, repeated over ``channels``."""

    channels: Literal[1, 3]


GeometryStep: TypeAlias = Resize | CenterCrop | ShareCrop | Pad | SquarePad | Grayscale
ArithmeticStep: TypeAlias = ToFloat | Normalize | Standardize | ChannelOrder | NearestColor


class Preprocessing(Part, frozen=True, kw_only=True):
    """From decoded pixels to the network's input: geometry on uint8, then arithmetic on float32.

    ``height``, ``width`` and ``channels`` are the shape of the prepared pixels; None where it follows from the image's.
    """

    geometry: Annotated[tuple[GeometryStep, ...], Meta(max_length=100)]
    arithmetic: Annotated[tuple[ArithmeticStep, ...], Meta(max_length=100)]
    height: Side | None
    width: Side | None
    channels: Channels
