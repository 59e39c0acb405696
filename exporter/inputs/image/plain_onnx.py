"""Resizes without antialias as standard ONNX operators, to the last bit: Pillow's nearest, OpenCV's and torch's.

``runtime/geometry/plain.py`` says where the arithmetic comes from. Only output-sized arrays are made: rows and
columns are gathered first, then mixed as integers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx

from exporter.conversion.node_builder import NodeBuilder, Value
from exporter.inputs.image.sizes_onnx import HEIGHT, WIDTH, AxisWindow
from runtime.geometry.filters import (
    OPENCV_COLUMN_SHIFT,
    OPENCV_ONE,
    OPENCV_ROW_SHIFT,
    OPENCV_SUM_SHIFT,
    PRECISION_BITS,
    TORCH_WEIGHT_LIMIT,
)
from runtime.manifest import Resize

_DOUBLE, _FLOAT = onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT
_INT32, _INT64, _UINT8 = onnx.TensorProto.INT32, onnx.TensorProto.INT64, onnx.TensorProto.UINT8


@dataclass(frozen=True, kw_only=True)
class _Taps:
    """Two old pixels for each new one of an axis, int64, and their weights, int32, all [resized]."""

    near: Value
    far: Value
    near_weight: Value
    far_weight: Value


def pick_nearest(pixels: Value, step: Resize, window: AxisWindow) -> Value:
    """Return uint8 ``pixels`` [batch, channels, height, width] with one axis resized to the nearest pixel."""
    axis = window.axis
    size = pixels.sizes(axis, axis + 1)
    index = _NEAREST_INDEX[step.implementation](size, window.resized, step)
    index = index.cast(_INT64).at_most(size - 1)
    index = pixels.nodes.apply("Slice", index, window.start, window.start + window.length)
    return pixels.nodes.apply("Gather", pixels, index, axis=axis)


def mix_as_opencv(pixels: Value, *, height: Value, width: Value) -> Value:
    """Return uint8 ``pixels`` resized to ``height`` and ``width``, int64 [1], as OpenCV's INTER_LINEAR does."""
    nodes = pixels.nodes
    rows, columns = _opencv_taps(pixels, HEIGHT, height), _opencv_taps(pixels, WIDTH, width)
    mixed = []
    for row, row_weight in ((rows.near, rows.near_weight), (rows.far, rows.far_weight)):
        line = _mix(nodes.apply("Gather", pixels, row, axis=HEIGHT), WIDTH, columns)
        line = line // _int32(nodes, 1 << OPENCV_ROW_SHIFT)
        weighted = nodes.apply("Unsqueeze", row_weight, 1) * line
        mixed.append(weighted // _int32(nodes, 1 << OPENCV_COLUMN_SHIFT))
    total = mixed[0] + mixed[1] + _int32(nodes, 1 << (OPENCV_SUM_SHIFT - 1))
    return (total // _int32(nodes, 1 << OPENCV_SUM_SHIFT)).cast(_UINT8)


def mix_as_torch(pixels: Value, *, axis: int, resized: Value) -> Value:
    """Return uint8 ``pixels`` with one axis resized as torch's bilinear interpolation without antialias does."""
    taps, unit = _torch_taps(pixels.sizes(axis, axis + 1), resized)
    total = _mix(pixels, axis, taps)
    half = unit // _int32(pixels.nodes, 2)
    # An axis that keeps its size has the weights one and zero, and so its pixels.
    return ((total + half) // unit).cast(_UINT8)


def torch_unit(largest: Value) -> Value:
    """Return 1 in torch's fixed point, in which the largest weight fits into an int16, as float64."""
    nodes = largest.nodes
    powers = nodes.doubles(list(np.exp2(np.arange(1, PRECISION_BITS + 1))), name="powers")
    rounded = (largest * powers + 0.5).floor()
    fits = (rounded < float(TORCH_WEIGHT_LIMIT)).cast(_DOUBLE)
    return nodes.apply("Pow", 2.0, nodes.apply("ReduceSum", fits, keepdims=0))


def _mix(pixels: Value, axis: int, taps: _Taps) -> Value:
    """Return the weighted sum of each new pixel's two old ones, int32."""
    near = _weighted(pixels, axis, taps.near, taps.near_weight)
    return near + _weighted(pixels, axis, taps.far, taps.far_weight)


def _weighted(pixels: Value, axis: int, index: Value, weight: Value) -> Value:
    nodes = pixels.nodes
    picked = nodes.apply("Gather", pixels, index, axis=axis).cast(_INT32)
    return picked * (nodes.apply("Unsqueeze", weight, 1) if axis == HEIGHT else weight)


def _int32(nodes: NodeBuilder, value: int) -> str:
    return nodes.int32s([value], shape=[], name=f"int_{value}")


def _positions(resized: Value, kind: int) -> Value:
    """Return 0, 1, ... for the pixels of a resized axis, as an ONNX element type."""
    nodes = resized.nodes
    return nodes.apply("Range", nodes.integer(0), resized.scalar(), nodes.integer(1)).cast(kind)


def _pillow_index(size: Value, resized: Value, _step: Resize) -> Value:
    """Pillow adds the scale up from pixel to pixel in float64 (``ImagingScaleAffine``), and so does CumSum.

    A product would round differently where a center falls on an edge.
    """
    nodes = size.nodes
    scale = size.cast(_DOUBLE) / resized.cast(_DOUBLE)
    steps = nodes.apply("Expand", scale, resized - 1)
    first = scale * 0.5
    return nodes.apply("CumSum", nodes.apply("Concat", first, steps, axis=0), nodes.integer(0)).floor()


def _torch_index(size: Value, resized: Value, step: Resize) -> Value:
    offset = size.nodes.floats([0.5 if step.interpolation == "nearest_exact" else 0.0], shape=[], name="offset")
    scale = size.cast(_DOUBLE) / resized.cast(_DOUBLE)
    return ((_positions(resized, _FLOAT) + offset) * scale.cast(_FLOAT)).floor()


def _opencv_index(size: Value, resized: Value, _step: Resize) -> Value:
    return (_positions(resized, _DOUBLE) * _opencv_scale(size, resized)).floor()


# Which old pixel each new one of an axis is, before it is limited to the image.
_NEAREST_INDEX: dict[str, Callable[[Value, Value, Resize], Value]] = {
    "pillow": _pillow_index,
    "torch": _torch_index,
    "opencv": _opencv_index,
}


def _opencv_scale(size: Value, resized: Value) -> Value:
    inverse = resized.cast(_DOUBLE) / size.cast(_DOUBLE)
    # Not a division of 1, which onnxruntime (DivMulFusion) joins with the product that follows, to another rounding.
    return size.nodes.apply("Reciprocal", inverse)


def _opencv_taps(pixels: Value, axis: int, resized: Value) -> _Taps:
    nodes = pixels.nodes
    size = pixels.sizes(axis, axis + 1)
    half = nodes.double(0.5)
    center = _positions(resized, _DOUBLE) + half
    source = (center * _opencv_scale(size, resized) - half).cast(_FLOAT)
    floor = source.floor()
    share = source - floor
    near, last = floor.cast(_INT64), size - 1
    zero = nodes.integers(0)
    if axis == WIDTH:
        outside = (near < zero) | (near >= last)
        share = outside.where(nodes.floats([0.0], shape=[], name="none"), share)
    unit = nodes.floats([OPENCV_ONE], shape=[], name="one_opencv")
    rest = nodes.value(nodes.floats([1.0], shape=[], name="unit")) - share
    far = near + 1
    return _Taps(
        near=near.at_least(zero).at_most(last),
        far=far.at_least(zero).at_most(last),
        near_weight=nodes.apply("Round", rest * unit).cast(_INT32),
        far_weight=nodes.apply("Round", share * unit).cast(_INT32),
    )


def _torch_taps(size: Value, resized: Value) -> tuple[_Taps, Value]:
    """Return the taps, and 1 in the fixed point of their weights, int32."""
    nodes = size.nodes
    half, one = nodes.double(0.5), nodes.value(nodes.double(1.0))
    scale = size.cast(_DOUBLE) / resized.cast(_DOUBLE)
    center = _positions(resized, _DOUBLE) + half
    source = (center * scale - half).at_least(0.0)
    last = size - 1
    near = source.floor().cast(_INT64).at_most(last)
    far = (near + 1).at_most(last)
    share = source - near.cast(_DOUBLE)
    share = near.equals(far).where(0.0, share)
    rest = one - share
    unit = torch_unit(nodes.apply("ReduceMax", share.at_least(rest), keepdims=0))
    near_weight, far_weight = ((weight * unit + half).floor().cast(_INT32) for weight in (rest, share))
    return _Taps(near=near, far=far, near_weight=near_weight, far_weight=far_weight), unit.cast(_INT32)
