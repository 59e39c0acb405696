"""Backend of TorchScript: the whole path as one archive for libtorch."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from exporter.backends.backend import (
    TINY,
    CalibratedForm,
    LogitScales,
    NetworkSource,
    OpenArtifact,
    Scorer,
    WrittenForm,
    absence,
)
from exporter.bundle import Staging
from exporter.conversion.network_io import Arrays
from exporter.conversion.to_torchscript import (
    load_torchscript,
    script,
    to_torchscript,
    trace,
    trace_pipeline,
    write_torchscript,
)
from exporter.conversion.validation import validate
from exporter.errors import ConversionError, first_line
from exporter.inputs.adapter import InputAdapter, TorchScriptPart, module_before
from exporter.inputs.image import Geometry, PixelFormat
from exporter.inputs.image.made_images import PixelSource
from exporter.inputs.image.pixel_check import GeometryFunction
from exporter.parity.cases import Case, ReferenceOutput, ReferenceValue, ServedPath, ServedStage, StageId
from exporter.parity.paths import REFERENCE_VALUES, prepared_batch, split_batch, up_to_end
from exporter.progress import megabytes
from runtime.artifact.golden import read_golden
from runtime.artifact.open import Artifact
from runtime.evidence import Stage
from runtime.geometry.arrays import Pixels
from runtime.manifest import LAYOUT, Preprocessing

title: str = "TorchScript"
files: tuple[str, ...] = (LAYOUT.torchscript,)


def write(stage: Staging, source: NetworkSource) -> WrittenForm:
    """Write the archive, or say why there is none: the graphs do without it."""
    part = source.adapter.torchscript_part()
    if part.obstacle:
        return WrittenForm(finding=f"none: {part.obstacle}")
    try:
        write_torchscript(_pipeline(source, part), stage.folder / LAYOUT.torchscript)
    except ConversionError as error:
        reason = f"it cannot be traced: {str(error).rstrip('.')}"
        return WrittenForm(finding=f"none: {reason}", missing=absence(LAYOUT.torchscript, reason))
    stage.add(LAYOUT.torchscript)
    size_bytes = stage.files()[LAYOUT.torchscript].size_bytes
    return WrittenForm(finding=f"{LAYOUT.torchscript}, {megabytes(size_bytes)}")


def _pipeline(source: NetworkSource, part: TorchScriptPart) -> nn.Module:
    """Return the whole path around the traced network.

    Raises ConversionError where it cannot be traced.
    """
    example, postprocessing = tuple(source.inputs.example.values()), source.postprocessing
    if part.geometry is not None and part.arithmetic is not None and not postprocessing.whole:
        return Pipeline(trace(source.flat, example), part.geometry, part.arithmetic, postprocessing.module())
    last = postprocessing.module()
    after = None if isinstance(last, nn.Identity) else last
    before = module_before(part)
    module = source.flat if before is not None else NetworkPipeline(source.flat, after).eval()
    traced = trace(module, example)
    # A trace keeps the length that it was made with, where the network's own code looks at it.
    validate(lambda inputs: _run(traced, inputs), module, source.inputs.validation_inputs, subject="its trace")
    if before is None:
        return traced
    raw = tuple(torch.from_numpy(np.array(source.raw[name])) for name in _raw_names(source.adapter))
    return trace_pipeline(PreparedPipeline(before, traced, after), raw)


def _raw_names(adapter: InputAdapter) -> tuple[str, ...]:
    return tuple(value.name for value in adapter.raw_graph_part().inputs)


def _run(traced: nn.Module, inputs: Mapping[str, Tensor]) -> list[NDArray[Any]]:
    """Return the outputs of a trace; raises ConversionError where it does not take the inputs."""
    try:
        with torch.no_grad():
            result = traced(*inputs.values())
    except RuntimeError as error:
        raise ConversionError(f"its trace fails on inputs of another length: {first_line(error)}") from error
    return [value.numpy() for value in (result if isinstance(result, tuple) else (result,))]


def open_path(opened: OpenArtifact) -> ServedPath:
    """Return the path through the archive; where it holds a pipeline, the stages are methods of it."""
    archive = _Archive(opened.artifact.file(LAYOUT.torchscript))
    borders, postprocessing, manifest = opened.adapter.borders, opened.postprocessing, opened.model.manifest
    part = opened.adapter.torchscript_part()
    raw = part.before is not None or part.geometry is not None
    names = _raw_names(opened.adapter) if raw else tuple(borders.network)
    outputs = [output.name for output in postprocessing.outputs]

    def run(cases: Sequence[Case]) -> Sequence[Arrays]:
        if raw:
            decoded = [opened.adapter.decode(case) for case in cases]
            arrays: Arrays = {name: np.concatenate([case[name] for case in decoded]) for name in names}
        else:
            arrays = prepared_batch(opened.model, cases)
        with torch.no_grad():
            result = archive.module(*(torch.from_numpy(np.array(arrays[name])) for name in names))
        values = result if isinstance(result, tuple) else (result,)
        by_name = {name: value.numpy() for name, value in zip(outputs, values, strict=True)}
        return split_batch(by_name, manifest, len(cases))

    stages = _stages(archive, opened) if part.geometry is not None and not postprocessing.whole else {}
    return ServedPath(name=LAYOUT.torchscript, stages=stages, run=run, release=archive.release)


def read_weights(artifact: Artifact) -> Mapping[str, Mapping[str, NDArray[Any]]]:
    """Return the constants of the frozen archive's forward, which have numbers and no names."""
    module: Any = load_torchscript(artifact.file(LAYOUT.torchscript))
    _, constants = module.code_with_constants
    arrays = {
        name: value.detach().numpy()
        for name, value in constants.const_mapping.items()
        if isinstance(value, Tensor) and value.layout == torch.strided and value.dtype != torch.bfloat16
    }
    return {LAYOUT.torchscript: arrays}


