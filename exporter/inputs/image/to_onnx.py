"""Writer: the manifest's steps as standard ONNX operators, for any image size known only at run time.

Sizes and positions follow the functions of ``runtime/geometry/sizes.py``, in int64 arithmetic on one-element tensors.
"""

from collections.abc import Sequence

import onnx
from onnx import helper

from exporter.conversion.node_builder import NodeBuilder
from exporter.inputs.image.antialias_onnx import resample_nodes
from exporter.inputs.image.plain_onnx import mix_as_opencv, mix_as_torch, nearest
from runtime.manifest import (
    CenterCrop,
    GeometryStep,
    Grayscale,
    KeepRatio,
    Normalize,
    Pad,
    Preprocessing,
    Resize,
    ToFloat,
)

_HEIGHT, _WIDTH = 2, 3
_UINT8, _INT32, _INT64 = onnx.TensorProto.UINT8, onnx.TensorProto.INT32, onnx.TensorProto.INT64
_DOUBLE = onnx.TensorProto.DOUBLE

# Pillow's L24 macro: ITU-R 601 luma in 16-bit fixed point.
_LUMA = (19595, 38470, 7471)


def geometry_nodes(preprocessing: Preprocessing, *, image: str, pixels: str, wide: bool = False) -> NodeBuilder:
    """Return nodes from ``image`` [batch, any height, any width, channels] to ``pixels`` of its type, prepared.

    ``wide`` pixels are uint16, which few runtimes can pad: they are int32 in between.
    """
    nodes = NodeBuilder("geometry")
    current = nodes.cast(image, _INT32) if wide else image
    current = nodes.add("Transpose", current, perm=[0, 3, 1, 2])
    steps = list(preprocessing.geometry)
    while steps:
        step = steps.pop(0)
        match step:
            case Resize():
                crop = steps.pop(0) if _crop_fits(step, steps) else None
                current = _resize(nodes, current, step, crop if isinstance(crop, CenterCrop) else None)
            case CenterCrop():
                current = _center_crop(nodes, current, step, wide)
            case Pad():
                current = _pad(nodes, current, step, wide)
            case Grayscale():
                current = _grayscale(nodes, current, step)
    if wide:
        current = nodes.add("Transpose", current, perm=[0, 2, 3, 1])
        nodes.add("Cast", current, to=onnx.TensorProto.UINT16, output=pixels)
    else:
        nodes.add("Transpose", current, perm=[0, 2, 3, 1], output=pixels)
    return nodes


def arithmetic_nodes(preprocessing: Preprocessing, *, pixels: str, normalized: str) -> NodeBuilder:
    """Return nodes from ``pixels`` [batch, height, width, channels] to float32 ``normalized``, channels first."""
    nodes = NodeBuilder("arithmetic")
    current = nodes.add("Transpose", pixels, perm=[0, 3, 1, 2])
    current = nodes.cast(current, onnx.TensorProto.FLOAT)
    for step in preprocessing.arithmetic:
        match step:
            case ToFloat():
                current = nodes.add("Div", current, nodes.floats([step.divisor], shape=[], name="divisor"))
            case Normalize():
                current = nodes.add("Sub", current, nodes.floats(step.mean, shape=[-1, 1, 1], name="mean"))
                current = nodes.add("Div", current, nodes.floats(step.std, shape=[-1, 1, 1], name="std"))
    nodes.add("Identity", current, output=normalized)
    return nodes


def _crop_fits(step: Resize, following: Sequence[GeometryStep]) -> bool:
    """Return whether a crop follows that is never larger than what ``step`` gives, so that nothing is padded.

    torch fits the precision of all weights to the largest of them, so none may be left out there.
    """
    if not following or not isinstance(following[0], CenterCrop) or step.implementation != "pillow":
        return False
    crop = following[0]
    if isinstance(step.size, KeepRatio):
        return False
    if isinstance(step.size, tuple):
        return crop.height <= step.size[0] and crop.width <= step.size[1]
    # max_size may cut the short side to less than 'size'.
    return step.max_size is None and max(crop.height, crop.width) <= step.size


