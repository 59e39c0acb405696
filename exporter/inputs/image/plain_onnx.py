"""Resizes without antialias as standard ONNX operators, to the last bit: Pillow's nearest, OpenCV's and torch's.

``runtime/geometry/plain.py`` says where the arithmetic comes from. Only output-sized arrays are made: rows and
columns are gathered first, then mixed as integers.
"""

from dataclasses import dataclass

import numpy as np
import onnx

from exporter.conversion.node_builder import NodeBuilder
from runtime.manifest import Resize

_HEIGHT, _WIDTH = 2, 3
_DOUBLE, _FLOAT = onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT
_INT32, _INT64, _UINT8 = onnx.TensorProto.INT32, onnx.TensorProto.INT64, onnx.TensorProto.UINT8

_OPENCV_BITS = 11
# torch's weights are int16, in at most 22 bits.
_PRECISION_BITS = 22
_TORCH_WEIGHT_LIMIT = 2.0**15


@dataclass(frozen=True, kw_only=True)
class _TapNodes:
    """Two old pixels for each new one of an axis, int64, and their weights, int32, all [resized]."""

    near: str
    far: str
    near_weight: str
    far_weight: str


def nearest(nodes: NodeBuilder, pixels: str, step: Resize, *, axis: int, resized: str, start: str, length: str) -> str:
    """Return uint8 ``pixels`` [batch, channels, height, width] with one axis resized to ``resized``, int64 [1].

    ``length`` pixels from ``start`` on are computed.
    """
    size = nodes.add("Shape", pixels, start=axis, end=axis + 1)
    index = {"pillow": _pillow_index, "torch": _torch_index, "opencv": _opencv_index}[step.implementation](
        nodes, size, resized, step
    )
    index = nodes.add("Min", nodes.cast(index, _INT64), nodes.add("Sub", size, nodes.integers(1)))
    index = nodes.add("Slice", index, start, nodes.add("Add", start, length))
    return nodes.add("Gather", pixels, index, axis=axis)


def mix_as_opencv(nodes: NodeBuilder, pixels: str, *, height: str, width: str) -> str:
    """Return uint8 ``pixels`` resized to ``height`` and ``width``, int64 [1], as OpenCV's INTER_LINEAR does."""
    rows, columns = _opencv_taps(nodes, pixels, _HEIGHT, height), _opencv_taps(nodes, pixels, _WIDTH, width)
    mixed = []
    for row, row_weight in ((rows.near, rows.near_weight), (rows.far, rows.far_weight)):
        lines = nodes.add("Gather", pixels, row, axis=_HEIGHT)
        wide = nodes.add("Add", *(_weighted(nodes, lines, _WIDTH, *tap) for tap in _pairs(columns)))
        wide = nodes.add("Div", wide, _int32(nodes, 1 << 4))
        tall = nodes.add("Mul", nodes.add("Unsqueeze", row_weight, nodes.integers(1)), wide)
        mixed.append(nodes.add("Div", tall, _int32(nodes, 1 << 16)))
    total = nodes.add("Add", nodes.add("Add", *mixed), _int32(nodes, 2))
    return nodes.cast(nodes.add("Div", total, _int32(nodes, 4)), _UINT8)


def mix_as_torch(nodes: NodeBuilder, pixels: str, *, axis: int, resized: str) -> str:
    """Return uint8 ``pixels`` with one axis resized as torch's bilinear interpolation without antialias does."""
    size = nodes.add("Shape", pixels, start=axis, end=axis + 1)
    taps, bits_one = _torch_taps(nodes, size, resized)
    total = nodes.add("Add", *(_weighted(nodes, pixels, axis, *tap) for tap in _pairs(taps)))
    half = nodes.add("Div", bits_one, _int32(nodes, 2))
    # An axis that keeps its size has the weights one and zero, and so its pixels.
    return nodes.cast(nodes.add("Div", nodes.add("Add", total, half), bits_one), _UINT8)


def _pairs(taps: _TapNodes) -> tuple[tuple[str, str], tuple[str, str]]:
    return (taps.near, taps.near_weight), (taps.far, taps.far_weight)


def _weighted(nodes: NodeBuilder, pixels: str, axis: int, index: str, weight: str) -> str:
    picked = nodes.cast(nodes.add("Gather", pixels, index, axis=axis), _INT32)
    shaped = nodes.add("Unsqueeze", weight, nodes.integers(1)) if axis == _HEIGHT else weight
    return nodes.add("Mul", picked, shaped)


def _int32(nodes: NodeBuilder, value: int) -> str:
    return nodes.int32s([value], shape=[], name=f"int_{value}")


def _positions(nodes: NodeBuilder, resized: str, kind: int) -> str:
    return nodes.cast(nodes.add("Range", nodes.integer(0), nodes.add("Squeeze", resized), nodes.integer(1)), kind)


def _pillow_index(nodes: NodeBuilder, size: str, resized: str, _step: Resize) -> str:
    """Pillow adds the scale up from pixel to pixel in float64 (``ImagingScaleAffine``), and so does CumSum.

    A product would round differently where a centre falls on an edge.
    """
    scale = nodes.add("Div", nodes.cast(size, _DOUBLE), nodes.cast(resized, _DOUBLE))
    rest = nodes.add("Expand", scale, nodes.add("Sub", resized, nodes.integers(1)))
    first = nodes.add("Mul", scale, nodes.double(0.5))
    return nodes.add("Floor", nodes.add("CumSum", nodes.add("Concat", first, rest, axis=0), nodes.integer(0)))


