"""The same network in PyTorch: what 'truecopy bench --against' puts beside the artifact."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from exporter.architectures.families import Architecture
from exporter.architectures.rebuilding import rebuild
from exporter.checkpoint import read_checkpoint
from exporter.errors import CheckpointError
from exporter.preprocessing import Arithmetic
from exporter.to_torchscript import load_torchscript
from exporter.workflow import TORCHSCRIPT
from runtime.artifact import Artifact
from runtime.bench import Rival


def build_rivals(
    checkpoint: Path,
    artifact: Artifact,
    *,
    architecture: Architecture | None = None,
    trust: bool = False,
    imports: Sequence[Path] = (),
) -> dict[str, Rival]:
    """Return eager PyTorch, torch.compile and the artifact's TorchScript, from prepared pixels to scores on the CPU.

    The network is built as the manifest's source says it was exported; ``architecture`` says otherwise where that
    cannot be found from here. What torch.compile cannot do here is left out, with a warning. Raises CheckpointError
    when ``checkpoint`` is not the one that was exported.
    """
    manifest = artifact.manifest
    source = manifest.source
    read = read_checkpoint(checkpoint, weights=source.checkpoint_entry or None, trust=trust, imports=imports)
    if read.sha256 != source.checkpoint_sha256:
        raise CheckpointError(
            f"'{checkpoint}': not the checkpoint of '{manifest.name}': expected SHA-256 {source.checkpoint_sha256}, "
            f"got {read.sha256}. Name the file that was exported."
        )
    network = rebuild(architecture or source.architecture, source.arguments, read).network
    arithmetic = Arithmetic(manifest.preprocessing)
    spec = manifest.preprocessing
    example = torch.zeros(2, spec.channels, spec.height, spec.width)
    with torch.no_grad():
        softmax = not _sums_to_one(network(example))

    def runner(module: Any) -> Rival:
        def score(pixels: NDArray[np.uint8]) -> NDArray[Any]:
            with torch.inference_mode():
                logits: Tensor = module(arithmetic(torch.from_numpy(pixels)))
                scores: NDArray[Any] = (torch.softmax(logits, dim=-1) if softmax else logits).numpy()
                return scores

        return score

    script: Any = load_torchscript(artifact.file(TORCHSCRIPT))

    def score_script(pixels: NDArray[np.uint8]) -> NDArray[Any]:
        with torch.inference_mode():
            scores: NDArray[Any] = script.classify(torch.from_numpy(pixels)).numpy()
            return scores

    rivals = {"eager PyTorch": runner(network), "TorchScript": score_script}
    compiled = _compile(network, example[:1])
    return rivals if compiled is None else {**rivals, "torch.compile": runner(compiled)}


def _compile(network: nn.Module, example: Tensor) -> Any:
    compiled = torch.compile(network)
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            compiled(example)
    except Exception as error:  # no C++ compiler, an operation that it does not know, ...
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        warnings.warn(f"torch.compile is left out: {reason}", stacklevel=3)
        return None
    return compiled


def _sums_to_one(logits: Tensor) -> bool:
    """Return whether the network ends in a softmax itself, as the export found out by the same rule."""
    return bool((logits >= 0).all()) and bool(((logits.sum(dim=-1) - 1).abs() < 1e-4).all())
