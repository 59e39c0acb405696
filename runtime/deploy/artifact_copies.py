"""The artifact on every node of a cluster: a local folder, or a verified copy."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runtime.artifact.locks import lock
from runtime.artifact.open import open_artifact
from runtime.artifact.unfinished import unfinished_folder
from runtime.errors import ArtifactError
from runtime.inputs.source import Remote, is_url
from runtime.jobs.urls import read_url
from runtime.manifest import LAYOUT, manifest_from_json


def place_artifact(artifact: str, *, sha256: str | None, files: Mapping[str, Any] | None = None) -> Path:
    """Return a folder of this node with the artifact, whose manifest must have ``sha256``, if that is given.

    It is ``artifact`` itself where that is a folder here; otherwise a copy, made once per node, from the URL or from
    ``files``, references to the bytes of its files in Ray's object store. The files are compared with the manifest
    when they are loaded. Raises ArtifactError for another version, or where there is nothing to copy.
    """
    if is_url(artifact):
        manifest = read_url(_join(artifact, LAYOUT.manifest))
        _check_version(Remote(artifact).name, manifest, sha256)
        return _copy(manifest, lambda name: read_url(_join(artifact, name)))
    folder = Path(artifact)
    if folder.is_dir() or files is None:
        manifest = (open_artifact(folder).path / LAYOUT.manifest).read_bytes()
        _check_version(artifact, manifest, sha256)
        return folder
    import ray

    manifest = ray.get(files[LAYOUT.manifest])
    _check_version(artifact, manifest, sha256)
    return _copy(manifest, lambda name: ray.get(files[name]))


def artifact_digest(artifact: str | Path) -> str:
    """Return the SHA-256 of an artifact's manifest, which contains those of its files: it identifies the version."""
    return hashlib.sha256((open_artifact(artifact).path / LAYOUT.manifest).read_bytes()).hexdigest()


def _check_version(name: str, manifest: bytes, sha256: str | None) -> None:
    digest = hashlib.sha256(manifest).hexdigest()
    if sha256 is not None and digest != sha256:
        raise ArtifactError(
            f"'{name}' on node '{os.uname().nodename}': another version of the artifact: expected the one whose "
            f"manifest has SHA-256 {sha256}, got {digest}. Copy the same artifact to every node, or remove it there to "
            "have it fetched."
        )


def _copy(manifest: bytes, read: Callable[[str], bytes]) -> Path:
    """Return this node's folder for the artifact of ``manifest``, filled by the first process that asks."""
    cache = Path(tempfile.gettempdir()) / f"truecopy-artifacts-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    if cache.is_symlink() or cache.stat().st_uid != os.getuid():
        raise ArtifactError(f"'{cache}' is owned by another user. Remove it, or set TMPDIR.")
    digest = hashlib.sha256(manifest).hexdigest()
    folder = cache / digest
    with (cache / f"{digest}.lock").open("w") as guard:
        lock(guard.fileno(), wait=True)  # one actor of a node fetches, the others wait
        if not folder.is_dir():
            names = manifest_from_json(manifest, subject=f"'{LAYOUT.manifest}'").files
            with unfinished_folder(folder) as new:
                (new / LAYOUT.manifest).write_bytes(manifest)
                artifact = open_artifact(new)  # refuses names that leave the folder, before anything is written
                for name in names:
                    (new / name).write_bytes(read(name))
                    artifact.file(name)
                new.rename(folder)
    return folder


def _join(url: str, name: str) -> str:
    base, question, options = url.partition("?")
    return f"{base.rstrip('/')}/{name}{question}{options}"
