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
from exporter.fronts.protocol import Case, GraphPart, Prepared
from exporter.parity.inputs import batch_of, read_cases
from exporter.parity.paths import Arrays, ServedPath, cut, onnx_path, runtime_path, torchscript_path
from exporter.pipeline import Pipeline
from exporter.preprocessing import Reading, arithmetic_nodes, geometry_nodes
from exporter.to_torchscript import load_torchscript, to_torchscript, trace
from runtime.decode.images import PIXELS, decode_image
from runtime.manifest import ImageInput, Input
from runtime.model import Model

IMAGE = "image"
NORMALIZED = "normalized"


class ImageFront:
    """One RGB image: geometry on the host or in the graph, arithmetic in the graph."""

    files: Mapping[str, bytes] = {}
    dimensions: Mapping[str, Mapping[int, str]] = {NORMALIZED: {0: "batch"}}
    noun = "images"
    # Another machine's JPEG decoder may round otherwise: by a grey level, which moved scores by less than 0.002 when
    # measured.
    prepared_limit = 1.0
    device_slack = 0.02

    def __init__(self, reading: Reading, *, exif: bool, samples: Path | None) -> None:
        self._reading = reading
        self._spec = ImageInput(name=IMAGE, mode="RGB", exif=exif, preprocessing=reading.steps)
        self._samples = samples
        self._decoded: dict[bytes, NDArray[np.uint8]] = {}

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The image."""
        return (self._spec,)

    def describe(self) -> str:
        """Return the transform's steps, and whether they were assumed."""
        assumed = f"assumed, from {self._reading.origin}: " if self._reading.assumed else ""
        return assumed + self._reading.describe()

    def cases(self) -> tuple[Case, ...]:
        """Return the user's photos, or our own, and odd ones made of them."""
        return read_cases(self._samples)

    def batch(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Return images of one size."""
        return batch_of(cases)

    def prepare(self, case: Case) -> Prepared:
        """Return what the user's transform gives for an image, decoded as torchvision's loaders do: ``convert("RGB")``.

        Where the training loader turned photos by their EXIF orientation, that comes first.
        """
        with Image.open(io.BytesIO(case.data)) as opened:
            upright = ImageOps.exif_transpose(opened) if self._spec.exif else opened
            image = upright.convert("RGB")
        return Prepared(
            arrays={PIXELS: self._reading.pixels(image)[np.newaxis]},
            tensors={NORMALIZED: self._reading.transform(image)[np.newaxis]},
        )

    def whole_part(self) -> GraphPart:
        """Return geometry and arithmetic: uint8 ``image`` [batch, any height, any width, 3]."""
        steps = self._reading.steps
        image = helper.make_tensor_value_info(IMAGE, onnx.TensorProto.UINT8, ["batch", "height", "width", 3])
        return GraphPart(
            inputs=[image],
            nodes=[geometry_nodes(steps, image=IMAGE, pixels=PIXELS), *self.prepared_part().nodes],
        )

    def prepared_part(self) -> GraphPart:
        """Return the arithmetic: uint8 ``pixels`` [batch, height, width, channels]."""
        steps = self._reading.steps
        shape: list[str | int | None] = ["batch", steps.height, steps.width, steps.channels]
        pixels = helper.make_tensor_value_info(PIXELS, onnx.TensorProto.UINT8, shape)
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
                    raw=lambda case: {IMAGE: self._decode(case)[np.newaxis]},
                    prepare=lambda case: geometry({IMAGE: self._decode(case)[np.newaxis]}),
                    normalize=arithmetic,
                    score=score,
                ),
                runtime_path(
                    model,
                    source=self._decode,
                    prepare=lambda case: model.stack([model.prepare(Image.fromarray(self._decode(case)))]),
                    normalize=arithmetic,
                    score=score,
                ),
            ]
            if torchscript:
                paths.append(self._torchscript_path(folder / torchscript, model, ending))
            yield paths

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
            inputs=lambda case: {IMAGE: torch.from_numpy(self._decode(case).copy())[np.newaxis]},
            prepare=lambda case: {PIXELS: call(module.prepare, self._decode(case)[np.newaxis])},
            normalize=lambda arrays: {NORMALIZED: call(module.normalize, arrays[PIXELS])},
            score=lambda prepared: {ending.outputs[0].name: call(module.classify, prepared.arrays[PIXELS])},
        )

    def _decode(self, case: Case) -> NDArray[np.uint8]:
        """Return a case as the runtime decodes it: a difference in decoding then shows as one in the pixels."""
        if case.data not in self._decoded:
            decoded = decode_image(case.data, self._spec, subject=f"'{case.name}'")
            self._decoded[case.data] = np.asarray(decoded.image)
        return self._decoded[case.data]
