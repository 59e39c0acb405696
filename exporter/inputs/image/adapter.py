"""Input adapter of images, with the training transform folded in."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper
from PIL import Image, ImageOps
from torch import nn

from exporter.architectures.transformers_config import labels_of, task_of
from exporter.conversion.network_io import Arrays, Dimensions
from exporter.errors import PreprocessingError
from exporter.inputs.adapter import AdapterDefaults, GraphPart, TorchScriptPart, example_of
from exporter.inputs.image import (
    Arithmetic,
    Geometry,
    PixelFormat,
    TrainingTransform,
    arithmetic_nodes,
    geometry_nodes,
)
from exporter.inputs.image.cases import Images, as_training_loads, batch_of, read_cases, transform_errors_named
from exporter.inputs.image.pixel_check import PixelCheck, decode_rows
from exporter.inputs.image.torchvision_reader import channels_after
from exporter.options.task import TaskOptions
from exporter.parity.cases import (
    BATCH_SIZES,
    OTHER_BATCH,
    Case,
    PreparedInput,
    ReferenceOutput,
    ServedPath,
    ServedStage,
    StageBorders,
    StepExecution,
)
from exporter.parity.paths import decode_stage, host_stage
from exporter.parity.proof_cache import ProofCache
from exporter.progress import Advance
from runtime.artifact.proof import DECODER_TOLERANCE
from runtime.evidence import Row, Stage
from runtime.geometry.arrays import Pixels
from runtime.geometry.images import from_array, to_array
from runtime.inputs.image.decoder import HEIGHT, PIXELS, WIDTH, DecodedImage, decode_image
from runtime.manifest import ImageInput, Input, NearestColor
from runtime.model import Model

IMAGE = "image"
NORMALIZED = "normalized"

# The prepared size, where it is not the same for all images.
_HEIGHT, _WIDTH = "prepared_height", "prepared_width"
_PIXELS = "prepared_pixels"


@dataclass(frozen=True, kw_only=True)
class Loader:
    """What the training loader did with files: rotated photos by EXIF, and took those that end too early."""

    exif: bool = False
    truncated: bool = False


class ImageAdapter(AdapterDefaults):
    """One image: geometry on the host or in the graph, arithmetic in the graph."""

    files: Mapping[str, bytes] = {}
    noun = "images"
    decoded_dimensions: Dimensions = MappingProxyType({IMAGE: {1: HEIGHT, 2: WIDTH}})
    # One of our own photos asks for a rotation on purpose; made images are larger than the cases.
    expected_warnings = (".*EXIF", ".*outside what was compared", ".*ends too early")
    # Another machine's JPEG decoder may round otherwise: by a gray level, which moved scores by less than 0.002 when
    # measured.
    prepared_limit = 1.0
    decoder_tolerance = DECODER_TOLERANCE

    def __init__(
        self,
        reading: TrainingTransform,
        pixels: PixelFormat,
        loader: Loader,
        *,
        samples: Path | None,
        config: Any = None,
    ) -> None:
        self.labels = labels_of(config)
        self._task = task_of(config)
        self._reading = reading
        self._spec = ImageInput(
            name=IMAGE,
            mode=pixels.mode,
            exif=loader.exif,
            truncated=loader.truncated,
            preprocessing=reading.steps,
            channels=pixels.channels,
            dtype=pixels.dtype,
        )
        self._pixels = pixels
        self._samples = samples
        self.assumptions = _loader_assumptions(self._spec)
        if reading.restated:
            transform = f"the transform with training's own: {reading.restated}; --preprocess names another"
            self.assumptions = (transform, *self.assumptions)
        self._read: Images | None = None
        self._decoded: dict[bytes, Image.Image | Pixels] = {}

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The image."""
        return (self._spec,)

    @property
    def dimensions(self) -> Mapping[str, Mapping[int, str]]:
        """The batch; and height and width, where they follow from the image's."""
        names = {axis: size for axis, size in enumerate(self._shape) if isinstance(size, str)}
        return {NORMALIZED: names}

    @property
    def _shape(self) -> tuple[int | str, ...]:
        """The shape of the network's input."""
        steps = self._reading.steps
        height, width = steps.height, steps.width
        if steps.arithmetic and isinstance(steps.arithmetic[-1], NearestColor):
            return ("batch", _PIXELS if height is None or width is None else height * width)
        channels = reduce(channels_after, steps.arithmetic, steps.channels)
        return ("batch", channels, height or _HEIGHT, width or _WIDTH)

    @property
    def borders(self) -> StageBorders:
        """The decoded image, the prepared pixels and the network's input."""
        return StageBorders(decoded=(IMAGE,), prepared=(PIXELS,), network={NORMALIZED: self._shape})

    def describe(self) -> str:
        """Return the transform's steps, and whether they were assumed."""
        restated = f"{self._reading.restated}: " if self._reading.restated else ""
        mode = "" if self._pixels.mode == "RGB" else f"{self._pixels}, "
        return restated + mode + self._reading.describe()

    def assume_task(self, options: TaskOptions, _network: nn.Module, _value: Any) -> TaskOptions:
        """Return the options, with the task of a transformers model's configuration."""
        return replace(options, task=self._task) if options.task is None and self._task is not None else options

    def cases(self) -> tuple[Case, ...]:
        """Return the user's photos, or our own, and odd ones made of them."""
        return self._images.cases

    @property
    def skipped_samples(self) -> tuple[str, ...]:
        """What of the user's folder is not compared."""
        return (*self._images.skipped_samples, *self._reading.not_compared)

    @property
    def _images(self) -> Images:
        if self._read is None:
            images = read_cases(self._samples, self._spec)
            cases = tuple(case for case in images.cases if case.name not in self._reading.other_formats)
            self._read = replace(images, cases=cases)
        return self._read

    def batch(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Return images of any size where they are prepared to one, else of one size."""
        if self._spec.preprocessing.height is None:
            return batch_of(cases, self._spec, max(BATCH_SIZES))
        return tuple(cases)

    def decoded_batch(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Return images of one size."""
        return batch_of(cases, self._spec, OTHER_BATCH)

    def prepare(self, case: Case) -> PreparedInput:
        """Return what the user's transform gives for an image, decoded as torchvision's loaders do: ``convert("RGB")``.

        Where the training loader turned photos by their EXIF orientation, that comes first. Bands are the array in the
        file. Raises PreprocessingError where the transform fails.
        """
        image = self._decode(case)
        transform, pixels = self._reading.transform, self._reading.pixels
        source = case.data if self._reading.decodes else image
        with as_training_loads(truncated=self._spec.truncated):
            with transform_errors_named(case):
                prepared, normalized = pixels(source), transform(source)
            if not bool(torch.isfinite(normalized).all()):
                raise PreprocessingError(
                    f"'{case.name}': the training transform gives NaN or infinity for it, as a division by the "
                    "deviation of an image of one color does. Add a small number to what it divides by, as in "
                    "x.std() + 1e-6, if the model's accuracy stays."
                )
            return PreparedInput(
                decoded=self.decode(case),
                arrays={PIXELS: prepared[np.newaxis]},
                tensors={NORMALIZED: normalized[np.newaxis]},
            )

    def example(self, prepared: Sequence[PreparedInput]) -> Mapping[str, torch.Tensor]:
        """Return two images."""
        return example_of(prepared)

    def validation_inputs(self, _prepared: Sequence[PreparedInput]) -> Sequence[Mapping[str, torch.Tensor]]:
        """Return none: the batch alone is dynamic, and parity compares that."""
        return ()

    def raw_graph_part(self) -> GraphPart:
        """Return geometry and arithmetic: ``image`` [batch, any height, any width, channels]."""
        shape: list[str | int | None] = ["batch", HEIGHT, WIDTH, self._pixels.channels]
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

    def torchscript_part(self) -> TorchScriptPart:
        """Return geometry and arithmetic."""
        steps = self._reading.steps
        return TorchScriptPart(geometry=Geometry(steps), arithmetic=Arithmetic(steps))

    def host_stages(self, model: Model) -> Mapping[Stage, ServedStage]:
        """Return the runtime's decoder, and its geometry of images that the reference decoded."""

        def prepare(reference: ReferenceOutput) -> Arrays:
            array = reference.prepared.decoded[IMAGE][0]
            image = DecodedImage(image=array if self._pixels.mode == "bands" else from_array(array), turned=False)
            return model.stack([model.prepare(image)])

        return {"decode": decode_stage(model), "geometry": host_stage("geometry", prepare, takes="decoded")}

    def check_steps(
        self,
        paths: Sequence[ServedPath],
        executions: Mapping[str, StepExecution],
        *,
        thorough: bool = False,
        advance: Advance | None = None,
        cache: ProofCache | None = None,
    ) -> Sequence[Row]:
        """Return the evidence on decoding and on the geometry of the artifact's files, on made images."""
        check = PixelCheck(reading=self._reading, pixels=self._pixels, executions=executions)
        decoding, geometry = (
            {path.name: path.stages[stage] for path in paths if stage in path.stages}
            for stage in ("decode", "geometry")
        )
        photos = self._pixels.mode != "bands"
        return [
            *(decode_rows(decoding, lambda case: self._to_arrays(self._open(case)), IMAGE) if photos else ()),
            *check.rows(geometry, IMAGE, thorough=thorough, advance=advance, cache=cache),
        ]

    def decode(self, case: Case) -> dict[str, Pixels]:
        """Return a case as the ``model`` graph takes it, decoded without the runtime."""
        return self._to_arrays(self._decode(case))

    @staticmethod
    def _to_arrays(image: Image.Image | Pixels) -> dict[str, Pixels]:
        return {IMAGE: to_array(image)[np.newaxis]}

    @property
    def _kind(self) -> int:
        return onnx.TensorProto.UINT16 if self._pixels.dtype == "uint16" else onnx.TensorProto.UINT8

    def _decode(self, case: Case) -> Image.Image | Pixels:
        """Return a case as torchvision's loaders decode it; bands by numpy or the runtime's reader of files."""
        if case.data not in self._decoded:
            self._decoded[case.data] = self._open(case)
        return self._decoded[case.data]

    def _open(self, case: Case) -> Image.Image | Pixels:
        if self._pixels.mode == "bands":
            return decode_image(case.data, self._spec, subject=f"'{case.name}'").to_array()
        with as_training_loads(truncated=self._spec.truncated), Image.open(io.BytesIO(case.data)) as opened:
            upright = ImageOps.exif_transpose(opened) if self._spec.exif else opened
            return upright.convert(self._pixels.mode)


def _loader_assumptions(spec: ImageInput) -> tuple[str, ...]:
    """Return what was compared with no loader: how a file becomes the pixels that a transform gets."""
    if spec.mode == "bands":
        return ("how the training loader reads bands: stated by options, not compared with training code",)
    turned = "turned by their EXIF orientation" if spec.exif else "not turned by their EXIF orientation"
    cut = "those that end too early as far as they go, " if spec.truncated else ""
    return (
        f"that the training loader opens images with Pillow, as {spec.mode}, {cut}{turned}: not compared with its code",
    )
