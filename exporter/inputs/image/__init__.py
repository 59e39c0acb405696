"""Image preprocessing: training transforms to manifest steps, ONNX nodes and TorchScript.

A new step takes a type in ``runtime/manifest/steps.py``, a module in ``runtime/geometry/steps`` and one in
``exporter/inputs/image/steps``, and a line in the registry of each side; see docs/contributing/development.md.
"""

from exporter.inputs.image.opencv_transforms import Letterbox, OpenCVResize
from exporter.inputs.image.pixel_format import GRAY, RGB, PixelFormat, read_pixel_format
from exporter.inputs.image.plain_options import TransformParts, transform_of_parts
from exporter.inputs.image.to_onnx import arithmetic_nodes, geometry_nodes
from exporter.inputs.image.to_torchscript import Arithmetic, Geometry
from exporter.inputs.image.transform import (
    TrainingTransform,
    read_hugging_face,
    read_preset,
    read_timm,
    read_transform,
)

__all__ = [
    "GRAY",
    "RGB",
    "Arithmetic",
    "Geometry",
    "Letterbox",
    "OpenCVResize",
    "PixelFormat",
    "TrainingTransform",
    "TransformParts",
    "arithmetic_nodes",
    "geometry_nodes",
    "read_hugging_face",
    "read_pixel_format",
    "read_preset",
    "read_timm",
    "read_transform",
    "transform_of_parts",
]
