"""Pillow's and torch's antialiased resizes as standard ONNX operators, to the last bit.

onnxruntime's own ``Resize`` computes its weights in float32 and breaks ties at half a gray level the other way; box,
Hamming and Lanczos it does not have, and other runtimes' antialiasing differs again. So the weights are computed in the
graph as Pillow computes them (``precompute_coeffs`` and ``normalize_coeffs_8bpc`` in its ``Resample.c``): in float64,
then rounded to multiples of 2**-22. torch resizes uint8 tensors alike, in as many bits as leave the largest weight
below 2**15 (``_compute_index_ranges_int16_weights`` in its ``UpSampleKernel.cpp``).

Each pass is a matrix product, exact in float64: 255 * 2**22 times any image side is below 2**53. A band of output
pixels needs a short span of the input, so a loop goes over bands; no image is ever held as floats.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import onnx
from onnx import helper

from exporter.conversion.node_builder import NodeBuilder, Value
from exporter.inputs.image.plain_onnx import torch_unit
from exporter.inputs.image.sizes_onnx import HEIGHT, WIDTH, AxisWindow
from runtime.geometry.filters import HAMMING_FACTOR, HAMMING_OFFSET, LANCZOS_SUPPORT, PILLOW_ONE, SUPPORT
from runtime.manifest import Resize

_DOUBLE, _INT64, _UINT8 = onnx.TensorProto.DOUBLE, onnx.TensorProto.INT64, onnx.TensorProto.UINT8

# Output pixels per band: more of them make larger and faster products, with more zeros in them.
_BAND = 16


@dataclass(frozen=True, kw_only=True)
class _Bands:
    """Bands of output pixels: how many, int64 [1], and the span of the input that each of them reads.

    ``starts`` and ``ends`` are int64 [bands, 1]; ``weights`` are float64, one matrix per band.
    """

    count: Value
    starts: Value
    ends: Value
    weights: Value


def resample_axis(pixels: Value, step: Resize, window: AxisWindow) -> Value:
    """Return one pass of ``step`` along an axis of uint8 ``pixels`` [batch, channels, height, width]."""
    bands = _bands_of(pixels, step, window)
    nodes, axis = pixels.nodes, window.axis
    body = _band_graph(pixels, axis, bands)
    # [bands, batch, channels, height, width], one of the last two being a band's length.
    banded = nodes.apply("Loop", bands.count.scalar(), "", body=body)
    if axis == HEIGHT:
        joined = nodes.apply("Transpose", banded, perm=[1, 2, 0, 3, 4])
        shape = nodes.apply("Concat", pixels.sizes(0, HEIGHT), -1, pixels.sizes(WIDTH, WIDTH + 1), axis=0)
    else:
        joined = nodes.apply("Transpose", banded, perm=[1, 2, 3, 0, 4])
        shape = nodes.apply("Concat", pixels.sizes(0, WIDTH), -1, axis=0)
    resized = nodes.apply("Reshape", joined, shape)
    return nodes.apply("Slice", resized, 0, window.length, axis)


def _bands_of(pixels: Value, step: Resize, window: AxisWindow) -> _Bands:
    nodes, axis = pixels.nodes, window.axis
    size = pixels.sizes(axis, axis + 1).cast(_DOUBLE)
    scale = size / window.resized.cast(_DOUBLE)
    stretch = scale.at_least(1.0)
    support = stretch * SUPPORT[step.interpolation]
    half = nodes.double(0.5)

    # Output positions, in bands; the last band repeats the last position.
    count = (window.length + (_BAND - 1)) // _BAND
    last = window.start + (window.length - 1)
    position = nodes.apply("Range", nodes.integer(0), (count * _BAND).scalar(), nodes.integer(1))
    position = (position + window.start).at_most(last)
    center = (position.cast(_DOUBLE) + half) * scale
    first = (center - support + half).floor().at_least(0.0)
    end = (center + support + half).floor().at_most(size)

    grid = nodes.integers(-1, _BAND)
    center, first, end = (nodes.apply("Reshape", values, grid) for values in (center, first, end))
    band_first = nodes.apply("ReduceMin", first, 1, keepdims=1)
    band_end = nodes.apply("ReduceMax", end, 1, keepdims=1)
    span = nodes.apply("ReduceMax", band_end - band_first, keepdims=0)
    # Every band reads the same number of pixels; one near the far edge starts earlier.
    band_first = band_first.at_most(size - span)

    offsets = nodes.apply("Range", nodes.integer(0), span.cast(_INT64), nodes.integer(1)).cast(_DOUBLE)
    # [bands, span, 1] input positions against [bands, 1, band] output positions.
    source = nodes.apply("Unsqueeze", band_first + offsets, 2)
    center, first, end = (nodes.apply("Unsqueeze", values, 1) for values in (center, first, end))
    weights = _FILTERS[step.interpolation]((source - center + half) / stretch)
    weights = ((source >= first) & (source < end)).where(weights, 0.0)
    weights = weights / nodes.apply("ReduceSum", weights, 1, keepdims=1)
    unit = PILLOW_ONE if step.implementation == "pillow" else torch_unit(nodes.apply("ReduceMax", weights, keepdims=0))
    magnitude = (abs(weights) * unit + half).floor()
    weights = nodes.apply("Sign", weights) * magnitude / unit
    if axis == HEIGHT:
        weights = nodes.apply("Transpose", weights, perm=[0, 2, 1])

    starts = band_first.cast(_INT64)
    return _Bands(count=count, starts=starts, ends=starts + span.cast(_INT64), weights=weights)


def _band_graph(pixels: Value, axis: int, bands: _Bands) -> onnx.GraphProto:
    """Return the body of the loop: one band's pixels, uint8."""
    outer = pixels.nodes
    body = NodeBuilder(f"{outer.prefix}/band{len(outer.nodes)}")
    index, condition = body.value(f"{body.prefix}/index"), body.value(f"{body.prefix}/going")
    start, end = body.apply("Gather", bands.starts, index), body.apply("Gather", bands.ends, index)
    span = body.apply("Slice", pixels, start, end, axis)
    factors = [span.cast(_DOUBLE), body.apply("Gather", bands.weights, index)]
    product = body.apply("MatMul", *(reversed(factors) if axis == HEIGHT else factors))
    levels = body.apply("Clip", (product + 0.5).floor(), 0.0, 255.0).cast(_UINT8)
    proceed = body.apply("Identity", condition)
    return helper.make_graph(
        body.nodes,
        "band",
        [
            helper.make_tensor_value_info(index.name, _INT64, []),
            helper.make_tensor_value_info(condition.name, onnx.TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info(proceed.name, onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info(levels.name, _UINT8, None),
        ],
        list(body.constants.values()),
    )


def _box(x: Value) -> Value:
    return ((x > -0.5) & (x <= 0.5)).cast(_DOUBLE)


def _bilinear(x: Value) -> Value:
    return (1.0 - abs(x)).at_least(0.0)


def _bicubic(x: Value) -> Value:
    # Keys' kernel with a = -0.5, in Horner's form as Pillow writes it.
    x = abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    far = (x < 2.0).where(far, 0.0)
    return (x < 1.0).where(near, far)


def _sinc(x: Value) -> Value:
    zero = x.equals(0.0)
    angle = zero.where(1.0, x * math.pi)
    return zero.where(1.0, x.nodes.apply("Sin", angle) / angle)


def _hamming(x: Value) -> Value:
    x = abs(x)
    window = HAMMING_OFFSET + HAMMING_FACTOR * x.nodes.apply("Cos", x * math.pi)
    value = _sinc(x) * window
    value = x.equals(0.0).where(1.0, value)
    return (x < 1.0).where(value, 0.0)


def _lanczos(x: Value) -> Value:
    value = _sinc(x) * _sinc(x / LANCZOS_SUPPORT)
    return ((x >= -LANCZOS_SUPPORT) & (x < LANCZOS_SUPPORT)).where(value, 0.0)


_FILTERS: dict[str, Callable[[Value], Value]] = {
    "box": _box,
    "bilinear": _bilinear,
    "hamming": _hamming,
    "bicubic": _bicubic,
    "lanczos": _lanczos,
}
