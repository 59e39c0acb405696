"""Artifact folders: opening them and checking their files.

Nothing in an artifact is executed; no link is followed, and no file outside the folder is read. The one exception is
the cache of Hugging Face's hub, whose snapshots are folders of links to the blobs beside them.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from runtime.artifact.location import check_no_pointer, find_folder
from runtime.artifact.manifest_checks import check_manifest
from runtime.engine.graph import StoredGraph
from runtime.errors import ArtifactError, TruecopyError
from runtime.manifest import LAYOUT, Manifest, manifest_from_json

# A manifest holds a few kilobytes: a file near this size is not one.
_MANIFEST_LIMIT_BYTES = 16 * 2**20

# No name of a class, or word of a vocabulary, is as long.
_LONGEST_LABEL = 1000

# Of a file of another size than declared, to say what it is.
_LONGEST_START = 64

# Weights begin at a multiple of this, as onnxruntime's own memory does.
_ALIGNMENT_BYTES = 64

# Of graphs that hold their own.
_NO_WEIGHTS: NDArray[np.uint8] = np.empty(0, np.uint8)

# Numbers that change when a file is replaced or written to: its inode, size and times. A copy may have the size and the
# time of modification of what it replaces, as files of reproducible archives have: the time of change is new.
Signature: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """An artifact folder whose manifest has been read; each file is checked when it is read, or its path requested.

    ``digest`` is the SHA-256 of the manifest, which holds those of the files: it identifies the version. What ``read``
    and ``graph`` return stays as it was verified, whatever happens to the folder; except that a ``mapped`` artifact's
    weights are the pages of their file: a check of an artifact, which nothing changes meanwhile, takes less memory so.
    """

    path: Path
    manifest: Manifest
    digest: str = ""
    mapped: bool = False
    folder: Path = field(init=False)
    _checked: dict[str, Signature] = field(default_factory=dict, repr=False)
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", self.path.absolute())  # the process may change its current folder

    def file(self, name: str) -> Path:
        """Return the path of a file of the artifact, whose size and SHA-256 are compared with the manifest once.

        Raises ArtifactError when the file is not declared, missing, a link, not the one that was exported, or no longer
        the one that was checked.
        """
        if name not in self._checked:
            with self._open(name) as stream:
                self._compare(name, stream, hashlib.file_digest(stream, "sha256").hexdigest())
        elif not self._is_unchanged(name):
            raise self._changed(name)
        return self.folder / name

    def read(self, name: str) -> bytes:
        """Return the content of a file of the artifact: the very bytes that were compared with the manifest.

        Raises ArtifactError as ``file`` does.
        """
        with self._open(name) as stream:
            data = stream.read(self.manifest.files[name].size_bytes)
            self._compare(name, stream, hashlib.sha256(data).hexdigest())
        return data

    def graph(self, name: str, *, weights: str | None, shared: str | None = None) -> StoredGraph:
        """Return a graph of the artifact and the files of weights that it reads; in memory, they are kept once.

        Without ``weights``, the graph holds its own; ``shared`` are those of fp32, where a variant reads some of them.

        Raises ArtifactError as ``file`` does.
        """
        if name not in self._kept:
            self._kept[name] = self.read(name)
        return StoredGraph(
            path=self.folder / name,
            data=self._kept[name],
            weights_file=weights,
            weights=_NO_WEIGHTS if weights is None else self._weights(weights),
            check_unchanged=self.check_unchanged,
            mapped=self.mapped and weights is not None and not self._is_link(weights),
            shared_file=shared,
            shared=None if shared is None else self._weights(shared),
        )

    def check_unchanged(self) -> None:
        """Raise ArtifactError if a file that was checked has been replaced, changed or removed since.

        What is loaded goes on with what was verified; but the folder no longer holds what is in use.
        """
        for name in self._checked:
            if not self._is_unchanged(name):
                raise self._changed(name)

    def labels(self) -> tuple[str, ...]:
        """Return the class names in the order of the scores; empty for a task without classes."""
        labels = self.manifest.labels
        if labels is None:
            return ()
        path = self.path / labels.file
        with artifact_errors(path):
            names = tuple(self.read(labels.file).decode("utf-8").splitlines())
        if len(names) != labels.count:
            raise ArtifactError(
                f"'{path}': wrong number of labels: expected {labels.count}, got {len(names)}. Export the model again."
            )
        longest = max(map(len, names), default=0)
        if longest > _LONGEST_LABEL:
            raise ArtifactError(
                f"'{path}': not labels: expected at most {_LONGEST_LABEL} characters in each, got {longest}. Export "
                "the model again."
            )
        return names

    def _open(self, name: str) -> BufferedReader:
        """Return the opened file, which is a regular one of the declared size."""
        declared = self.manifest.files.get(name)
        if declared is None:
            raise ArtifactError(f"'{self.path}': '{name}' is not listed in its manifest. Export the model again.")
        _check_regular(self.folder / name)
        stream = (self.folder / name).open("rb")
        size_bytes = os.fstat(stream.fileno()).st_size
        if size_bytes != declared.size_bytes:
            start = stream.read(_LONGEST_START)
            stream.close()
            check_no_pointer(start, self.path / name)
            raise ArtifactError(
                f"'{self.path / name}': wrong size: expected {declared.size_bytes} bytes, got {size_bytes}. "
                "Copy the artifact again, or export the model again."
            )
        return stream

    def _compare(self, name: str, stream: BufferedReader, digest: str) -> None:
        """Raise ArtifactError unless ``digest``, of what ``stream`` gave, is the declared one."""
        expected = self.manifest.files[name].sha256
        if digest != expected:
            raise ArtifactError(
                f"'{self.path / name}': damaged: expected SHA-256 {expected}, got {digest}. "
                "Copy the artifact again, or export the model again."
            )
        self._checked.setdefault(name, signature(os.fstat(stream.fileno())))

    def _is_link(self, name: str) -> bool:
        return (self.folder / name).is_symlink()  # to a blob of the hub's cache, where onnxruntime does not go

    def _weights(self, name: str) -> NDArray[np.uint8]:
        if self.mapped and not self._is_link(name):
            path = self.file(name)  # an empty file cannot be mapped
            return np.memmap(path, np.uint8, mode="r") if self.manifest.files[name].size_bytes else _NO_WEIGHTS
        if name not in self._kept:
            self._kept[name] = self._read_aligned(name)
        kept: NDArray[np.uint8] = self._kept[name]
        return kept

    def _read_aligned(self, name: str) -> NDArray[np.uint8]:
        size_bytes = self.manifest.files[name].size_bytes if name in self.manifest.files else 0
        with self._open(name) as stream:
            memory = np.empty(size_bytes + _ALIGNMENT_BYTES, np.uint8)
            start = -memory.ctypes.data % _ALIGNMENT_BYTES
            data = memory[start : start + size_bytes]
            stream.readinto(data.data)
            self._compare(name, stream, hashlib.sha256(data.data).hexdigest())
        data.flags.writeable = False
        return data

    def _is_unchanged(self, name: str) -> bool:
        try:
            return signature((self.folder / name).stat()) == self._checked[name]
        except OSError:
            return False

    def _changed(self, name: str) -> ArtifactError:
        return ArtifactError(
            f"'{self.path / name}': changed while in use. Load the artifact again; to replace one that is in use, put "
            "the new one in another folder."
        )


@contextmanager
def artifact_errors(path: str | Path) -> Iterator[None]:
    """Turn whatever an artifact leads its reader to raise into ArtifactError, in one sentence.

    What an artifact says is not to be trusted: each of its files may break a library in a way of its own.
    """
    try:
        yield
    except (TruecopyError, MemoryError):
        raise
    except OSError as error:
        where = f" of '{error.filename}'" if error.filename else ""
        raise ArtifactError(
            f"'{path}': cannot be read: {error.strerror or error}{where}. Change the permissions, or copy the artifact "
            "to another disk."
        ) from error
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(" :.")
        raise ArtifactError(
            f"'{path}': cannot be used: {reason[:300]}. Do not use this artifact; export the model again."
        ) from error


def open_artifact(path: str | Path, *, mapped: bool = False) -> Artifact:
    """Open the artifact in folder ``path``; only its manifest is read. ``mapped`` is as in Artifact.

    Raises ArtifactError when there is no artifact, or one of another format version, or one that names files outside
    its folder.
    """
    with artifact_errors(path):
        folder = find_folder(path)
    manifest_path = folder / LAYOUT.manifest
    _check_regular(manifest_path)
    if manifest_path.stat().st_size > _MANIFEST_LIMIT_BYTES:
        raise ArtifactError(
            f"'{manifest_path}': too large for a manifest: expected at most {_MANIFEST_LIMIT_BYTES} bytes, "
            f"got {manifest_path.stat().st_size}. Export the model again."
        )
    with artifact_errors(folder):
        data = manifest_path.read_bytes()
        check_no_pointer(data, manifest_path)
        manifest = manifest_from_json(data, subject=f"'{manifest_path}'")
        check_manifest(manifest, subject=f"'{manifest_path}'")
    return Artifact(path=folder, manifest=manifest, digest=hashlib.sha256(data).hexdigest(), mapped=mapped)


def signature(status: os.stat_result) -> Signature:
    """Return the numbers that identify what a file holds, as long as nothing replaces it or writes to it."""
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _check_regular(path: Path) -> None:
    """Raise ArtifactError unless ``path`` is a regular file and no link, except to a blob of the hub's cache."""
    if path.is_symlink() and not _is_cached_blob(path):
        raise ArtifactError(f"'{path}': is a link: expected a regular file. Copy the artifact with its contents.")
    if not path.is_file():
        raise ArtifactError(
            f"'{path}': missing: the manifest lists it. Copy the artifact again, or export the model again."
        )


def _is_cached_blob(link: Path) -> bool:
    """Return whether ``link`` is a file of a snapshot in the hub's cache: snapshots/REVISION/NAME -> ../../blobs/ID."""
    target = link.readlink()
    return (
        link.absolute().parent.parent.name == "snapshots"
        and target.parts[:-1] == ("..", "..", "blobs")
        and target.name != ".."
        and not (link.parent / target).is_symlink()
    )