def _resize(nodes: NodeBuilder, pixels: str, step: Resize, crop: CenterCrop | None) -> str:
    size = _size_of(nodes, pixels)
    resized = _resized_size(nodes, size, step)
    windows = _windows(nodes, resized, crop)
    if step.interpolation in {"nearest", "nearest_exact"}:
        for axis in (_HEIGHT, _WIDTH):
            start, length = windows[axis]
            pixels = nearest(
                nodes, pixels, step, axis=axis, resized=_at(nodes, resized, axis), start=start, length=length
            )
        return pixels
    if step.implementation == "opencv":
        height, width = _at(nodes, resized, _HEIGHT), _at(nodes, resized, _WIDTH)
        return mix_as_opencv(nodes, pixels, height=height, width=width)
    if not step.antialias:
        for axis in (_WIDTH, _HEIGHT):
            pixels = mix_as_torch(nodes, pixels, axis=axis, resized=_at(nodes, resized, axis))
        return pixels
    if step.axis_order == "horizontal_first":
        return _two_passes(nodes, pixels, resized, windows, step, (_WIDTH, _HEIGHT))
    # Which pass comes first shows in the pixels (see geometry.sizes.vertical_first); only the image's size tells.
    cut = nodes.add("Sub", size, resized)
    rows_cut, columns_cut = _at(nodes, cut, _HEIGHT), _at(nodes, cut, _WIDTH)
    enough = nodes.add("Greater", rows_cut, nodes.add("Mul", columns_cut, nodes.integers(2)))
    any_cut = nodes.add("Greater", rows_cut, nodes.integers(0))
    vertical_first = nodes.add("Squeeze", nodes.add("And", enough, any_cut))
    branches = {}
    for branch, axes in (("then_branch", (_HEIGHT, _WIDTH)), ("else_branch", (_WIDTH, _HEIGHT))):
        inner = NodeBuilder(f"{nodes.prefix}/{branch}{len(nodes.nodes)}")
        output = _two_passes(inner, pixels, resized, windows, step, axes)
        info = helper.make_tensor_value_info(output, _UINT8, None)
        branches[branch] = helper.make_graph(inner.nodes, branch, [], [info], list(inner.constants.values()))
    return nodes.add("If", vertical_first, **branches)


def _resized_size(nodes: NodeBuilder, size: str, step: Resize) -> str:
    """Return the new (height, width), int64 [2], of an image of ``size``, int64 [2]."""
    if isinstance(step.size, tuple):
        return nodes.integers(*step.size)
    if isinstance(step.size, KeepRatio):
        return _fitted_size(nodes, size, step.size)
    short = nodes.add("ReduceMin", size, keepdims=1)
    resized = nodes.add("Div", nodes.add("Mul", size, nodes.integers(step.size)), short)
    if step.max_size is None:
        return resized
    long = nodes.add("ReduceMax", resized, keepdims=1)
    limit = nodes.integers(step.max_size)
    limited = nodes.add("Max", nodes.add("Div", nodes.add("Mul", resized, limit), long), nodes.integers(1))
    return nodes.add("Where", nodes.add("Greater", long, limit), limited, resized)


def _fitted_size(nodes: NodeBuilder, size: str, box: KeepRatio) -> str:
    sides, wanted = nodes.cast(size, _DOUBLE), nodes.doubles([box.height, box.width], name=f"box{len(nodes.nodes)}")
    largest = (box.side == "inside") == (box.arithmetic == "divide")
    ratios = nodes.add("Div", sides, wanted) if box.arithmetic == "divide" else nodes.add("Div", wanted, sides)
    ratio = nodes.add("ReduceMax" if largest else "ReduceMin", ratios, keepdims=1)
    if not box.enlarge:
        ratio = nodes.add("Max" if box.arithmetic == "divide" else "Min", ratio, nodes.double(1.0))
    fitted = nodes.add("Div" if box.arithmetic == "divide" else "Mul", sides, ratio)
    return nodes.add("Max", nodes.cast(nodes.add("Round", fitted), _INT64), nodes.integers(1))


def _windows(nodes: NodeBuilder, resized: str, crop: CenterCrop | None) -> dict[int, tuple[str, str]]:
    """Return, by axis, the start and the length of the pixels that are wanted of a resized image."""
    if crop is None:
        return {axis: (nodes.integers(0), _at(nodes, resized, axis)) for axis in (_HEIGHT, _WIDTH)}
    lengths = {_HEIGHT: crop.height, _WIDTH: crop.width}
    return {
        axis: (_origin(nodes, _at(nodes, resized, axis), nodes.integers(length), crop), nodes.integers(length))
        for axis, length in lengths.items()
    }


def _two_passes(
    nodes: NodeBuilder,
    pixels: str,
    resized: str,
    windows: dict[int, tuple[str, str]],
    step: Resize,
    axes: tuple[int, int],
) -> str:
    for axis in axes:
        start, length = windows[axis]
        pixels = resample_nodes(
            nodes, pixels, step, axis=axis, resized=_at(nodes, resized, axis), start=start, length=length
        )
    return pixels


