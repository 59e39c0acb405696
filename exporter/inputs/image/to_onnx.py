"""Image preprocessing as standard ONNX operators, for any image size known only at run time."""

import onnx

from exporter.conversion.node_builder import NodeBuilder
from exporter.inputs.image.registry import STEPS
from exporter.inputs.image.step_module import PixelNodes
from exporter.inputs.image.steps import resize
from runtime.geometry.preparation import with_crops
from runtime.manifest import Preprocessing, Resize


def geometry_nodes(preprocessing: Preprocessing, *, image: str, pixels: str, wide: bool = False) -> NodeBuilder:
    """Return nodes from ``image`` [batch, any height, any width, channels] to ``pixels`` of its type, prepared.

    ``wide`` pixels are uint16, and int32 in between.
    """
    nodes = PixelNodes("geometry", wide=wide)
    values = nodes.value(image)
    values = values.cast(onnx.TensorProto.INT32) if wide else values
    values = nodes.apply("Transpose", values, perm=[0, 3, 1, 2])
    for step, crop in with_crops(preprocessing.geometry):
        if isinstance(step, Resize):
            values = resize.write_onnx(nodes, values, step, crop)
        else:
            values = STEPS[type(step)].write_onnx(nodes, values, step)
    values = nodes.apply("Transpose", values, perm=[0, 2, 3, 1], output=None if wide else pixels)
    if wide:
        nodes.apply("Cast", values, to=onnx.TensorProto.UINT16, output=pixels)
    return nodes


def arithmetic_nodes(preprocessing: Preprocessing, *, pixels: str, normalized: str) -> NodeBuilder:
    """Return nodes from ``pixels`` [batch, height, width, channels] to float32 ``normalized``, channels first."""
    nodes = NodeBuilder("arithmetic")
    values = nodes.apply("Transpose", pixels, perm=[0, 3, 1, 2]).cast(onnx.TensorProto.FLOAT)
    for step in preprocessing.arithmetic:
        values = STEPS[type(step)].write_onnx(nodes, values, step)
    nodes.apply("Identity", values, output=normalized)
    return nodes
