"""Resize, alone or with the crop that follows it: reading, ONNX nodes, TorchScript."""

from collections.abc import Sequence
from typing import Any

import onnx
import PIL
from onnx import helper
from torch import Tensor, nn
from torch.nn import functional
from torchvision import transforms
from torchvision.transforms import InterpolationMode, v2

from exporter.conversion.node_builder import NodeBuilder, Value
from exporter.errors import PreprocessingError
from exporter.inputs.image.antialias_onnx import resample_axis
from exporter.inputs.image.antialias_torch import AxisResampler
from exporter.inputs.image.opencv_transforms import Letterbox, OpenCVResize
from exporter.inputs.image.plain_onnx import mix_as_opencv, mix_as_torch, pick_nearest
from exporter.inputs.image.plain_torch import sample_as_opencv
from exporter.inputs.image.sizes_onnx import (
    HEIGHT,
    WIDTH,
    AxisWindow,
    crop_origin,
    image_size,
    resized_size,
    side_of,
)
from exporter.inputs.image.sizes_torch import ResizedSize, crop_window
from exporter.inputs.image.step_module import PixelNodes, Readers, Step, TransformInput
from exporter.inputs.image.steps import center_crop
from runtime.manifest import AxisOrder, CenterCrop, Interpolation, KeepRatio, Resize

# What torchvision asks Pillow for; NEAREST_EXACT differs from NEAREST on tensors alone.
_INTERPOLATIONS: dict[InterpolationMode, Interpolation] = {
    InterpolationMode.NEAREST: "nearest",
    InterpolationMode.NEAREST_EXACT: "nearest",
    InterpolationMode.BOX: "box",
    InterpolationMode.BILINEAR: "bilinear",
    InterpolationMode.HAMMING: "hamming",
    InterpolationMode.BICUBIC: "bicubic",
    InterpolationMode.LANCZOS: "lanczos",
}

# Pillow's own numbers, which old code passes: Image.NEAREST, LANCZOS, BILINEAR, ...
PILLOW_FILTERS: dict[int, Interpolation] = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
    4: "box",
    5: "hamming",
}

# What torch's resizes of tensors can be followed in, with antialias and without.
_TENSOR_INTERPOLATIONS = {True: {"bilinear", "bicubic"}, False: {"bilinear", "nearest", "nearest_exact"}}


def describe(step: Resize) -> str:
    """Return the step in a few words for people."""
    limit = f" up to {step.max_size}" if step.max_size else ""
    limit += f", to multiples of {step.multiple}," if step.multiple else ""
    antialias = " antialias" if step.antialias and step.interpolation != "nearest" else ""
    implementation = {"pillow": "", "torch": " of a tensor", "opencv": " as OpenCV"}[step.implementation]
    return f"Resize {_describe_size(step.size)}{limit} {step.interpolation}{antialias}{implementation}"


def _describe_size(size: int | tuple[int, int] | KeepRatio) -> str:
    if isinstance(size, int):
        return str(size)
    if isinstance(size, KeepRatio):
        return f"{size.side} {size.height} x {size.width}"
    return f"{size[0]} x {size[1]}"


def axis_order() -> AxisOrder:
    """Return the order in which this machine's Pillow, the one that the reference runs on, resizes the two axes."""
    return "larger_cut_first" if int(PIL.__version__.partition(".")[0]) >= 13 else "horizontal_first"


def write_onnx(nodes: PixelNodes, pixels: Value, step: Resize, crop: CenterCrop | None = None) -> Value:
    """Append the resize, and the crop that follows it: what a crop drops is not computed, where nothing is padded."""
    if crop is None or not crop_fits(step, crop):
        pixels = _resize_nodes(pixels, step, None)
        return pixels if crop is None else center_crop.write_onnx(nodes, pixels, crop)
    return _resize_nodes(pixels, step, crop)


def crop_fits(step: Resize, crop: CenterCrop) -> bool:
    """Return whether a crop is never larger than what ``step`` gives, and may be computed with it.

    torch fits the precision of all weights to the largest of them, so none may be left out there.
    """
    if step.implementation != "pillow" or isinstance(step.size, KeepRatio):
        return False
    if isinstance(step.size, tuple):
        return crop.height <= step.size[0] and crop.width <= step.size[1]
    # max_size may cut the short side to less than 'size'.
    return step.max_size is None and max(crop.height, crop.width) <= step.size