def open_geometry(steps: Preprocessing, _pixels: PixelFormat) -> GeometryFunction:
    """Return the geometry's module, compiled."""
    module = script(Geometry(steps))

    def prepare(image: PixelSource) -> Pixels:
        array = np.asarray(image)
        batch = (array if array.ndim == 3 else array[:, :, np.newaxis])[np.newaxis]
        with torch.no_grad():
            prepared: Pixels = module(torch.from_numpy(batch.copy()))[0].numpy()
            return prepared

    return prepare


def open_scorer(artifact: Artifact, device: torch.device) -> Scorer | None:
    """Return the archive from prepared inputs to scores on ``device``; None where it takes raw ones alone."""
    module: Any = load_torchscript(artifact.file(LAYOUT.torchscript), device)
    graphs = artifact.manifest.variants[0]
    if not hasattr(module, "score") and graphs.network != graphs.model:
        return None
    # An archive without a pipeline takes the network's own inputs, and there is nothing to prepare.
    score = getattr(module, "score", module)

    def run(arrays: Arrays) -> Any:
        with torch.no_grad():
            return score(*(torch.from_numpy(np.array(array)).to(device) for array in arrays.values()))

    return run


def calibrate(artifact: Artifact, scales: LogitScales) -> CalibratedForm:
    """Return the archive with calibrated probabilities, with the methods that it had; none where it has several inputs.

    An artifact may also have no archive.
    """
    if LAYOUT.torchscript not in artifact.manifest.files:
        return CalibratedForm()
    if len(artifact.manifest.inputs) > 1:
        note = f"{LAYOUT.torchscript}: left out, as it takes several inputs"
        return CalibratedForm(left_out=(LAYOUT.torchscript,), notes=(note,))
    inner: Any = load_torchscript(artifact.file(LAYOUT.torchscript))
    scaling = _Scaling(scales)
    example = _golden_input(artifact)
    if hasattr(inner, "score"):
        calibrated: nn.Module = _Staged(inner, scaling)
    elif len(example) == 1:
        calibrated = _Whole(inner, scaling)
    else:
        calibrated = trace_pipeline(NetworkPipeline(inner, scaling), example)
    archives = {LAYOUT.torchscript: to_torchscript(calibrated)}
    return CalibratedForm(files=archives, notes=(f"{LAYOUT.torchscript}: also calibrated",))


