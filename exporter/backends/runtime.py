"""Backend of the runtime: host preprocessing and the network graph, as the artifact is served."""

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray

from exporter.backends.backend import (
    CalibratedForm,
    LogitScales,
    NetworkSource,
    OpenArtifact,
    Scorer,
    WrittenForm,
)
from exporter.bundle import Staging
from exporter.inputs.image import PixelFormat
from exporter.inputs.image.pixel_check import GeometryFunction
from exporter.parity.cases import ServedPath
from exporter.parity.paths import graph_stages, runtime_path
from runtime.artifact.open import Artifact
from runtime.geometry.native import prepare
from runtime.manifest import Preprocessing

title: str = "runtime"
files: tuple[str, ...] = ()


def write(_stage: Staging, _source: NetworkSource) -> WrittenForm:
    """Write nothing: the runtime runs the files of the ONNX graphs."""
    return WrittenForm(finding="none: it runs the ONNX graphs")


def open_path(opened: OpenArtifact) -> ServedPath:
    """Return the path that ``predict`` takes: the host's stages, and those inside the ``network`` graph."""
    model = opened.model
    graph = model.manifest.variants[0].network
    return runtime_path(
        model,
        stages={
            **opened.adapter.host_stages(model),
            **graph_stages(opened.subgraphs, graph, model.manifest, opened.postprocessing, opened.adapter.borders),
        },
        release=opened.release,
    )


def read_weights(_artifact: Artifact) -> Mapping[str, Mapping[str, NDArray[Any]]]:
    """Return none: the graphs have them."""
    return {}


def open_geometry(steps: Preprocessing, _pixels: PixelFormat) -> GeometryFunction:
    """Return the host's geometry."""
    return lambda image: prepare(image, steps.geometry)


def open_scorer(_artifact: Artifact, _device: torch.device) -> Scorer | None:
    """Return None: this is the runtime itself."""
    return None


def calibrate(_artifact: Artifact, _scales: LogitScales) -> CalibratedForm:
    """Return nothing: the graphs are scaled."""
    return CalibratedForm()
