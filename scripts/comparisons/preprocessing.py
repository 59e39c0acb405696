"""Differences of ready-made preprocessing from torchvision's pixels: the table of docs/guides/transforms.md."""

import contextlib
import io
import logging
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime_extensions import get_library_path
from onnxruntime_extensions.tools import pre_post_processing as steps
from openvino.preprocess.torchvision import PreprocessConverter
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import nn
from torchvision import transforms

from exporter.inputs.image import Geometry, geometry_nodes, read_transform
from material.shipped import shipped_photos
from runtime.geometry.preparation import prepare

# Photos of awkward sizes, (height, width): residues that round otherwise, portraits, one long and one tall.
SIZES = ((427, 640), (640, 427), (300, 451), (512, 512), (397, 301), (701, 290), (160, 613), (257, 255), (333, 500))
LARGE = (1080, 1920)
TRANSFORM = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()])

Way = Callable[[Image.Image], NDArray[np.uint8]]


def main() -> None:
    photos = list(shipped_photos().values())
    images = [
        photos[row % 4].resize((width, height), Image.Resampling.LANCZOS)
        for row, (height, width) in enumerate((*SIZES, LARGE))
    ]
    expected = [to_pixels(TRANSFORM(image).numpy()) for image in images]
    table = Table("", "worst gray level", "pixels off by more than 1", "photos off by more than 1", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, way in ways().items():
        with quiet():
            differences = [
                np.abs(way(image).astype(int) - pixels) for image, pixels in zip(images, expected, strict=True)
            ]
        share = np.mean([(difference > 1).mean() for difference in differences])
        wrong = sum(difference.max() > 1 for difference in differences)
        table.add_row(name, str(max(difference.max() for difference in differences)), f"{share:.1%}", f"{wrong} of 10")
    Console(width=110).print(table)


def ways() -> dict[str, Way]:
    reading = read_transform(TRANSFORM)
    module = torch.jit.script(Geometry(reading.steps))
    return {
        "truecopy, host": lambda image: prepare(image, reading.steps.geometry),
        "truecopy, model.onnx": truecopy_graph(reading),
        "truecopy, TorchScript": lambda image: module(torch.from_numpy(np.asarray(image)[np.newaxis].copy()))[
            0
        ].numpy(),
        f"onnxruntime-extensions {version('onnxruntime-extensions')}, preset": extensions(16),
        "the same, with antialias (opset 18)": extensions(18),
        f"OpenVINO {version('openvino')}, from_torchvision": openvino_converted(),
        f"OpenCV {cv2.__version__}, resize and crop": opencv,
    }


def to_pixels(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return floats [3, height, width] from 0 to 1 as gray levels, channels last."""
    return np.rint(values.transpose(1, 2, 0) * 255).clip(0, 255).astype(np.uint8)


def truecopy_graph(reading) -> Way:
    nodes = geometry_nodes(reading.steps, image="x", pixels="y")
    info = helper.make_tensor_value_info
    inputs = [info("x", TensorProto.UINT8, ["n", "h", "w", 3])]
    outputs = [info("y", TensorProto.UINT8, ["n", 224, 224, 3])]
    graph = helper.make_graph(nodes.nodes, "geometry", inputs, outputs, list(nodes.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"x": np.asarray(image)[np.newaxis]})[0][0]


def identity() -> onnx.ModelProto:
    """Return a network that gives back its input, so that only what is put before it shows."""
    info = helper.make_tensor_value_info
    values = [info(name, TensorProto.FLOAT, [1, 3, 224, 224]) for name in ("input", "output")]
    graph = helper.make_graph([helper.make_node("Identity", ["input"], ["output"])], "net", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)


def extensions(opset: int) -> Way:
    """The preset for ImageNet models, without its normalization, from the bytes of a PNG."""
    pipeline = steps.PrePostProcessor([steps.create_named_value("image", TensorProto.UINT8, ["bytes"])], opset)
    pipeline.add_pre_processing(
        [
            steps.ConvertImageToBGR(),
            steps.ReverseAxis(axis=2, dim_value=3, name="to_rgb"),
            steps.Resize(256),
            steps.CenterCrop(224, 224),
            steps.ImageBytesToFloat(),
            steps.ChannelsLastToChannelsFirst(),
            steps.Unsqueeze([0]),
        ]
    )
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(get_library_path())
    model = pipeline.run(identity()).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def way(image: Image.Image) -> NDArray[np.uint8]:
        stream = io.BytesIO()
        image.save(stream, "PNG")
        return to_pixels(session.run(None, {"image": np.frombuffer(stream.getvalue(), np.uint8)})[0][0])

    return way


def openvino_converted() -> Way:
    """OpenVINO's converter with a photo as its example, as in its documentation."""
    example = Image.fromarray(np.zeros((480, 640, 3), np.uint8))
    network = openvino.convert_model(nn.Identity(), example_input=torch.zeros(1, 3, 224, 224), input=[1, 3, 224, 224])
    with quiet():
        model = PreprocessConverter.from_torchvision(network, TRANSFORM, example)
    compiled = openvino.compile_model(model, "CPU")
    return lambda image: to_pixels(compiled(np.asarray(image)[np.newaxis])[0][0])


def opencv(image: Image.Image) -> NDArray[np.uint8]:
    """What most hand-written loops do: bilinear, sides rounded, the crop from the floor of the half."""
    scale = 256 / min(image.size)
    pixels = cv2.resize(np.asarray(image), (round(image.width * scale), round(image.height * scale)))
    top, left = (pixels.shape[0] - 224) // 2, (pixels.shape[1] - 224) // 2
    return pixels[top : top + 224, left : left + 224]


@contextlib.contextmanager
def quiet():
    logging.disable(logging.CRITICAL)
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield
    logging.disable(logging.NOTSET)


if __name__ == "__main__":
    main()
