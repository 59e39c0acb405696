"""The training transform: read into the manifest's steps, and written as an ONNX graph and a TorchScript module.

Adding a step takes a type in ``runtime/manifest/steps.py``, its execution on the host in ``runtime/geometry.py``, and
one function each in ``to_onnx_nodes.py``, ``to_module.py`` and ``torchvision_steps.py``, or the reader that meets it.
"""

from exporter.preprocessing.opencv import Letterbox, OpenCVResize
from exporter.preprocessing.options import transform_of_options
from exporter.preprocessing.pixel_format import GRAY, RGB, PixelFormat, read_pixel_format
from exporter.preprocessing.reading import (
    HUGGING_FACE,
    TIMM,
    Reading,
    read_hugging_face,
    read_preset,
    read_timm,
    read_transform,
)
from exporter.preprocessing.to_module import Arithmetic, Geometry
from exporter.preprocessing.to_onnx_nodes import arithmetic_nodes, geometry_nodes

__all__ = [
    "GRAY",
    "HUGGING_FACE",
    "RGB",
    "TIMM",
    "Arithmetic",
    "Geometry",
    "Letterbox",
    "OpenCVResize",
    "PixelFormat",
    "Reading",
    "arithmetic_nodes",
    "geometry_nodes",
    "read_hugging_face",
    "read_pixel_format",
    "read_preset",
    "read_timm",
    "read_transform",
    "transform_of_options",
]
