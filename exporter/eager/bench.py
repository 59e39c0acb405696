"""The same network in PyTorch: what 'truecopy bench --against' puts beside the artifact."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from exporter.architectures.registry import Architecture
from exporter.backends.backend import Scorer
from exporter.backends.registry import backends_in
from exporter.conversion.network_io import Arrays, take_apart
from exporter.eager.source import open_eager_network
from exporter.errors import ConversionError
from exporter.inputs.image import Arithmetic
from exporter.options.export import ExportOptions
from exporter.recipe_from_artifact import postprocessing_from_artifact
from runtime.artifact.golden import read_golden
from runtime.artifact.open import Artifact
from runtime.bench import Runner
from runtime.engine.devices import DEVICES, split_device
from runtime.manifest import ImageInput, Manifest, TensorInput


def build_baselines(
    checkpoint: Path,
    artifact: Artifact,
    *,
    device: str = "cpu",
    arch: Architecture | None = None,
    trust: bool = False,
    imports: Sequence[Path] = (),
) -> dict[str, Runner]:
    """Return eager PyTorch, torch.compile and the artifact's TorchScript, from prepared inputs to scores on the host.

    ``device`` is the artifact's, as ``Model.device`` has it. On NVIDIA's, PyTorch runs on the same one, with TF32 off
    as there; where it cannot, and beside other accelerators, it runs on the CPU, and the names say so. The network is
    built as the manifest's source says it was exported; ``arch`` says otherwise where that cannot be found from
    here. Raises CheckpointError when ``checkpoint`` is not the one that was exported, ConversionError for kinds of
    input that the eager network does not take as they are.
    """
    manifest = artifact.manifest
    where = _torch_device(device)
    to_inputs = _to_inputs(manifest, where)
    options = ExportOptions(checkpoint=checkpoint, arch=arch, trust=trust, imports=tuple(imports))
    network = open_eager_network(artifact, options).network.to(where)
    with _strict():
        golden = read_golden(artifact.file(manifest.golden.file)).cases
        to_scores = _to_scores(artifact, [network(*to_inputs(case.prepared)) for case in golden], where)

    def runner(module: Callable[..., Any]) -> Runner:
        def score(arrays: Arrays) -> NDArray[Any]:
            with _strict():
                return to_scores(module(*to_inputs(arrays)))

        return score

    baselines: dict[str, Runner] = {"eager PyTorch": runner(network)}
    for backend in backends_in(manifest).values():
        scorer = backend.open_scorer(artifact, where)
        if scorer is not None:
            baselines[backend.title] = _scored_by(scorer)
    baselines["torch.compile"] = runner(torch.compile(network))
    elsewhere = where.type == "cpu" and device != "cpu"
    return {f"{name} on the CPU" if elsewhere else name: baseline for name, baseline in baselines.items()}


def _torch_device(device: str) -> torch.device:
    kind, number = split_device(device)
    nvidia = DEVICES[kind].nvidia and torch.cuda.is_available()
    return torch.device("cuda", number) if nvidia else torch.device("cpu")


@contextlib.contextmanager
def _strict() -> Iterator[None]:
    # cuDNN's convolutions use TF32 by default, cuBLAS's products do not.
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def _to_inputs(manifest: Manifest, where: torch.device) -> Callable[[Arrays], Sequence[Tensor]]:
    """Return what turns the network graph's arrays into the eager network's arguments, on its device."""
    kinds = {type(spec) for spec in manifest.inputs}
    if kinds == {TensorInput}:
        return lambda arrays: _tensors(arrays, where)
    (spec, *others) = manifest.inputs
    if not isinstance(spec, ImageInput) or others:
        raise ConversionError(
            f"'{manifest.name}': expected a model of images or tensors to compare with, got "
            f"{', '.join(sorted(kind.__name__ for kind in kinds))}. Run the command without --against."
        )
    arithmetic = Arithmetic(spec.preprocessing).to(where)
    return lambda arrays: [arithmetic(tensor) for tensor in _tensors(arrays, where)]


def _to_scores(artifact: Artifact, values: Sequence[Any], where: torch.device) -> Callable[[Any], NDArray[Any]]:
    """Return what turns a value that the network returns into the artifact's first output; ``values`` are examples."""
    postprocessing = postprocessing_from_artifact(artifact, values)
    module = postprocessing.module().to(where)
    if postprocessing.whole:
        return lambda value: _first(module(tuple(take_apart(value)[1].values())))
    return lambda value: _numpy(module(postprocessing.main(value)))


def _tensors(arrays: Arrays, where: torch.device) -> list[Tensor]:
    return [torch.from_numpy(array).to(where) for array in arrays.values()]


def _scored_by(scorer: Scorer) -> Runner:
    def score(arrays: Arrays) -> NDArray[Any]:
        with _strict():
            return _first(scorer(arrays))

    return score


def _first(value: Any) -> NDArray[Any]:
    return _numpy(next(iter(take_apart(value)[1].values())))


def _numpy(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array
