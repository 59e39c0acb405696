"""Consistency of a manifest: its parts fit one another, and nothing that is compared is left out."""

from pathlib import Path

from runtime.errors import ArtifactError
from runtime.manifest import FULL_PRECISION, Manifest


def check_manifest(manifest: Manifest, *, subject: str) -> None:
    """Raise ArtifactError, with ``subject`` as the file's name, where the parts of a manifest do not fit one another.

    Each part by itself has been checked by its type.
    """
    if manifest.parity is None:
        raise ArtifactError(f"{subject}: never proven equal to its model. Export the model again.")
    precisions = [variant.precision for variant in manifest.variants]
    measured = [variant.precision for variant in manifest.variants if variant.approximation is not None]
    if precisions[:1] != [FULL_PRECISION] or len(set(precisions)) < len(precisions) or precisions[1:] != measured:
        raise ArtifactError(
            f"{subject}: its variants do not fit: expected {FULL_PRECISION} first, and each other precision once, with "
            f"what was measured of it, got {', '.join(precisions) or 'none'}. Export the model again."
        )
    for variant in manifest.variants[1:]:
        missing = [name for name in variant.files if name not in manifest.files]
        if missing:
            raise ArtifactError(
                f"{subject}: '{missing[0]}' of variant {variant.precision} is not listed in its files. "
                "Export the model again."
            )
    for name in manifest.files:
        if Path(name).name != name or name in {"", ".", ".."} or "\\" in name or "\0" in name:
            raise ArtifactError(
                f"{subject}: file name leaves the artifact: expected a plain name, got '{name[:80]}'. "
                "Do not use this artifact; export the model again."
            )
