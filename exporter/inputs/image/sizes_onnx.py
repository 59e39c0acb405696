"""Sizes and positions of resized and cropped images as ONNX nodes.

The functions of ``runtime/geometry/sizes.py`` in int64 arithmetic on small tensors; an image's size is known at run
time alone.
"""

from dataclasses import dataclass

import onnx

from exporter.conversion.node_builder import Value
from runtime.manifest import KeepRatio, Resize

# The axes of pixels [batch, channels, height, width].
HEIGHT, WIDTH = 2, 3

_DOUBLE, _INT64 = onnx.TensorProto.DOUBLE, onnx.TensorProto.INT64


@dataclass(frozen=True, kw_only=True)
class AxisWindow:
    """A resize along one axis to ``resized`` pixels, of which ``length`` from ``start`` on are kept; all int64 [1]."""

    axis: int
    resized: Value
    start: Value
    length: Value


def image_size(pixels: Value) -> Value:
    """Return the (height, width) of pixels [batch, channels, height, width], int64 [2]."""
    return pixels.sizes(HEIGHT, WIDTH + 1)


def side_of(size: Value, axis: int) -> Value:
    """Return one side of a (height, width), int64 [1]."""
    return size.nodes.apply("Gather", size, axis - HEIGHT)


def resized_size(size: Value, step: Resize) -> Value:
    """Return the new (height, width), int64 [2], of an image of ``size``, int64 [2]."""
    resized = _before_rounding_up(size, step)
    return (resized + (step.multiple - 1)) // step.multiple * step.multiple if step.multiple else resized


def _before_rounding_up(size: Value, step: Resize) -> Value:
    nodes = size.nodes
    if isinstance(step.size, tuple):
        return nodes.value(nodes.integers(*step.size))
    if isinstance(step.size, KeepRatio):
        return _fitted_size(size, step.size)
    short = nodes.apply("ReduceMin", size, keepdims=1)
    resized = size * step.size // short
    if step.max_size is None:
        return resized
    long = nodes.apply("ReduceMax", resized, keepdims=1)
    limited = (resized * step.max_size // long).at_least(1)
    return (long > step.max_size).where(limited, resized)


def crop_origin(size: Value, crop: Value, rounding: str) -> Value:
    """Return where a centered crop starts that is no larger than the image: half of the excess, rounded as it says."""
    excess = size - crop
    half = excess // 2
    if rounding != "half_even":
        return half
    # Half to even: plus one where the remainder is 1 and the quotient odd.
    return half + excess % 2 * (half % 2)


def _fitted_size(size: Value, box: KeepRatio) -> Value:
    nodes = size.nodes
    if box.arithmetic == "long_side":
        return _thumbnail_size(size, box)
    sides = size.cast(_DOUBLE)
    box_sides = nodes.value(nodes.doubles([box.height, box.width], name=f"box{len(nodes.nodes)}"))
    divide = box.arithmetic == "divide"
    ratios = sides / box_sides if divide else box_sides / sides
    largest = (box.side == "inside") == divide
    ratio = nodes.apply("ReduceMax" if largest else "ReduceMin", ratios, keepdims=1)
    if not box.enlarge:
        ratio = ratio.at_least(1.0) if divide else ratio.at_most(1.0)
    fitted = sides / ratio if divide else sides * ratio
    return nodes.apply("Round", fitted).cast(_INT64).at_least(1)


def _thumbnail_size(size: Value, box: KeepRatio) -> Value:
    nodes = size.nodes
    cut = size.at_most(nodes.integers(box.height, box.width))
    long = nodes.apply("ReduceMax", size, keepdims=1)
    is_long = size.equals(long)
    kept = nodes.apply("ReduceMax", is_long.where(cut, nodes.integers(0)), keepdims=1)
    return is_long.where(cut, (size * kept // long).at_least(1))
