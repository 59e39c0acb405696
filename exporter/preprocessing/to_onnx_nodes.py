"""Writer: the manifest's steps as standard ONNX operators, for any image size known only at run time.

Sizes and positions follow the functions of ``runtime/geometry.py``, in int64 arithmetic on one-element tensors.
"""

from typing import Any

import onnx
from onnx import helper

from exporter.onnx_nodes import Nodes
from runtime.manifest import CenterCrop, Normalize, Preprocessing, Resize, ToFloat

# 'antialias' with 'exclude_outside' renormalises the filter at the borders as Pillow does: within 1 grey level on
# uint8, where exclude_outside=0 is off by up to 9 on the border rows. Pillow's bicubic has a = -0.5.
_RESIZE: dict[str, dict[str, Any]] = {
    "bilinear": {"mode": "linear"},
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5},
}
_PILLOW: dict[str, Any] = {"antialias": 1, "exclude_outside": 1, "coordinate_transformation_mode": "half_pixel"}

_HEIGHT, _WIDTH = 2, 3


def geometry_nodes(preprocessing: Preprocessing, *, image: str, pixels: str) -> Nodes:
    """Return nodes from uint8 ``image`` [batch, any height, any width, 3] to uint8 ``pixels`` of the prepared size."""
    nodes = Nodes("geometry")
    current = nodes.add("Transpose", image, perm=[0, 3, 1, 2])
    # The length that each axis is known to have at least: cropping less than that needs no padding.
    known = (1, 1)
    for step in preprocessing.geometry:
        if isinstance(step, Resize):
            current = _resize(nodes, current, step)
            known = step.size if isinstance(step.size, tuple) else (step.size, step.size)
        else:
            current = _center_crop(nodes, current, step, known)
            known = (step.height, step.width)
    nodes.add("Transpose", current, perm=[0, 2, 3, 1], output=pixels)
    return nodes


def arithmetic_nodes(preprocessing: Preprocessing, *, pixels: str, normalized: str) -> Nodes:
    """Return nodes from uint8 ``pixels`` [batch, height, width, 3] to float32 ``normalized`` [batch, 3, ...]."""
    nodes = Nodes("arithmetic")
    current = nodes.add("Transpose", pixels, perm=[0, 3, 1, 2])
    current = nodes.add("Cast", current, to=onnx.TensorProto.FLOAT)
    for step in preprocessing.arithmetic:
        match step:
            case ToFloat():
                current = nodes.add("Div", current, nodes.floats([step.divisor], shape=[], name="divisor"))
            case Normalize():
                current = nodes.add("Sub", current, nodes.floats(step.mean, shape=[-1, 1, 1], name="mean"))
                current = nodes.add("Div", current, nodes.floats(step.std, shape=[-1, 1, 1], name="std"))
    nodes.add("Identity", current, output=normalized)
    return nodes


def _resize(nodes: Nodes, pixels: str, step: Resize) -> str:
    size = nodes.add("Shape", pixels, start=_HEIGHT, end=_WIDTH + 1)
    if isinstance(step.size, tuple):
        resized = nodes.integers(*step.size)
    else:
        scaled = nodes.add("Mul", size, nodes.integers(step.size))
        resized = nodes.add("Div", scaled, nodes.add("ReduceMin", size, keepdims=1))
    if step.axis_order == "horizontal_first":
        return _two_passes(nodes, pixels, resized, step, (_WIDTH, _HEIGHT))
    # Which pass comes first shows in the pixels (see runtime.geometry.vertical_first); only the image's size tells.
    cut = nodes.add("Sub", size, resized)
    rows_cut = nodes.add("Gather", cut, nodes.integers(0))
    columns_cut = nodes.add("Gather", cut, nodes.integers(1))
    enough = nodes.add("Greater", rows_cut, nodes.add("Mul", columns_cut, nodes.integers(2)))
    any_cut = nodes.add("Greater", rows_cut, nodes.integers(0))
    vertical_first = nodes.add("Squeeze", nodes.add("And", enough, any_cut))
    branches = {}
    for branch, axes in (("then_branch", (_HEIGHT, _WIDTH)), ("else_branch", (_WIDTH, _HEIGHT))):
        inner = Nodes(f"{nodes.prefix}/{branch}")
        output = _two_passes(inner, pixels, resized, step, axes)
        info = helper.make_tensor_value_info(output, onnx.TensorProto.UINT8, None)
        branches[branch] = helper.make_graph(inner.nodes, branch, [], [info], list(inner.constants.values()))
    return nodes.add("If", vertical_first, **branches)


def _two_passes(nodes: Nodes, pixels: str, resized: str, step: Resize, axes: tuple[int, int]) -> str:
    for axis in axes:
        # onnxruntime's shape inference rejects 'axes' with sizes that it cannot know, so all four sizes are given.
        length = nodes.add("Gather", resized, nodes.integers(axis - _HEIGHT))
        before = nodes.add("Shape", pixels, start=0, end=axis)
        parts = [before, length]
        if axis == _HEIGHT:
            parts.append(nodes.add("Shape", pixels, start=_WIDTH, end=_WIDTH + 1))
        sizes = nodes.add("Concat", *parts, axis=0)
        pixels = nodes.add("Resize", pixels, "", "", sizes, **_RESIZE[step.interpolation], **_PILLOW)
    return pixels


def _center_crop(nodes: Nodes, pixels: str, step: CenterCrop, known: tuple[int, int]) -> str:
    crop = nodes.integers(step.height, step.width)
    zero, two = nodes.integers(0), nodes.integers(2)
    if known[0] < step.height or known[1] < step.width:
        size = nodes.add("Shape", pixels, start=_HEIGHT, end=_WIDTH + 1)
        lacking = nodes.add("Max", nodes.add("Sub", crop, size), zero)
        before = nodes.add("Div", lacking, two)
        pads = nodes.add("Concat", before, nodes.add("Sub", lacking, before), axis=0)
        fill = nodes.add("Cast", zero, to=onnx.TensorProto.UINT8)
        axes = nodes.integers(_HEIGHT, _WIDTH)
        pixels = nodes.add("Pad", pixels, pads, nodes.add("Squeeze", fill), axes)
    size = nodes.add("Shape", pixels, start=_HEIGHT, end=_WIDTH + 1)
    excess = nodes.add("Sub", size, crop)
    # round(excess / 2), half to even: the quotient, plus one where the remainder is 1 and the quotient odd.
    half = nodes.add("Div", excess, two)
    odd = nodes.add("Mul", nodes.add("Mod", excess, two), nodes.add("Mod", half, two))
    start = nodes.add("Add", half, odd)
    return nodes.add("Slice", pixels, start, nodes.add("Add", start, crop), nodes.integers(_HEIGHT, _WIDTH))
