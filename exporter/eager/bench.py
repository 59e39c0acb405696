"""The same network in PyTorch: what 'truecopy bench --against' puts beside the artifact."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from exporter.architectures.rebuild import rebuild
from exporter.architectures.registry import Architecture
from exporter.backends.backend import Scorer
from exporter.backends.registry import backends_in
from exporter.checkpoint import read_checkpoint
from exporter.errors import CheckpointError, ConversionError
from exporter.inputs.image import Arithmetic
from runtime.artifact.open import Artifact
from runtime.bench import Rival
from runtime.engine.devices import DEVICES, split_device
from runtime.engine.session import Arrays
from runtime.manifest import Classify, ImageInput, Manifest, Multilabel, TensorInput

# An output that sums to one within this is a distribution already: the export's own rule.
_PROBABILITY_SUM = 1e-4


def build_baselines(
    checkpoint: Path,
    artifact: Artifact,
    *,
    device: str = "cpu",
    arch: Architecture | None = None,
    trust: bool = False,
    imports: Sequence[Path] = (),
) -> dict[str, Rival]:
    """Return eager PyTorch, torch.compile and the artifact's TorchScript, from prepared inputs to scores on the host.

    ``device`` is the artifact's, as ``Model.device`` has it. On NVIDIA's, PyTorch runs on the same one, with TF32 off
    as there; where it cannot, and beside other accelerators, it runs on the CPU, and the names say so. The network is
    built as the manifest's source says it was exported; ``arch`` says otherwise where that cannot be found from
    here. Raises CheckpointError when ``checkpoint`` is not the one that was exported, ConversionError for kinds of
    input that the eager network does not take as they are.
    """
    manifest = artifact.manifest
    source = manifest.source
    read = read_checkpoint(checkpoint, weights=source.checkpoint_entry or None, trust=trust, imports=imports)
    if read.sha256 != source.checkpoint_sha256:
        raise CheckpointError(
            f"'{checkpoint}': not the checkpoint of '{manifest.name}': expected SHA-256 {source.checkpoint_sha256}, "
            f"got {read.sha256}. Name the file that was exported."
        )
    where = _torch_device(device)
    to_inputs = _to_inputs(manifest, where)
    network = rebuild(arch or source.architecture, source.arguments, read).network.to(where)

    def runner(module: Callable[..., Any]) -> Rival:
        def score(arrays: Arrays) -> NDArray[Any]:
            with _strict():
                return _end(module(*to_inputs(arrays)), manifest)

        return score

    rivals: dict[str, Rival] = {"eager PyTorch": runner(network)}
    for backend in backends_in(manifest).values():
        scorer = backend.open_scorer(artifact, where)
        if scorer is not None:
            rivals[backend.title] = _scored_by(scorer)
    rivals["torch.compile"] = runner(torch.compile(network))
    elsewhere = where.type == "cpu" and device != "cpu"
    return {f"{name} on the CPU" if elsewhere else name: rival for name, rival in rivals.items()}


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


def _tensors(arrays: Arrays, where: torch.device) -> list[Tensor]:
    return [torch.from_numpy(array).to(where) for array in arrays.values()]


def _scored_by(scorer: Scorer) -> Rival:
    def score(arrays: Arrays) -> NDArray[Any]:
        with _strict():
            return _first(scorer(arrays))

    return score


def _end(found: Any, manifest: Manifest) -> NDArray[Any]:
    """Return the first output as the export ends it, where that is an activation."""
    logits = torch.from_numpy(_first(found))
    if isinstance(manifest.task, Multilabel):
        return _numpy(torch.sigmoid(logits))
    if isinstance(manifest.task, Classify) and not _sums_to_one(logits):
        return _numpy(torch.softmax(logits, dim=-1))
    return _numpy(logits)


def _first(found: Any) -> NDArray[Any]:
    while not isinstance(found, Tensor):
        found = next(iter(found.values() if isinstance(found, dict) else found))
    return _numpy(found)


def _numpy(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array


def _sums_to_one(logits: Tensor) -> bool:
    return bool((logits >= 0).all()) and bool(((logits.sum(dim=-1) - 1).abs() < _PROBABILITY_SUM).all())