def _resize_nodes(pixels: Value, step: Resize, crop: CenterCrop | None) -> Value:
    size = image_size(pixels)
    resized = resized_size(size, step)
    spans = _kept_spans(resized, crop)
    if step.interpolation in {"nearest", "nearest_exact"}:
        for axis in (HEIGHT, WIDTH):
            pixels = pick_nearest(pixels, step, _window(resized, spans, axis))
        return pixels
    if step.implementation == "opencv":
        height, width = side_of(resized, HEIGHT), side_of(resized, WIDTH)
        return mix_as_opencv(pixels, height=height, width=width)
    if not step.antialias:
        for axis in (WIDTH, HEIGHT):
            pixels = mix_as_torch(pixels, axis=axis, resized=side_of(resized, axis))
        return pixels
    if step.axis_order == "horizontal_first":
        return _two_passes(pixels, step, resized, spans, (WIDTH, HEIGHT))
    return _passes_by_cut(pixels, step, size, resized, spans)


def _passes_by_cut(
    pixels: Value, step: Resize, size: Value, resized: Value, spans: dict[int, tuple[Value, Value]]
) -> Value:
    """Append both orders of the passes, of which the image's size chooses one: see ``sizes.vertical_first``."""
    nodes = pixels.nodes
    cut = size - resized
    rows_cut, columns_cut = side_of(cut, HEIGHT), side_of(cut, WIDTH)
    vertical_first = ((rows_cut > columns_cut * 2) & (rows_cut > 0)).scalar()
    branches = {}
    for branch, axes in (("then_branch", (HEIGHT, WIDTH)), ("else_branch", (WIDTH, HEIGHT))):
        inner = NodeBuilder(f"{nodes.prefix}/{branch}{len(nodes.nodes)}")
        inner_spans = {axis: (start.within(inner), length.within(inner)) for axis, (start, length) in spans.items()}
        output = _two_passes(pixels.within(inner), step, resized.within(inner), inner_spans, axes)
        info = helper.make_tensor_value_info(output.name, onnx.TensorProto.UINT8, None)
        branches[branch] = helper.make_graph(inner.nodes, branch, [], [info], list(inner.constants.values()))
    return nodes.apply("If", vertical_first, **branches)


def _two_passes(
    pixels: Value, step: Resize, resized: Value, spans: dict[int, tuple[Value, Value]], axes: tuple[int, int]
) -> Value:
    for axis in axes:
        pixels = resample_axis(pixels, step, _window(resized, spans, axis))
    return pixels


def _window(resized: Value, spans: dict[int, tuple[Value, Value]], axis: int) -> AxisWindow:
    start, length = spans[axis]
    return AxisWindow(axis=axis, resized=side_of(resized, axis), start=start, length=length)


def _kept_spans(resized: Value, crop: CenterCrop | None) -> dict[int, tuple[Value, Value]]:
    """Return, by axis, the start and the length of the pixels that are kept of a resized image."""
    nodes = resized.nodes
    if crop is None:
        return {axis: (nodes.value(nodes.integers(0)), side_of(resized, axis)) for axis in (HEIGHT, WIDTH)}
    spans = {}
    for axis, kept in ((HEIGHT, crop.height), (WIDTH, crop.width)):
        side, length = side_of(resized, axis), nodes.value(nodes.integers(kept))
        spans[axis] = (crop_origin(side, length, crop.rounding), length)
    return spans


def to_module(step: Resize, crop: CenterCrop | None = None) -> nn.Module:
    """Return the resize, and the crop that follows it, as a module."""
    return _Resize(step, crop)


