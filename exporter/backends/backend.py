"""Interface of a backend: one form of the artifact."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exporter.assemble import TracingInputs
from exporter.bundle import Staging
from exporter.conversion.network_io import Arrays
from exporter.inputs.adapter import InputAdapter, InputPipeline
from exporter.inputs.image import PixelFormat
from exporter.inputs.image.pixel_check import GeometryFunction
from exporter.options.forms import FormOptions
from exporter.outputs.postprocessing import Postprocessing
from exporter.parity.cases import ServedPath
from exporter.parity.paths import SubgraphCache
from runtime.artifact.open import Artifact
from runtime.manifest import OnnxVersions, Output, Preprocessing, Variant
from runtime.model import Model

# From prepared inputs by name to the scores, an array or several, as the form's own library returns them.
Scorer: TypeAlias = Callable[[Arrays], Any]


@dataclass(frozen=True, kw_only=True)
class NetworkSource:
    """What every form is written from.

    ``flat`` is ``network`` with tensors in and out by position; ``inputs`` are those for tracing it, a batch of two, or
    of one where it takes no more; ``raw`` is one input of the ``model`` graph by name; ``options`` say how the graphs
    are written.
    """

    network: nn.Module
    flat: nn.Module
    adapter: InputAdapter
    postprocessing: Postprocessing
    inputs: TracingInputs
    raw: Arrays = field(default_factory=dict)
    options: FormOptions = field(default_factory=FormOptions)


@dataclass(frozen=True, kw_only=True)
class WrittenGraphs:
    """What the manifest says of graphs: their files, their outputs, and the exporter that converted the network.

    ``fallback`` is why that is not dynamo, empty where it is; ``versions`` are those of ONNX.
    """

    variant: Variant
    outputs: tuple[Output, ...]
    exporter: Literal["dynamo", "legacy"]
    fallback: str = ""
    versions: OnnxVersions | None = None


@dataclass(frozen=True, kw_only=True)
class WrittenForm:
    """What a form wrote: in words its files, or the reason why there are none; ``graphs`` where it wrote some.

    ``missing`` says for the evidence that the form could not be made, and why.
    """

    finding: str
    missing: str = ""
    graphs: WrittenGraphs | None = None


def absence(file: str, reason: str = "") -> str:
    """Return the sentence of the evidence on a form that could not be made; without a reason, how it begins."""
    return f"{file}: there is none: {reason}"


@dataclass(frozen=True, kw_only=True)
class OpenArtifact:
    """An artifact whose paths are opened: on the device of ``model``, with the cases of ``adapter`` to compare."""

    artifact: Artifact
    model: Model
    adapter: InputPipeline
    postprocessing: Postprocessing
    subgraphs: SubgraphCache

    def release(self) -> None:
        """Free the memory of the graphs and their parts, which are loaded again when they are run."""
        self.model.release()
        self.subgraphs.release()


# The smallest normal float32: a probability of zero is at most this.
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, kw_only=True)
class LogitScales:
    """Factors of the logits, float64: one, or one per class; scores are a sigmoid of the logits, or a softmax."""

    values: NDArray[np.float64]
    sigmoid: bool


@dataclass(frozen=True, kw_only=True)
class CalibratedForm:
    """A form whose scores are calibrated: new bytes of its files, files that are left out, and notes for people."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Backend(Protocol):
    """One form of the artifact; each module that the registry names is one.

    ``title`` names the form for people, and its step in an export; ``files`` are those that it may write, none where
    it runs another form's.
    """

    title: str
    files: tuple[str, ...]

    def write(self, stage: Staging, source: NetworkSource) -> WrittenForm:
        """Write the form into a staged artifact, or say why there is none.

        Raises ConversionError where the artifact cannot do without it.
        """

    def open_path(self, opened: OpenArtifact) -> ServedPath:
        """Return the path through the form, with its inner stages within reach."""

    def read_weights(self, artifact: Artifact) -> Mapping[str, Mapping[str, NDArray[Any]]]:
        """Return the constants of each file of the form, by name where it keeps names; none without files."""

    def open_geometry(self, steps: Preprocessing, pixels: PixelFormat) -> GeometryFunction:
        """Return the form's own execution of an image transform's geometry."""

    def open_scorer(self, artifact: Artifact, device: torch.device) -> Scorer | None:
        """Return what runs the form in PyTorch, from prepared inputs; None where it is the runtime that runs it."""

    def calibrate(self, artifact: Artifact, scales: LogitScales) -> CalibratedForm:
        """Return the form with its logits multiplied by ``scales``."""
