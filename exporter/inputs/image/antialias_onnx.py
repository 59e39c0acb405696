"""Pillow's and torch's resampling as standard ONNX operators, to the last bit.

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

import numpy as np
import onnx
from onnx import helper

from exporter.conversion.node_builder import NodeBuilder
from exporter.inputs.image.plain_onnx import fixed_one
from runtime.manifest import Resize

_DOUBLE, _INT64, _UINT8 = onnx.TensorProto.DOUBLE, onnx.TensorProto.INT64, onnx.TensorProto.UINT8

# Output pixels a band: more of them make larger and faster products, with more zeros in them.
_BAND = 16

# Pillow's PRECISION_BITS for 8-bit channels.
_PRECISION_BITS = 22

_SUPPORT: dict[str, float] = {"box": 0.5, "bilinear": 1.0, "hamming": 1.0, "bicubic": 2.0, "lanczos": 3.0}


def resample_nodes(
    nodes: NodeBuilder, pixels: str, step: Resize, *, axis: int, resized: str, start: str, length: str
) -> str:
    """Return one pass of ``step`` along ``axis`` of uint8 ``pixels`` [batch, channels, height, width].

    The axis is resized to ``resized`` pixels, of which ``length`` from ``start`` on are computed; all int64 [1].
    """
    size = nodes.cast(nodes.add("Shape", pixels, start=axis, end=axis + 1), _DOUBLE)
    scale = nodes.add("Div", size, nodes.cast(resized, _DOUBLE))
    stretch = nodes.add("Max", scale, nodes.double(1.0))
    support = nodes.add("Mul", stretch, nodes.double(_SUPPORT[step.interpolation]))
    half = nodes.double(0.5)

    # Output positions, in bands; the last band repeats the last position.
    bands = nodes.add("Div", nodes.add("Add", length, nodes.integers(_BAND - 1)), nodes.integers(_BAND))
    last = nodes.add("Add", start, nodes.add("Sub", length, nodes.integers(1)))
    position = nodes.add(
        "Range",
        nodes.integer(0),
        nodes.add("Squeeze", nodes.add("Mul", bands, nodes.integers(_BAND))),
        nodes.integer(1),
    )
    position = nodes.add("Min", nodes.add("Add", position, start), last)
    center = nodes.add("Mul", nodes.add("Add", nodes.cast(position, _DOUBLE), half), scale)
    first = nodes.add("Floor", nodes.add("Add", nodes.add("Sub", center, support), half))
    first = nodes.add("Max", first, nodes.double(0.0))
    end = nodes.add("Min", nodes.add("Floor", nodes.add("Add", nodes.add("Add", center, support), half)), size)

    grid = nodes.integers(-1, _BAND)
    center, first, end = (nodes.add("Reshape", values, grid) for values in (center, first, end))
    band_first = nodes.add("ReduceMin", first, nodes.integers(1), keepdims=1)
    band_end = nodes.add("ReduceMax", end, nodes.integers(1), keepdims=1)
    span = nodes.add("ReduceMax", nodes.add("Sub", band_end, band_first), keepdims=0)
    # Every band reads the same number of pixels; one near the far edge starts earlier.
    band_first = nodes.add("Min", band_first, nodes.add("Sub", size, span))

    offsets = nodes.cast(nodes.add("Range", nodes.integer(0), nodes.cast(span, _INT64), nodes.integer(1)), _DOUBLE)
    # [bands, span, 1] input positions against [bands, 1, band] output positions.
    source = nodes.add("Unsqueeze", nodes.add("Add", band_first, offsets), nodes.integers(2))
    center, first, end = (nodes.add("Unsqueeze", values, nodes.integers(1)) for values in (center, first, end))
    distance = nodes.add("Add", nodes.add("Sub", source, center), half)
    weights = _FILTERS[step.interpolation](nodes, nodes.add("Div", distance, stretch))
    inside = nodes.add("And", nodes.add("GreaterOrEqual", source, first), nodes.add("Less", source, end))
    weights = nodes.add("Where", inside, weights, nodes.double(0.0))
    weights = nodes.add("Div", weights, nodes.add("ReduceSum", weights, nodes.integers(1), keepdims=1))
    one = _fixed_one(nodes, weights, step)
    magnitude = nodes.add("Floor", nodes.add("Add", nodes.add("Mul", nodes.add("Abs", weights), one), half))
    weights = nodes.add("Div", nodes.add("Mul", nodes.add("Sign", weights), magnitude), one)
    if axis == 2:
        weights = nodes.add("Transpose", weights, perm=[0, 2, 1])

    starts = nodes.cast(band_first, _INT64)
    ends = nodes.add("Add", starts, nodes.cast(span, _INT64))
    return _over_bands(nodes, pixels, axis, bands, starts, ends, weights, length)


def _fixed_one(nodes: NodeBuilder, weights: str, step: Resize) -> str:
    """Return 1 in the fixed point of the weights: a power of two, float64 scalar."""
    if step.implementation == "pillow":
        return nodes.double(2.0**_PRECISION_BITS)
    return fixed_one(nodes, nodes.add("ReduceMax", weights, keepdims=0))


def _over_bands(
    nodes: NodeBuilder, pixels: str, axis: int, bands: str, starts: str, ends: str, weights: str, length: str
) -> str:
    body = NodeBuilder(f"{nodes.prefix}/band{len(nodes.nodes)}")
    index, going = f"{body.prefix}/index", f"{body.prefix}/going"
    span = body.add(
        "Slice", pixels, body.add("Gather", starts, index), body.add("Gather", ends, index), body.integers(axis)
    )
    factors = [body.cast(span, _DOUBLE), body.add("Gather", weights, index)]
    product = body.add("MatMul", *(reversed(factors) if axis == 2 else factors))
    level = body.add("Floor", body.add("Add", product, body.double(0.5)))
    level = body.cast(body.add("Clip", level, body.double(0.0), body.double(255.0)), _UINT8)
    still = body.add("Identity", going)
    graph = helper.make_graph(
        body.nodes,
        "band",
        [
            helper.make_tensor_value_info(index, _INT64, []),
            helper.make_tensor_value_info(going, onnx.TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info(still, onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info(level, _UINT8, None),
        ],
        list(body.constants.values()),
    )
    # [bands, batch, channels, height, width], one of the last two being a band's length.
    banded = nodes.add("Loop", nodes.add("Squeeze", bands), "", body=graph)
    if axis == 2:
        joined = nodes.add("Transpose", banded, perm=[1, 2, 0, 3, 4])
        shape = nodes.add(
            "Concat", nodes.add("Shape", pixels, start=0, end=2), nodes.integers(-1), _width(nodes, pixels), axis=0
        )
    else:
        joined = nodes.add("Transpose", banded, perm=[1, 2, 3, 0, 4])
        shape = nodes.add("Concat", nodes.add("Shape", pixels, start=0, end=3), nodes.integers(-1), axis=0)
    whole = nodes.add("Reshape", joined, shape)
    return nodes.add("Slice", whole, nodes.integers(0), length, nodes.integers(axis))


def _width(nodes: NodeBuilder, pixels: str) -> str:
    return nodes.add("Shape", pixels, start=3, end=4)


def _box(nodes: NodeBuilder, x: str) -> str:
    low = nodes.add("Greater", x, nodes.double(-0.5))
    high = nodes.add("LessOrEqual", x, nodes.double(0.5))
    return nodes.cast(nodes.add("And", low, high), _DOUBLE)


def _bilinear(nodes: NodeBuilder, x: str) -> str:
    return nodes.add("Max", nodes.add("Sub", nodes.double(1.0), nodes.add("Abs", x)), nodes.double(0.0))


def _bicubic(nodes: NodeBuilder, x: str) -> str:
    # Keys' kernel with a = -0.5, in Horner's form as Pillow writes it.
    x = nodes.add("Abs", x)
    near = nodes.add("Sub", nodes.add("Mul", nodes.double(1.5), x), nodes.double(2.5))
    near = nodes.add("Add", nodes.add("Mul", nodes.add("Mul", near, x), x), nodes.double(1.0))
    far = nodes.add("Mul", nodes.add("Sub", x, nodes.double(5.0)), x)
    far = nodes.add("Sub", nodes.add("Mul", nodes.add("Add", far, nodes.double(8.0)), x), nodes.double(4.0))
    far = nodes.add("Mul", far, nodes.double(-0.5))
    far = nodes.add("Where", nodes.add("Less", x, nodes.double(2.0)), far, nodes.double(0.0))
    return nodes.add("Where", nodes.add("Less", x, nodes.double(1.0)), near, far)


def _sinc(nodes: NodeBuilder, x: str) -> str:
    zero = nodes.add("Equal", x, nodes.double(0.0))
    angle = nodes.add("Mul", x, nodes.double(math.pi))
    safe = nodes.add("Where", zero, nodes.double(1.0), angle)
    return nodes.add("Where", zero, nodes.double(1.0), nodes.add("Div", nodes.add("Sin", safe), safe))


def _hamming(nodes: NodeBuilder, x: str) -> str:
    # Pillow's constants are the float32 values 0.54f and 0.46f.
    x = nodes.add("Abs", x)
    angle = nodes.add("Mul", x, nodes.double(math.pi))
    window = nodes.add("Mul", nodes.double(float(np.float32(0.46))), nodes.add("Cos", angle))
    window = nodes.add("Add", nodes.double(float(np.float32(0.54))), window)
    value = nodes.add("Mul", _sinc(nodes, x), window)
    value = nodes.add("Where", nodes.add("Equal", x, nodes.double(0.0)), nodes.double(1.0), value)
    return nodes.add("Where", nodes.add("Less", x, nodes.double(1.0)), value, nodes.double(0.0))


def _lanczos(nodes: NodeBuilder, x: str) -> str:
    value = nodes.add("Mul", _sinc(nodes, x), _sinc(nodes, nodes.add("Div", x, nodes.double(3.0))))
    inside = nodes.add(
        "And", nodes.add("GreaterOrEqual", x, nodes.double(-3.0)), nodes.add("Less", x, nodes.double(3.0))
    )
    return nodes.add("Where", inside, value, nodes.double(0.0))


_FILTERS: dict[str, Callable[[NodeBuilder, str], str]] = {
    "box": _box,
    "bilinear": _bilinear,
    "hamming": _hamming,
    "bicubic": _bicubic,
    "lanczos": _lanczos,
}