def _golden_input(artifact: Artifact) -> tuple[Tensor, ...]:
    """Return a golden input as the archive takes it, by position: as the graph of raw inputs has them."""
    graph = onnx.load_from_string(artifact.read(artifact.manifest.variants[0].model)).graph
    prepared = read_golden(artifact.file(LAYOUT.golden)).cases[0].prepared
    return tuple(torch.from_numpy(np.array(prepared[value.name])) for value in graph.input if value.name in prepared)


class _Archive:
    """An archive that is loaded when it is first run, and again after ``release``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loaded: Any = None

    @property
    def module(self) -> Any:
        """The module."""
        if self._loaded is None:
            self._loaded = load_torchscript(self._path)
        return self._loaded

    def release(self) -> None:
        """Free the module."""
        self._loaded = None


def _stages(archive: _Archive, opened: OpenArtifact) -> dict[Stage, ServedStage]:
    """Return the stages of an archive with a pipeline, each a method of it."""
    borders, postprocessing = opened.adapter.borders, opened.postprocessing

    def single(arrays: Arrays, _reference: ReferenceOutput) -> Arrays:
        return split_batch(arrays, opened.model.manifest, 1)[0]

    calibrated = opened.model.manifest.calibration is not None
    (decoded,), (prepared,), (network,) = borders.decoded, borders.prepared, tuple(borders.network)
    output = postprocessing.outputs[0].name
    inner = postprocessing.inner_names[0] if postprocessing.computes else output
    methods: list[tuple[Stage, ReferenceValue, str, str, str]] = [
        ("geometry", "decoded", "prepare", decoded, prepared),
        ("arithmetic", "prepared", "normalize", prepared, network),
    ]
    if not calibrated:  # what is calibrated has no logits of its own
        methods.append(("network", "network inputs", "logits", network, inner))
    if postprocessing.computes and not calibrated:
        methods.append(("activation", "network outputs", "postprocess", inner, output))
    finish: dict[Stage, Callable[[Arrays, ReferenceOutput], Arrays]] = {"activation": single}
    finish["network"] = single if not postprocessing.computes else up_to_end if postprocessing.stepwise else _as_it_is
    computation = f"{LAYOUT.torchscript} {opened.artifact.manifest.files[LAYOUT.torchscript].sha256}"
    stages: dict[Stage, ServedStage] = {}
    for stage, takes, method, source, target in methods:
        run = _run_method(archive, method, (takes, source), target, finish.get(stage, _as_it_is))
        stages[stage] = ServedStage(id=StageId(stage=stage, computation=computation, takes=takes), run=run)
    return stages


def _as_it_is(arrays: Arrays, _reference: ReferenceOutput) -> Arrays:
    return arrays


def _run_method(
    archive: _Archive,
    method: str,
    source: tuple[ReferenceValue, str],
    target: str,
    finish: Callable[[Arrays, ReferenceOutput], Arrays],
) -> Callable[[ReferenceOutput], Arrays]:
    """Return what runs a method of the archive on one of the reference's values, and names its value ``target``."""
    takes, name = source

    def run(reference: ReferenceOutput) -> Arrays:
        array = REFERENCE_VALUES[takes](reference)[name]
        with torch.no_grad():
            value: Tensor = getattr(archive.module, method)(torch.from_numpy(np.array(array)))
        return finish({target: value.numpy()}, reference)

    return run


