"""golden.npz: a few inputs with the eager model's outputs for them, so that any machine can check itself."""

import io
import zipfile
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.errors import ArtifactError

# A dozen small images and their prepared pixels take a few megabytes; an archive that unpacks to more is not ours.
_LIMIT_BYTES = 256 * 2**20


class GoldenSet(msgspec.Struct, frozen=True, kw_only=True):
    """Encoded images, their prepared pixels, and the eager model's scores, row by row.

    ``pixels`` is uint8 [inputs, height, width, 3] from the training transform; ``scores`` is float32 [inputs,
    classes] from the eager model.
    """

    images: tuple[bytes, ...]
    pixels: NDArray[np.uint8]
    scores: NDArray[np.float32]


def golden_to_npz(golden: GoldenSet) -> bytes:
    """Return the set as a compressed npz archive; equal sets give equal bytes."""
    arrays: dict[str, NDArray[np.generic]] = {
        f"image_{row}": np.frombuffer(image, dtype=np.uint8) for row, image in enumerate(golden.images)
    }
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, pixels=golden.pixels, scores=golden.scores, **arrays)
    return stream.getvalue()


def read_golden(path: Path) -> GoldenSet:
    """Return the golden set in file ``path``; raises ArtifactError when it is not one."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > _LIMIT_BYTES:
            raise ArtifactError(
                f"'{path}': unpacks to too much: expected at most {_LIMIT_BYTES} bytes, got {size}. "
                "Do not use this artifact; export the model again."
            )
        with np.load(path, allow_pickle=False) as arrays:
            pixels, scores = arrays["pixels"], arrays["scores"]
            images = tuple(arrays[f"image_{row}"].tobytes() for row in range(len(pixels)))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"'{path}': not a golden set: {error}. Export the model again.") from error
    return GoldenSet(images=images, pixels=pixels, scores=scores)