class _Resize(nn.Module):
    """A resize, and the crop that follows it: one axis at a time, in the manifest's order, and only what is kept."""

    def __init__(self, step: Resize, crop: CenterCrop | None) -> None:
        super().__init__()
        self.size = ResizedSize(step)
        self.interpolation = step.interpolation
        self.resample = AxisResampler(step.interpolation)
        self.larger_cut_first = step.axis_order == "larger_cut_first"
        self.implementation = step.implementation
        self.antialias = step.antialias
        self.crop_height, self.crop_width = (crop.height, crop.width) if crop else (0, 0)
        self.down = crop is not None and crop.rounding != "half_even"
        self.crop = center_crop.to_module(crop) if crop else nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        old_height, old_width = pixels.shape[2], pixels.shape[3]
        height, width = self.size(old_height, old_width)
        if self.implementation == "opencv":
            pixels = sample_as_opencv(pixels, self.interpolation, height, width)
        elif self.implementation == "torch":
            pixels = self._interpolate(pixels, height, width)
        else:
            pixels = self._resample(pixels, height, width)
        cropped: Tensor = self.crop(pixels)
        return cropped

    def _interpolate(self, pixels: Tensor, height: int, width: int) -> Tensor:
        if self.antialias or self.interpolation == "bilinear":
            pixels = functional.interpolate(
                pixels,
                size=[height, width],
                mode=self.interpolation,
                align_corners=False,
                antialias=self.antialias,
            )
        else:
            mode = "nearest-exact" if self.interpolation == "nearest_exact" else "nearest"
            pixels = functional.interpolate(pixels, size=[height, width], mode=mode)
        return pixels

    def _resample(self, pixels: Tensor, height: int, width: int) -> Tensor:
        rows, columns = crop_window(height, self.crop_height, self.down), crop_window(width, self.crop_width, self.down)
        old_height, old_width = pixels.shape[2], pixels.shape[3]
        rows_cut, columns_cut = old_height - height, old_width - width
        if self.larger_cut_first and rows_cut > 0 and rows_cut > 2 * columns_cut:
            pixels = self.resample(pixels, 2, height, rows[0], rows[1])
            pixels = self.resample(pixels, 3, width, columns[0], columns[1])
        else:
            pixels = self.resample(pixels, 3, width, columns[0], columns[1])
            pixels = self.resample(pixels, 2, height, rows[0], rows[1])
        return pixels


def _read_torchvision(transform: Any, before: TransformInput) -> Sequence[Resize]:
    before.check_resized()
    before.check_pixels()
    if before.pixels.dtype == "uint16":
        raise PreprocessingError(
            f"{before.subject}: resizes 16-bit pixels: expected crops and padding alone. Resize the files themselves."
        )
    interpolation = _interpolation(transform.interpolation)
    if interpolation is None:
        raise PreprocessingError(
            f"{before.subject}: unknown interpolation: expected one of torchvision's InterpolationMode, "
            f"got {transform.interpolation}. Use one of these."
        )
    if transform.size is None:
        raise PreprocessingError(f"{before.subject}: has no size beside max_size. Name the length of the short side.")
    if before.is_tensor:
        return [_resize_of_tensor(transform, interpolation, before.subject)]
    return [
        Resize(
            size=_size(transform.size),
            interpolation=interpolation,
            axis_order=axis_order(),
            max_size=transform.max_size,
        )
    ]


def _resize_of_tensor(transform: Any, interpolation: Interpolation, subject: str) -> Resize:
    antialias = transform.antialias is not False and not interpolation.startswith("nearest")
    if InterpolationMode.NEAREST_EXACT in (transform.interpolation, getattr(transform.interpolation, "value", None)):
        interpolation = "nearest_exact"
    # Version 1 mixes tensors in float32, whose rounding depends on the machine; picking pixels rounds nothing.
    version = 1 if type(transform) is transforms.Resize else 2
    mixes_floats = version == 1 and interpolation in {"bilinear", "bicubic"}
    if interpolation not in _TENSOR_INTERPOLATIONS[antialias] or mixes_floats:
        raise PreprocessingError(
            f"{subject}: resizes a tensor: expected v2.Resize with bilinear, bicubic with antialias, or nearest, "
            f"got version {version} with {interpolation} and antialias={transform.antialias}. Move it before ToTensor, "
            "PILToTensor or ToImage, where it resizes PIL images, and check the model's accuracy once with it."
        )
    return Resize(
        size=_size(transform.size),
        interpolation=interpolation,
        axis_order="horizontal_first",
        max_size=transform.max_size,
        implementation="torch",
        antialias=antialias,
    )


