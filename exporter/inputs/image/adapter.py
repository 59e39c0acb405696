"""Input adapter of images, with the training transform folded in."""

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper
from PIL import Image, ImageOps
from torch import nn

from exporter.conversion.to_torchscript import load_torchscript, to_torchscript, trace
from exporter.inputs.adapter import GraphPart, example_of
from exporter.inputs.image import PixelFormat, TrainingTransform, arithmetic_nodes, geometry_nodes
from exporter.inputs.image.cases import Images, batch_of, read_cases
from exporter.inputs.image.pipeline import Pipeline
from exporter.outputs.postprocessing import Postprocessing
from exporter.parity.cases import Arrays, Case, PreparedInput, ReferenceOutput, ServedPath, StageFunction
from exporter.parity.paths import (
    Sources,
    SubgraphCache,
    decode_stage,
    graph_stages,
    inputs_of,
    onnx_path,
    runtime_path,
    torchscript_path,
)
from runtime.evidence import Stage
from runtime.geometry.arrays import Pixels
from runtime.inputs.image.decoder import PIXELS, DecodedImage, decode_image
from runtime.manifest import ImageInput, Input
from runtime.model import Model

IMAGE = "image"
NORMALIZED = "normalized"

# The prepared size, where it is not the same for all images.
_HEIGHT, _WIDTH = "prepared_height", "prepared_width"