class Pipeline(nn.Module):
    """Decoded inputs to scores: for images uint8 [batch, any height, any width, 3] to float32 [batch, classes, ...]."""

    def __init__(
        self, network: nn.Module, geometry: nn.Module, arithmetic: nn.Module, postprocessing: nn.Module
    ) -> None:
        super().__init__()
        self.geometry = geometry
        self.arithmetic = arithmetic
        self.network = network
        self.postprocessing = postprocessing

    def prepare(self, image: Tensor) -> Tensor:
        """Return the prepared pixels, uint8 [batch, height, width, 3]."""
        pixels: Tensor = self.geometry(image)
        return pixels

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return the network's input for prepared pixels, float32 [batch, 3, height, width]."""
        normalized: Tensor = self.arithmetic(pixels)
        return normalized

    def logits(self, normalized: Tensor) -> Tensor:
        """Return the network's own output for its input."""
        found: Tensor = self.network(normalized)
        return found

    def postprocess(self, logits: Tensor) -> Tensor:
        """Return the scores for the network's own output."""
        scores: Tensor = self.postprocessing(logits)
        return scores

    def score(self, pixels: Tensor) -> Tensor:
        """Return the scores for prepared pixels."""
        return self.postprocess(self.logits(self.normalize(pixels)))

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores."""
        return self.score(self.prepare(image))


class NetworkPipeline(nn.Module):
    """A network and its postprocessing: tensors in by position, as the network takes them."""

    def __init__(self, network: nn.Module, postprocessing: nn.Module | None) -> None:
        super().__init__()
        self.network = network
        self.postprocessing = postprocessing

    def forward(self, *inputs: Tensor) -> Any:
        """Return the scores; without postprocessing, everything that the network returns."""
        found = self.network(*inputs)
        return found if self.postprocessing is None else self.postprocessing(found)


class PreparedPipeline(nn.Module):
    """The whole path of an input without stages of its own: tensors in by position, as the ``model`` graph has them.

    ``before`` returns a tuple of the network's tensors.
    """

    def __init__(self, before: nn.Module, network: nn.Module, postprocessing: nn.Module | None) -> None:
        super().__init__()
        self.before = before
        self.network = network
        self.postprocessing = postprocessing

    def forward(self, *raw: Tensor) -> Any:
        """Return the scores; without postprocessing, everything that the network returns."""
        found = self.network(*self.before(*raw))
        return found if self.postprocessing is None else self.postprocessing(found)


class _Scaling(nn.Module):
    """Probabilities [batch, classes] to calibrated ones."""

    def __init__(self, scales: LogitScales) -> None:
        super().__init__()
        self.sigmoid = scales.sigmoid
        self.tiny = TINY
        self.scales: Tensor
        self.register_buffer("scales", torch.tensor(scales.values, dtype=torch.float32))

    def forward(self, probabilities: Tensor) -> Tensor:
        """Return the probabilities of the scaled logits."""
        logs = torch.log(torch.clamp(probabilities, min=self.tiny))
        if self.sigmoid:
            logs = logs - torch.log(torch.clamp(1 - probabilities, min=self.tiny))
            return torch.sigmoid(logs * self.scales)
        return torch.softmax(logs * self.scales, dim=-1)


class _Whole(nn.Module):
    """A network and its calibration."""

    def __init__(self, inner: nn.Module, scaling: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.scaling = scaling

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the calibrated probabilities."""
        found: Tensor = self.scaling(self.inner(inputs))
        return found


class _Staged(_Whole):
    """The same with the stages of the whole path from an image, as Pipeline has them."""

    def prepare(self, image: Tensor) -> Tensor:
        """Return the prepared pixels."""
        pixels: Tensor = self.inner.prepare(image)  # type: ignore[operator]
        return pixels

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return the network's input."""
        normalized: Tensor = self.inner.normalize(pixels)  # type: ignore[operator]
        return normalized

    def score(self, pixels: Tensor) -> Tensor:
        """Return the calibrated probabilities for prepared pixels."""
        found: Tensor = self.scaling(self.inner.score(pixels))  # type: ignore[operator]
        return found


# TorchScript archives hold the qualified names of their classes: these are part of an artifact, and not of our layout.
# They also hold the names of local variables, so that renaming one in the modules above changes published bytes.
for _archived in (Pipeline, NetworkPipeline, PreparedPipeline, _Scaling, _Whole, _Staged):
    _archived.__module__ = "truecopy"