def _interpolation(mode: InterpolationMode | str | int) -> Interpolation | None:
    """Return what a torchvision transform names by its enumeration, its value, or Pillow's number; None if unknown."""
    if isinstance(mode, int):
        return PILLOW_FILTERS.get(mode)
    try:
        return _INTERPOLATIONS[InterpolationMode(mode)]
    except ValueError:
        return None


def _size(size: int | Sequence[int]) -> int | tuple[int, int]:
    """Return torchvision's size: an int or a list of one is the short side, a pair is (height, width)."""
    if isinstance(size, int):
        return size
    return int(size[0]) if len(size) == 1 else (int(size[0]), int(size[1]))


def _read_keep_ratio(transform: Any, before: TransformInput) -> Sequence[Resize]:
    """Return timm's resize by the longest (``longest`` 1) or the shortest side (0), relative to a box."""
    before.check_pixels()
    before.check_image()
    mode = transform.interpolation
    interpolation = _interpolation(mode) if isinstance(mode, InterpolationMode) else None
    is_random = transform.random_scale_prob or transform.random_aspect_prob
    if transform.longest not in {0.0, 1.0} or interpolation is None or is_random:
        raise PreprocessingError(
            f"{before.subject}: cannot be folded in: expected 'longest' of 0 or 1, one interpolation and nothing "
            f"random, got {transform}. Pass the transform that you evaluate with."
        )
    height, width = transform.size
    box = KeepRatio(
        height=int(height),
        width=int(width),
        side="inside" if transform.longest else "outside",
        arithmetic="divide",
    )
    return [Resize(size=box, interpolation=interpolation, axis_order=axis_order())]


def _read_opencv(transform: OpenCVResize, before: TransformInput) -> Sequence[Resize]:
    before.check_pixels()
    before.check_image()
    return [_opencv_resize(transform.size, transform.interpolation)]


def _read_letterbox(transform: Letterbox, before: TransformInput) -> Sequence[Step]:
    before.check_pixels()
    before.check_image()
    height, width = transform.size
    box = KeepRatio(height=height, width=width, side="inside", arithmetic="multiply", enlarge=transform.enlarge)
    return [_opencv_resize(box, "bilinear"), CenterCrop(height=height, width=width, fill=(transform.fill,))]


def _opencv_resize(size: tuple[int, int] | KeepRatio, interpolation: Interpolation) -> Resize:
    return Resize(
        size=size if isinstance(size, KeepRatio) else (size[0], size[1]),
        interpolation=interpolation,
        axis_order="horizontal_first",
        implementation="opencv",
        antialias=False,
    )


def _read_albumentations(transform: Any, before: TransformInput) -> Sequence[Resize] | None:
    """Return albumentations' Resize, SmallestMaxSize or LongestMaxSize, which OpenCV computes."""
    before.check_pixels()
    # cv2.INTER_NEAREST and INTER_LINEAR; newer versions may use INTER_AREA where an image is made smaller.
    interpolation = {0: "nearest", 1: "bilinear"}.get(int(transform.interpolation))
    if interpolation is None or getattr(transform, "area_for_downscale", None) is not None:
        raise PreprocessingError(
            f"{before.subject}: cannot be folded in: expected cv2.INTER_LINEAR or cv2.INTER_NEAREST alone, got "
            f"{transform.interpolation}. Let a resize of these be trained with, or resize before the artifact."
        )
    size = getattr(transform, "max_size", None)
    if hasattr(transform, "max_size") and not isinstance(size, int):
        return None
    if size is None:
        return [_opencv_resize((int(transform.height), int(transform.width)), interpolation)]  # type: ignore[arg-type]
    side: Any = "outside" if type(transform).__name__ == "SmallestMaxSize" else "inside"
    box = KeepRatio(height=size, width=size, side=side, arithmetic="multiply")
    return [_opencv_resize(box, interpolation)]  # type: ignore[arg-type]


READERS: Readers = {
    transforms.Resize: _read_torchvision,
    v2.Resize: _read_torchvision,
    "timm.data.transforms.ResizeKeepRatio": _read_keep_ratio,
    OpenCVResize: _read_opencv,
    Letterbox: _read_letterbox,
    "albumentations.Resize": _read_albumentations,
    "albumentations.SmallestMaxSize": _read_albumentations,
    "albumentations.LongestMaxSize": _read_albumentations,
}
