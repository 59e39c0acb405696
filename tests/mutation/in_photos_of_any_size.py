"""Faults of photos that only large images or odd sizes show: tables, bands, buffers and thresholds."""

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from mutation.planting import Planting, add_constants, fault, nodes_of
from onnx import TensorProto, helper
from PIL import Image
from torch import Tensor, nn

from exporter.inputs.image import Geometry, antialias_onnx
from exporter.inputs.image import adapter as images
from runtime.geometry import native, pillow
from runtime.inputs.image import decoder as decode
from runtime.manifest import CenterCrop, ImageInput, Preprocessing, Resize

PHOTO = "photo of any size"
MEGAPIXEL = 1_000_000


def before_geometry(planting: Planting, nodes: list[onnx.NodeProto], **constants: Any) -> None:
    """Put nodes in front of a finished model.onnx; they make "changed" of "image"."""

    def change(folder: Path) -> None:
        path = folder / "model.onnx"
        model = onnx.load(path, load_external_data=False)
        for node in model.graph.node:
            node.input[:] = ["changed" if name == "image" else name for name in node.input]
        for index, node in enumerate(nodes):
            model.graph.node.insert(index, node)
        add_constants(model, **constants)
        path.write_bytes(model.SerializeToString())

    planting.artifact(change)


class _Cut(nn.Module):
    """A geometry that gets fewer rows or columns than the image has."""

    def __init__(self, steps: Preprocessing, *, longest: int, even: bool) -> None:
        super().__init__()
        self.geometry = Geometry(steps)
        self.longest = longest
        self.even = even

    def forward(self, image: Tensor) -> Tensor:
        columns = min(int(image.shape[2]), self.longest)
        if self.even and columns > 255:
            columns = columns // 2 * 2
        prepared: Tensor = self.geometry(image[:, :, :columns])
        return prepared


@fault("geometry", subject=PHOTO, in_golden=False)
def photos_over_a_megapixel_halved_in_the_graph(planting: Planting) -> None:
    """An editor of the graph saves memory: every second row and column of photos that are too large for a phone."""
    branches = {}
    for name, step in (("then_branch", 2), ("else_branch", 1)):
        cut = helper.make_node("Slice", ["image", "zeros", "ends", "axes", f"step{step}"], [name])
        output = helper.make_tensor_value_info(name, TensorProto.UINT8, None)
        branches[name] = helper.make_graph([cut], name, [], [output])
    nodes = [
        helper.make_node("Shape", ["image"], ["sides"], start=1, end=3),
        helper.make_node("ReduceProd", ["sides"], ["area"], keepdims=0),
        helper.make_node("Greater", ["area", "limit"], ["large"]),
        helper.make_node("If", ["large"], ["changed"], **branches),
    ]
    before_geometry(
        planting,
        nodes,
        limit=np.array(MEGAPIXEL),
        zeros=np.array([0, 0]),
        ends=np.array([1 << 30] * 2),
        axes=np.array([1, 2]),
        step1=np.array([1, 1]),
        step2=np.array([2, 2]),
    )


@fault("geometry", subject=PHOTO, in_golden=False)
def rows_past_4096_dropped_in_the_graph(planting: Planting) -> None:
    """A converter for accelerators cuts what its buffers do not hold."""
    nodes = [helper.make_node("Slice", ["image", "first", "end", "axis"], ["changed"])]
    before_geometry(planting, nodes, first=np.array([0]), end=np.array([4096]), axis=np.array([1]))


@fault("geometry", subject=PHOTO, in_golden=False)
def photos_over_a_megapixel_halved_on_the_host(planting: Planting) -> None:
    """reduce(2) before the resize, as Pillow's own thumbnail() does it with reducing_gap."""
    prepare = native.prepare

    def halved(image: Any, *given: Any) -> Any:
        if isinstance(image, Image.Image) and image.width * image.height > MEGAPIXEL:
            image = image.reduce(2)
        return prepare(image, *given)

    planting.host(native, "prepare", halved)


@fault("geometry", subject=PHOTO, in_golden=False)
def weights_wrong_past_column_2048_on_the_host(planting: Planting) -> None:
    """A vectorized resize keeps its weights in a table of 2,048 columns, and repeats the last one."""
    resize_axis = pillow._resize_axis

    def short(image: Image.Image, axis: int, *given: Any) -> Image.Image:
        if axis == 1 and image.width > 2048:
            image = image.copy()
            last = image.crop((2047, 0, 2048, image.height))
            image.paste(last.resize((image.width - 2048, image.height), Image.Resampling.NEAREST), (2048, 0))
        return resize_axis(image, axis, *given)

    planting.host(pillow, "_resize_axis", short)


