"""An artifact as the server holds it: verified on this device, warmed, with a session for each thread plan."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from runtime.artifact import Artifact, open_artifact
from runtime.errors import ArtifactError
from runtime.golden import read_golden
from runtime.manifest import Manifest
from runtime.model import PIXELS, Model
from runtime.verify import verify_model

# One version an artifact: the protocol asks for versions, an artifact has none beside its own content.
VERSION = "1"

_BATCH_SIZES = (1, 2, 4, 8, 16, 32)

Batching = Literal["auto", "on", "off"]


@dataclass(kw_only=True)
class Loaded:
    """One artifact, ready to serve.

    ``narrow`` runs on the thread that calls it, ``wide`` on all cores; on an accelerator they are the same.
    ``batch_sizes`` are those that one run may have, smallest first; none where inputs run one by one.
    """

    name: str
    path: Path
    narrow: Model
    wide: Model
    batch_sizes: tuple[int, ...] = ()

    @property
    def manifest(self) -> Manifest:
        """What the artifact says of itself."""
        return self.narrow.manifest

    def limit_pixels(self, max_pixels: int) -> None:
        """Refuse images of more pixels from now on."""
        self.narrow.max_pixels = self.wide.max_pixels = max_pixels


def load_verified(
    path: Path, *, name: str, device: str, cores: int, max_pixels: int, batching: Batching = "auto"
) -> Loaded:
    """Return the artifact in folder ``path``, every session of it checked with the golden inputs on this device.

    Batches are run on an accelerator, or anywhere with ``batching='on'``, and only if they give what single runs give.
    Raises ArtifactError when a file is damaged or an answer is off, DeviceError when the device cannot run it.
    """
    artifact = open_artifact(path)
    narrow = Model(artifact, device=device, threads=1, max_pixels=max_pixels)
    wide = narrow
    if narrow.device == "cpu" and cores > 1:
        wide = Model(artifact, device=narrow.device, threads=cores, max_pixels=max_pixels)
    for model in {id(narrow): narrow, id(wide): wide}.values():
        verification = verify_model(artifact, model, whole_path=False)
        if not verification.passed:
            worst = next(check for check in verification.checks if not check.passed)
            raise ArtifactError(
                f"'{path}': this device's answers are not the eager model's: expected '{worst.name}' within "
                f"{worst.limit:g} {worst.unit}, got {worst.worst:.2g}. Run 'truecopy verify' on it, and "
                "do not serve it here."
            )
    loaded = Loaded(name=name or artifact.manifest.name, path=path, narrow=narrow, wide=wide)
    if batching == "on" or (batching == "auto" and narrow.device != "cpu"):
        loaded.batch_sizes = _checked_sizes(artifact, narrow)
    return loaded


def _checked_sizes(artifact: Artifact, model: Model) -> tuple[int, ...]:
    """Return the batch sizes, each run once, in which golden inputs score as they do alone; none if one differs."""
    golden = artifact.manifest.golden
    pixels = read_golden(artifact.file(golden.file)).pixels
    output = artifact.manifest.outputs[0].name
    alone = np.concatenate([model.run({PIXELS: row[np.newaxis]})[output] for row in pixels])
    for size in _BATCH_SIZES:
        rows = np.arange(size) % len(pixels)
        together = model.run({PIXELS: pixels[rows]})[output]
        if not np.abs(together - alone[rows]).max() <= golden.score_limit:
            return ()
    return _BATCH_SIZES
