"""Photos: the training transform, folded in."""

import io
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

from exporter.endings import Ending
from exporter.fronts.protocol import Case, GraphPart, Prepared, example_of
from exporter.parity.inputs import batch_of, read_cases
from exporter.parity.paths import Arrays, ServedPath, cut, onnx_path, runtime_path, torchscript_path
from exporter.pipeline import Pipeline
from exporter.preprocessing import PixelFormat, Reading, arithmetic_nodes, geometry_nodes
from exporter.to_torchscript import load_torchscript, to_torchscript, trace
from runtime.array_geometry import Pixels
from runtime.decode.images import PIXELS, DecodedImage, decode_image
from runtime.manifest import ImageInput, Input
from runtime.model import Model

IMAGE = "image"
NORMALIZED = "normalized"

# The prepared size, where it is not the same for all images.
_HEIGHT, _WIDTH = "prepared_height", "prepared_width"


class ImageFront:
    """One image: geometry on the host or in the graph, arithmetic in the graph."""

    files: Mapping[str, bytes] = {}
    noun = "images"
    no_torchscript = "it returns several outputs"
    # Another machine's JPEG decoder may round otherwise: by a grey level, which moved scores by less than 0.002 when
    # measured.
    prepared_limit = 1.0
    device_slack = 0.02

    def __init__(self, reading: Reading, pixels: PixelFormat, *, exif: bool, samples: Path | None) -> None:
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
        self._decoded: dict[bytes, DecodedImage] = {}

    @property
    def reading(self) -> Reading:
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
        return read_cases(self._samples, self._spec)

    def batch(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Return images of one size."""
        return batch_of(cases, self._spec)

    def prepare(self, case: Case) -> Prepared:
        """Return what the user's transform gives for an image, decoded as torchvision's loaders do: ``convert("RGB")``.

        Where the training loader turned photos by their EXIF orientation, that comes first. Bands are the array in the
        file.
        """
        image: Image.Image | Pixels
        if self._pixels.mode == "bands":
            image = self._decode(case).to_array()
        else:
            with Image.open(io.BytesIO(case.data)) as opened:
                upright = ImageOps.exif_transpose(opened) if self._spec.exif else opened
                image = upright.convert(self._pixels.mode)
        return Prepared(
            arrays={PIXELS: self._reading.pixels(image)[np.newaxis]},
            tensors={NORMALIZED: self._reading.transform(image)[np.newaxis]},
        )

    def example(self, prepared: Sequence[Prepared]) -> Mapping[str, torch.Tensor]:
        """Return two images."""
        return example_of(prepared)

    def trials(self, _prepared: Sequence[Prepared]) -> Sequence[Mapping[str, torch.Tensor]]:
        """Return none: the batch alone is dynamic, and parity compares that."""
        return ()

    def whole_part(self) -> GraphPart:
        """Return geometry and arithmetic: ``image`` [batch, any height, any width, channels]."""
        shape: list[str | int | None] = ["batch", "height", "width", self._pixels.channels]
        wide = self._pixels.dtype == "uint16"
        geometry = geometry_nodes(self._reading.steps, image=IMAGE, pixels=PIXELS, wide=wide)
        return GraphPart(
            inputs=[helper.make_tensor_value_info(IMAGE, self._kind, shape)],
            nodes=[geometry, *self.prepared_part().nodes],
        )

    def prepared_part(self) -> GraphPart:
        """Return the arithmetic: ``pixels`` [batch, height, width, channels]."""
        steps = self._reading.steps
        shape = ["batch", steps.height or _HEIGHT, steps.width or _WIDTH, steps.channels]
        pixels = helper.make_tensor_value_info(PIXELS, self._kind, shape)
        return GraphPart(inputs=[pixels], nodes=[arithmetic_nodes(steps, pixels=PIXELS, normalized=NORMALIZED)])

    def to_torchscript(self, network: nn.Module, example: Mapping[str, torch.Tensor], ending: Ending) -> bytes | None:
        """Return the whole path, from the image on; None where the network gives several outputs."""
        if ending.whole:
            return None
        return to_torchscript(Pipeline(trace(network, tuple(example.values())), self._reading.steps, ending.module()))

    @contextmanager
    def open_paths(
        self, model: Model, folder: Path, ending: Ending, *, torchscript: str | None
    ) -> Iterator[Sequence[ServedPath]]:
        """Give the paths; inner stages run as cuts of the artifact's own graphs, in the runtime."""
        variant = model.manifest.variants[0]
        with TemporaryDirectory(prefix="truecopy-") as place:
            scratch = Path(place)
            geometry = cut(folder / variant.model, [IMAGE], [PIXELS], scratch)
            arithmetic = cut(folder / variant.network, [PIXELS], [NORMALIZED], scratch)

            def score(prepared: Prepared) -> Arrays:
                return model.run(prepared.arrays)

            paths = [
                onnx_path(
                    variant.model,
                    model,
                    raw=self._image,
                    prepare=lambda case: geometry(self._image(case)),
                    normalize=arithmetic,
                    score=score,
                ),
                runtime_path(
                    model,
                    source=lambda case: self._decode(case).to_array(),
                    prepare=lambda case: model.stack([model.prepare(self._decode(case))]),
                    normalize=arithmetic,
                    score=score,
                ),
            ]
            if torchscript:
                paths.append(self._torchscript_path(folder / torchscript, model, ending))
            yield paths

    @property
    def _kind(self) -> int:
        return onnx.TensorProto.UINT16 if self._pixels.dtype == "uint16" else onnx.TensorProto.UINT8

    def _torchscript_path(self, path: Path, model: Model, ending: Ending) -> ServedPath:
        module: Any = load_torchscript(path)

        def call(function: Callable[..., Any], array: NDArray[Any]) -> NDArray[Any]:
            with torch.no_grad():
                result: NDArray[Any] = function(torch.from_numpy(np.array(array))).numpy()
                return result

        return torchscript_path(
            path,
            ending,
            model.manifest,
            inputs=lambda case: {IMAGE: torch.from_numpy(self._image(case)[IMAGE].copy())},
            prepare=lambda case: {PIXELS: call(module.prepare, self._image(case)[IMAGE])},
            normalize=lambda arrays: {NORMALIZED: call(module.normalize, arrays[PIXELS])},
            score=lambda prepared: {ending.outputs[0].name: call(module.classify, prepared.arrays[PIXELS])},
        )

    def _image(self, case: Case) -> dict[str, Pixels]:
        """Return a case as a batch of one for the whole path."""
        return {IMAGE: self._decode(case).to_array()[np.newaxis]}

    def _decode(self, case: Case) -> DecodedImage:
        """Return a case as the runtime decodes it: a difference in decoding then shows as one in the pixels."""
        if case.data not in self._decoded:
            self._decoded[case.data] = decode_image(case.data, self._spec, subject=f"'{case.name}'")
        return self._decoded[case.data]