def _torch_index(nodes: NodeBuilder, size: str, resized: str, step: Resize) -> str:
    offset = nodes.floats([0.5 if step.interpolation == "nearest_exact" else 0.0], shape=[], name="offset")
    scale = nodes.add("Div", nodes.cast(size, _DOUBLE), nodes.cast(resized, _DOUBLE))
    position = nodes.add("Add", _positions(nodes, resized, _FLOAT), offset)
    return nodes.add("Floor", nodes.add("Mul", position, nodes.cast(scale, _FLOAT)))


def _opencv_index(nodes: NodeBuilder, size: str, resized: str, _step: Resize) -> str:
    return nodes.add(
        "Floor", nodes.add("Mul", _positions(nodes, resized, _DOUBLE), _opencv_scale(nodes, size, resized))
    )


def _opencv_scale(nodes: NodeBuilder, size: str, resized: str) -> str:
    inverse = nodes.add("Div", nodes.cast(resized, _DOUBLE), nodes.cast(size, _DOUBLE))
    # Not a division of 1, which onnxruntime (DivMulFusion) joins with the product that follows, to another rounding.
    return nodes.add("Reciprocal", inverse)


def _opencv_taps(nodes: NodeBuilder, pixels: str, axis: int, resized: str) -> _TapNodes:
    size = nodes.add("Shape", pixels, start=axis, end=axis + 1)
    half = nodes.double(0.5)
    center = nodes.add("Add", _positions(nodes, resized, _DOUBLE), half)
    source = nodes.add("Sub", nodes.add("Mul", center, _opencv_scale(nodes, size, resized)), half)
    source = nodes.cast(source, _FLOAT)
    floor = nodes.add("Floor", source)
    share = nodes.add("Sub", source, floor)
    near, last = nodes.cast(floor, _INT64), nodes.add("Sub", size, nodes.integers(1))
    zero = nodes.integers(0)
    if axis == _WIDTH:
        outside = nodes.add("Or", nodes.add("Less", near, zero), nodes.add("GreaterOrEqual", near, last))
        share = nodes.add("Where", outside, nodes.floats([0.0], shape=[], name="none"), share)
    one = nodes.floats([float(1 << _OPENCV_BITS)], shape=[], name="one_opencv")
    rest = nodes.add("Sub", nodes.floats([1.0], shape=[], name="unit"), share)
    far = nodes.add("Add", near, nodes.integers(1))
    return _TapNodes(
        near=nodes.add("Min", nodes.add("Max", near, zero), last),
        far=nodes.add("Min", nodes.add("Max", far, zero), last),
        near_weight=nodes.cast(nodes.add("Round", nodes.add("Mul", rest, one)), _INT32),
        far_weight=nodes.cast(nodes.add("Round", nodes.add("Mul", share, one)), _INT32),
    )


def _torch_taps(nodes: NodeBuilder, size: str, resized: str) -> tuple[_TapNodes, str]:
    """Return the taps, and 1 in the fixed point of their weights, int32."""
    half, unit = nodes.double(0.5), nodes.double(1.0)
    scale = nodes.add("Div", nodes.cast(size, _DOUBLE), nodes.cast(resized, _DOUBLE))
    center = nodes.add("Add", _positions(nodes, resized, _DOUBLE), half)
    source = nodes.add("Max", nodes.add("Sub", nodes.add("Mul", center, scale), half), nodes.double(0.0))
    last = nodes.add("Sub", size, nodes.integers(1))
    near = nodes.add("Min", nodes.cast(nodes.add("Floor", source), _INT64), last)
    far = nodes.add("Min", nodes.add("Add", near, nodes.integers(1)), last)
    share = nodes.add("Sub", source, nodes.cast(near, _DOUBLE))
    share = nodes.add("Where", nodes.add("Equal", near, far), nodes.double(0.0), share)
    rest = nodes.add("Sub", unit, share)
    largest = nodes.add("ReduceMax", nodes.add("Max", share, rest), keepdims=0)
    one = fixed_one(nodes, largest)
    weights = [
        nodes.cast(nodes.add("Floor", nodes.add("Add", nodes.add("Mul", weight, one), half)), _INT32)
        for weight in (rest, share)
    ]
    return _TapNodes(near=near, far=far, near_weight=weights[0], far_weight=weights[1]), nodes.cast(one, _INT32)


def fixed_one(nodes: NodeBuilder, largest: str) -> str:
    """Return 1 in torch's fixed point, in which the largest weight fits into an int16, as float64."""
    powers = nodes.doubles(list(np.exp2(np.arange(1, _PRECISION_BITS + 1))), name="powers")
    rounded = nodes.add("Floor", nodes.add("Add", nodes.add("Mul", largest, powers), nodes.double(0.5)))
    fits = nodes.cast(nodes.add("Less", rounded, nodes.double(_TORCH_WEIGHT_LIMIT)), _DOUBLE)
    return nodes.add("Pow", nodes.double(2.0), nodes.add("ReduceSum", fits, keepdims=0))