@fault("geometry", subject=PHOTO, in_golden=False)
def columns_past_2048_dropped_in_TorchScript(planting: Planting) -> None:  # noqa: N802
    """A mobile build has a line buffer of fixed length."""
    planting.replace(images, "Geometry", lambda steps: _Cut(steps, longest=2048, even=False))


@fault("geometry", subject=PHOTO, in_golden=False)
def last_column_of_odd_widths_dropped_in_TorchScript(planting: Planting) -> None:  # noqa: N802
    """Chroma planes have half the width, rounded down: converters from YUV lose the last column of wide photos."""
    planting.replace(images, "Geometry", lambda steps: _Cut(steps, longest=1 << 30, even=True))


@fault("geometry", subject=PHOTO, in_golden=False)
def bands_past_pixel_2047_read_from_there(planting: Planting) -> None:
    """The offsets of the bands of pixels are kept in 11 bits, which saturate."""
    bands_of = antialias_onnx._bands_of

    def saturated(*given: Any) -> Any:
        bands = bands_of(*given)
        starts = bands.starts.at_most(bands.starts.nodes.integers(2047))
        return dataclasses.replace(bands, starts=starts, ends=starts + (bands.ends - bands.starts))

    planting.replace(antialias_onnx, "_bands_of", saturated)


@fault("geometry", subject=PHOTO, in_golden=False)
def order_of_the_axes_at_its_threshold_on_the_host(planting: Planting) -> None:
    """Rows are cut by exactly twice as much as columns: >= where Pillow has >."""

    def at_least(height: int, width: int, resized: tuple[int, int], step: Resize) -> bool:
        rows_cut, columns_cut = height - resized[0], width - resized[1]
        return step.axis_order == "larger_cut_first" and rows_cut > 0 and rows_cut >= 2 * columns_cut

    planting.host(pillow, "vertical_first", at_least)


@fault("geometry", subject=PHOTO, in_golden=False)
def order_of_the_axes_at_its_threshold_in_the_graph(planting: Planting) -> None:
    """The same comparison in the graph."""

    def change(model: onnx.ModelProto) -> None:
        for node in nodes_of(model, "Greater", "GreaterOrEqual"):
            if node.name.startswith("geometry"):
                node.op_type = "GreaterOrEqual"
                return

    def edit(folder: Path) -> None:
        path = folder / "model.onnx"
        model = onnx.load(path, load_external_data=False)
        change(model)
        path.write_bytes(model.SerializeToString())

    planting.artifact(edit)


@fault("geometry", subject=PHOTO, in_golden=False)
def large_photos_cropped_from_the_corner(planting: Planting) -> None:
    """A fast path for tall photos crops while it reads, and begins at the top."""
    resize_image = pillow.resize_image

    def cornered(image: Image.Image, step: Resize, resized: tuple[int, int], crop: CenterCrop | None) -> Image.Image:
        if crop is None or image.height <= 2048:
            return resize_image(image, step, resized, crop)
        return resize_image(image, step, resized, None).crop((0, 0, crop.width, crop.height))

    from runtime.geometry.steps import resize as host_resize

    planting.host(host_resize, "resize_image", cornered)


@fault("decode", subject=PHOTO, in_golden=False)
def large_JPEGs_decoded_at_half_size(planting: Planting) -> None:  # noqa: N802
    """Pillow's draft mode for photos over a megapixel, which saves two thirds of the time."""
    load = decode._load

    def draft(image: Any, spec: ImageInput, subject: str) -> Any:
        if getattr(image, "format", "") == "JPEG" and image.width * image.height > MEGAPIXEL:
            image.draft("RGB", (image.width // 2, image.height // 2))
        return load(image, spec, subject)

    planting.host(decode, "_load", draft)


@fault("decode", subject=PHOTO, in_golden=False)
def large_uploads_compressed_again(planting: Planting) -> None:
    """A gateway stores uploads of several megapixels as JPEG of quality 75."""
    load = decode._load

    def compress(image: Image.Image, spec: ImageInput, subject: str) -> Any:
        if image.width * image.height > MEGAPIXEL:
            stream = io.BytesIO()
            image.convert("RGB").save(stream, "JPEG", quality=75)
            image = Image.open(io.BytesIO(stream.getvalue()))
        return load(image, spec, subject)

    planting.host(decode, "_load", compress)
