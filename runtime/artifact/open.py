"""Artifact folders: opening them and checking their files.

Nothing in an artifact is executed; no link is followed, and no file outside the folder is read.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from runtime.errors import ArtifactError
from runtime.manifest import LAYOUT, Manifest, manifest_from_json

# A manifest holds a few kilobytes: a file near this size is not one.
_MANIFEST_LIMIT_BYTES = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """An artifact folder whose manifest has been read; each file is checked when its path is requested."""

    path: Path
    manifest: Manifest
    _checked: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def file(self, name: str) -> Path:
        """Return the path of a file of the artifact, whose size and SHA-256 are compared with the manifest once.

        Raises ArtifactError when the file is not declared, missing, a link, or not the one that was exported.
        """
        declared = self.manifest.files.get(name)
        if declared is None:
            raise ArtifactError(f"'{self.path}': '{name}' is not listed in its manifest. Export the model again.")
        path = self.path / name
        if name in self._checked:
            return path
        _check_regular(path)
        size = path.stat().st_size
        if size != declared.size_bytes:
            raise ArtifactError(
                f"'{path}': wrong size: expected {declared.size_bytes} bytes, got {size}. "
                "Copy the artifact again, or export the model again."
            )
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != declared.sha256:
            raise ArtifactError(
                f"'{path}': damaged: expected SHA-256 {declared.sha256}, got {digest}. "
                "Copy the artifact again, or export the model again."
            )
        self._checked[name] = _signature(path)
        return path

    def check_unchanged(self) -> None:
        """Raise ArtifactError if a file that was checked has been replaced, changed or removed since.

        Weights are mapped into memory, not copied: a change of their file would change the results.
        """
        for name, signature in self._checked.items():
            path = self.path / name
            try:
                same = _signature(path) == signature
            except OSError:
                same = False
            if not same:
                raise ArtifactError(
                    f"'{path}': changed while in use. Load the artifact again; to replace one that is in use, put the "
                    "new one in another folder."
                )

    def labels(self) -> tuple[str, ...]:
        """Return the class names in the order of the scores; empty for a task without classes."""
        labels = self.manifest.labels
        if labels is None:
            return ()
        path = self.file(labels.file)
        names = tuple(path.read_text(encoding="utf-8").splitlines())
        if len(names) != labels.count:
            raise ArtifactError(
                f"'{path}': wrong number of labels: expected {labels.count}, got {len(names)}. Export the model again."
            )
        return names


def open_artifact(path: str | Path) -> Artifact:
    """Open the artifact in folder ``path``; only its manifest is read.

    Raises ArtifactError when there is no artifact, or one of another format version, or one that names files outside
    its folder.
    """
    folder = Path(path)
    manifest_path = folder / LAYOUT.manifest
    if not folder.is_dir():
        reason = "not a folder" if folder.exists() else "no such folder"
        raise ArtifactError(f"'{folder}': {reason}: expected an artifact folder. Check the path.")
    if not manifest_path.is_file():
        raise ArtifactError(
            f"'{folder}': not an artifact: expected a file '{LAYOUT.manifest}' in it. "
            "Pass the folder that 'truecopy export' wrote."
        )
    _check_regular(manifest_path)
    if manifest_path.stat().st_size > _MANIFEST_LIMIT_BYTES:
        raise ArtifactError(
            f"'{manifest_path}': too large for a manifest: expected at most {_MANIFEST_LIMIT_BYTES} bytes, "
            f"got {manifest_path.stat().st_size}. Export the model again."
        )
    manifest = manifest_from_json(manifest_path.read_bytes(), subject=f"'{manifest_path}'")
    if manifest.parity is None:
        raise ArtifactError(f"'{manifest_path}': never proven equal to its model. Export the model again.")
    for name in manifest.files:
        if Path(name).name != name or name in {"", ".", ".."} or "\\" in name or "\0" in name:
            raise ArtifactError(
                f"'{manifest_path}': file name leaves the artifact: expected a plain name, got '{name}'. "
                "Do not use this artifact; export the model again."
            )
    return Artifact(path=folder, manifest=manifest)


def _signature(path: Path) -> tuple[int, int, int]:
    """Return numbers that change when a file is replaced or written to, at the cost of one system call."""
    status = path.stat()
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _check_regular(path: Path) -> None:
    """Raise ArtifactError unless ``path`` is a regular file and no link."""
    if path.is_symlink():
        raise ArtifactError(f"'{path}': is a link: expected a regular file. Copy the artifact with its contents.")
    if not path.is_file():
        raise ArtifactError(
            f"'{path}': missing: the manifest lists it. Copy the artifact again, or export the model again."
        )