def _center_crop(nodes: NodeBuilder, pixels: str, step: CenterCrop, wide: bool) -> str:
    crop, zero, two = nodes.integers(step.height, step.width), nodes.integers(0), nodes.integers(2)
    lacking = nodes.add("Max", nodes.add("Sub", crop, _size_of(nodes, pixels)), zero)
    before = nodes.add("Div", lacking, two)
    # All eight lengths, though ONNX would take 'axes': onnxruntime 1.31 miscounts them when it moves a Transpose past.
    none = nodes.integers(0, 0)
    pads = nodes.add("Concat", none, before, none, nodes.add("Sub", lacking, before), axis=0)
    pixels = _framed(nodes, pixels, pads, step.fill, wide)
    start = _origin(nodes, _size_of(nodes, pixels), crop, step)
    return nodes.add("Slice", pixels, start, nodes.add("Add", start, crop), nodes.integers(_HEIGHT, _WIDTH))


def _origin(nodes: NodeBuilder, size: str, crop: str, step: CenterCrop) -> str:
    """Return where a centred crop starts that is no larger than the image: half of the excess, rounded as it says."""
    two = nodes.integers(2)
    excess = nodes.add("Sub", size, crop)
    half = nodes.add("Div", excess, two)
    if step.rounding == "down":
        return half
    # Half to even: plus one where the remainder is 1 and the quotient odd.
    return nodes.add("Add", half, nodes.add("Mul", nodes.add("Mod", excess, two), nodes.add("Mod", half, two)))


def _pad(nodes: NodeBuilder, pixels: str, step: Pad, wide: bool) -> str:
    if step.mode == "constant":
        pads = nodes.integers(0, 0, step.top, step.left, 0, 0, step.bottom, step.right)
        return _framed(nodes, pixels, pads, step.fill, wide)
    for axis, before, after in ((_HEIGHT, step.top, step.bottom), (_WIDTH, step.left, step.right)):
        size = nodes.add("Shape", pixels, start=axis, end=axis + 1)
        end = nodes.add("Squeeze", nodes.add("Add", size, nodes.integers(after)))
        position = nodes.add("Range", nodes.integer(-before), end, nodes.integer(1))
        pixels = nodes.add("Gather", pixels, _inside(nodes, position, size, step.mode), axis=axis)
    return pixels


def _framed(nodes: NodeBuilder, pixels: str, pads: str, fill: Sequence[int], wide: bool) -> str:
    """Return the pixels with a frame of one color: one channel at a time where it has several values."""
    if len(fill) == 1:
        return nodes.add("Pad", pixels, pads, _level(nodes, fill[0], wide))
    one = nodes.integers(1)
    planes = [
        nodes.add(
            "Pad",
            nodes.add("Slice", pixels, nodes.integers(channel), nodes.integers(channel + 1), one),
            pads,
            _level(nodes, value, wide),
        )
        for channel, value in enumerate(fill)
    ]
    return nodes.add("Concat", *planes, axis=1)


def _level(nodes: NodeBuilder, value: int, wide: bool) -> str:
    return nodes.int32s([value], shape=[], name=f"level_{value}") if wide else nodes.byte(value)


def _inside(nodes: NodeBuilder, position: str, size: str, mode: str) -> str:
    """Return which pixel of an axis stands at ``position`` of the padded one, as ``numpy.pad`` has it."""
    zero, one = nodes.integers(0), nodes.integers(1)
    last = nodes.add("Sub", size, one)
    if mode == "edge":
        return nodes.add("Min", nodes.add("Max", position, zero), last)
    # Mirrored about the edge of the last pixel, which then stands twice, or about its middle.
    far = nodes.add("Add", last, size if mode == "symmetric" else last)
    period = nodes.add("Add", far, one) if mode == "symmetric" else nodes.add("Max", far, one)
    phase = nodes.add("Mod", position, period)
    return nodes.add("Min", phase, nodes.add("Sub", far, phase))


def _grayscale(nodes: NodeBuilder, pixels: str, step: Grayscale) -> str:
    weighted = nodes.add("Mul", nodes.cast(pixels, _INT32), nodes.int32s(_LUMA, shape=[3, 1, 1], name="luma"))
    total = nodes.add("ReduceSum", weighted, nodes.integers(1), keepdims=1)
    rounded = nodes.add("Add", total, nodes.int32s([0x8000], shape=[], name="half"))
    gray = nodes.cast(nodes.add("Div", rounded, nodes.int32s([0x10000], shape=[], name="one")), _UINT8)
    return gray if step.channels == 1 else nodes.add("Concat", gray, gray, gray, axis=1)


def _size_of(nodes: NodeBuilder, pixels: str) -> str:
    return nodes.add("Shape", pixels, start=_HEIGHT, end=_WIDTH + 1)


def _at(nodes: NodeBuilder, size: str, axis: int) -> str:
    return nodes.add("Gather", size, nodes.integers(axis - _HEIGHT))