class ImageAdapter:
    """One image: geometry on the host or in the graph, arithmetic in the graph."""

    files: Mapping[str, bytes] = {}
    noun = "images"
    no_torchscript = "it returns several outputs"
    # Another machine's JPEG decoder may round otherwise: by a gray level, which moved scores by less than 0.002 when
    # measured.
    prepared_limit = 1.0
    decoder_tolerance = 0.02

    def __init__(self, reading: TrainingTransform, pixels: PixelFormat, *, exif: bool, samples: Path | None) -> None:
        self._reading = reading
        self._spec = ImageInput(
            name=IMAGE,
            mode=pixels.mode,
            exif=exif,
            preprocessing=reading.steps,
            channels=pixels.channels,
            dtype=pixels.dtype,
        )
        self._pixels = pixels
        self._samples = samples
        self._read: Images | None = None
        self._decoded: dict[bytes, Image.Image | Pixels] = {}

    @property
    def reading(self) -> TrainingTransform:
        """What the user's transform says."""
        return self._reading

    @property
    def pixels(self) -> PixelFormat:
        """What the user's transform gets."""
        return self._pixels

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The image."""
        return (self._spec,)

    @property
    def dimensions(self) -> Mapping[str, Mapping[int, str]]:
        """The batch; and height and width, where they follow from the image's."""
        steps = self._reading.steps
        sizes = {axis: name for axis, name in ((2, _HEIGHT), (3, _WIDTH)) if None in (steps.height, steps.width)}
        return {NORMALIZED: {0: "batch", **sizes}}

    def describe(self) -> str:
        """Return the transform's steps, and whether they were assumed."""
        assumed = f"assumed, from {self._reading.origin}: " if self._reading.assumed else ""
        mode = "" if self._pixels.mode == "RGB" else f"{self._pixels}, "
        return assumed + mode + self._reading.describe()

    def cases(self) -> tuple[Case, ...]:
        """Return the user's photos, or our own, and odd ones made of them."""
        return self._images.cases

    @property
    def skipped_samples(self) -> tuple[str, ...]:
        """What of the user's folder is not compared."""
        return self._images.skipped_samples

    @property
    def _images(self) -> Images:
        if self._read is None:
            self._read = read_cases(self._samples, self._spec)
        return self._read

    def batch(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Return images of one size."""
        return batch_of(cases, self._spec)

    def prepare(self, case: Case) -> PreparedInput:
        """Return what the user's transform gives for an image, decoded as torchvision's loaders do: ``convert("RGB")``.

        Where the training loader turned photos by their EXIF orientation, that comes first. Bands are the array in the
        file.
        """
        image = self._decode(case)
        return PreparedInput(
            decoded=self._image(case),
            arrays={PIXELS: self._reading.pixels(image)[np.newaxis]},
            tensors={NORMALIZED: self._reading.transform(image)[np.newaxis]},
        )

    def example(self, prepared: Sequence[PreparedInput]) -> Mapping[str, torch.Tensor]:
        """Return two images."""
        return example_of(prepared)

    def validation_inputs(self, _prepared: Sequence[PreparedInput]) -> Sequence[Mapping[str, torch.Tensor]]:
        """Return none: the batch alone is dynamic, and parity compares that."""
        return ()

    def raw_graph_part(self) -> GraphPart:
        """Return geometry and arithmetic: ``image`` [batch, any height, any width, channels]."""
        shape: list[str | int | None] = ["batch", "height", "width", self._pixels.channels]
        wide = self._pixels.dtype == "uint16"
        geometry = geometry_nodes(self._reading.steps, image=IMAGE, pixels=PIXELS, wide=wide)
        return GraphPart(
            inputs=[helper.make_tensor_value_info(IMAGE, self._kind, shape)],
            nodes=[geometry, *self.network_graph_part().nodes],
        )

    def network_graph_part(self) -> GraphPart:
        """Return the arithmetic: ``pixels`` [batch, height, width, channels]."""
        steps = self._reading.steps
        shape = ["batch", steps.height or _HEIGHT, steps.width or _WIDTH, steps.channels]
        pixels = helper.make_tensor_value_info(PIXELS, self._kind, shape)
        return GraphPart(inputs=[pixels], nodes=[arithmetic_nodes(steps, pixels=PIXELS, normalized=NORMALIZED)])

    def to_torchscript(
        self, network: nn.Module, example: Mapping[str, torch.Tensor], postprocessing: Postprocessing
    ) -> bytes | None:
        """Return the whole path, from the image on; None where the network gives several outputs."""
        if postprocessing.whole:
            return None
        return to_torchscript(
            Pipeline(trace(network, tuple(example.values())), self._reading.steps, postprocessing.module())
        )

    @contextmanager
    def open_paths(
        self, model: Model, folder: Path, postprocessing: Postprocessing, *, torchscript: str | None
    ) -> Iterator[Sequence[ServedPath]]:
        """Give the paths; inner stages run as cuts of the artifact's own graphs, in the runtime."""
        variant = model.manifest.variants[0]
        steps = self._reading.steps
        shape = ("batch", steps.channels, steps.height or _HEIGHT, steps.width or _WIDTH)
        inside: Sources = {NORMALIZED: shape}

        def prepare(answer: ReferenceOutput) -> Arrays:
            image = DecodedImage(image=self._decode(answer.case), turned=False)
            return model.stack([model.prepare(image)])

        with TemporaryDirectory(prefix="truecopy-") as place, warnings.catch_warnings():
            # One of our own photos asks for a rotation on purpose.
            warnings.filterwarnings("ignore", message=".*EXIF", category=UserWarning)
            cuts = SubgraphCache(folder, Path(place))
            whole, served = (
                graph_stages(cuts, graph, model, postprocessing, inputs=inside, raw=[PIXELS])
                for graph in (variant.model, variant.network)
            )
            geometry = cuts.stage(variant.model, _decoded_of, {IMAGE: ()}, [PIXELS])
            paths = [
                onnx_path(variant.model, model, raw=self._image, stages={"geometry": geometry, **whole}),
                runtime_path(model, stages={"decode": decode_stage(model), "geometry": prepare, **served}),
            ]
            if torchscript:
                paths.append(self._torchscript_path(folder / torchscript, model, postprocessing))
            yield paths

    @property
    def _kind(self) -> int:
        return onnx.TensorProto.UINT16 if self._pixels.dtype == "uint16" else onnx.TensorProto.UINT8

    def _torchscript_path(self, path: Path, model: Model, postprocessing: Postprocessing) -> ServedPath:
        module: Any = load_torchscript(path)
        output = postprocessing.outputs[0].name
        inner = postprocessing.inner_names[0] if postprocessing.computes else output

        def call(function: Callable[..., Any], array: NDArray[Any]) -> NDArray[Any]:
            with torch.no_grad():
                result: NDArray[Any] = function(torch.from_numpy(np.array(array))).numpy()
                return result

        stages: dict[Stage, StageFunction] = {
            "geometry": lambda answer: {PIXELS: call(module.prepare, answer.prepared.decoded[IMAGE])},
            "arithmetic": lambda answer: {NORMALIZED: call(module.normalize, answer.prepared.arrays[PIXELS])},
            "network": lambda answer: {inner: call(module.logits, inputs_of(answer)[NORMALIZED])},
        }
        if postprocessing.computes:
            stages["activation"] = lambda answer: {output: call(module.postprocess, answer.inner[inner])}
        return torchscript_path(
            path,
            postprocessing,
            model.manifest,
            inputs=lambda case: {IMAGE: torch.from_numpy(self._image(case)[IMAGE].copy())},
            stages=stages,
        )

    def _image(self, case: Case) -> dict[str, Pixels]:
        """Return a case as a batch of one for the whole path, decoded by the reference's side."""
        array = np.asarray(self._decode(case))
        return {IMAGE: (array if array.ndim == 3 else array[:, :, np.newaxis])[np.newaxis]}

    def _decode(self, case: Case) -> Image.Image | Pixels:
        """Return a case as torchvision's loaders decode it; bands by numpy or the runtime's reader of files."""
        if case.data not in self._decoded:
            self._decoded[case.data] = self._open(case)
        return self._decoded[case.data]

    def _open(self, case: Case) -> Image.Image | Pixels:
        if self._pixels.mode == "bands":
            return decode_image(case.data, self._spec, subject=f"'{case.name}'").to_array()
        with Image.open(io.BytesIO(case.data)) as opened:
            upright = ImageOps.exif_transpose(opened) if self._spec.exif else opened
            return upright.convert(self._pixels.mode)


def _decoded_of(answer: ReferenceOutput) -> Arrays:
    """Return the image as the reference decoded it."""
    return answer.prepared.decoded
