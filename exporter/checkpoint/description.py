"""What a checkpoint holds, described without loading it: no torch, no weights in memory."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

Format: TypeAlias = Literal["state_dict", "checkpoint", "lightning", "huggingface", "torchscript", "module"]
Container: TypeAlias = Literal["zip", "legacy", "safetensors", "sharded"]

# Bytes of one value, by torch's name of its type.
ITEM_BYTES: Mapping[str, int] = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "complex64": 8,
    "complex128": 16,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint64": 8,
    "uint32": 4,
    "uint16": 2,
    "uint8": 1,
    "bool": 1,
    "qint8": 1,
    "quint8": 1,
    "qint32": 4,
}


# What stands for the shape of a module's extra state, which is no tensor.
EXTRA_STATE = (-1,)


@dataclass(frozen=True, kw_only=True)
class Storage:
    """A run of bytes in a file; tensors that share memory share one of these."""

    path: Path
    offset: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """A tensor as the file describes it; ``offset`` and ``strides`` count values, not bytes."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    storage: Storage

    @property
    def numel(self) -> int:
        """The number of values."""
        return math.prod(self.shape)


# Inode, size and time of the last change of a file.
FileState: TypeAlias = tuple[int, int, int]


def state_of(path: Path) -> FileState:
    """Return what changes with a file's content."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One dictionary of tensors in the file: ``entry`` is its dotted key, empty where the file is the dictionary.

    ``extra_state`` is what modules keep there beside tensors, and ``attributes`` what torch sets on the dictionary.
    """

    entry: str
    tensors: Mapping[str, StoredTensor]
    averaged: bool
    extra_state: Mapping[str, object] = field(default_factory=dict)
    attributes: Mapping[object, object] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """The number of values in all tensors."""
        return sum(tensor.numel for tensor in self.tensors.values())


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The weights that were chosen, and what was found on the way.

    ``choice`` says why this candidate, in words. ``non_finite`` lists the keys with NaN or infinite values.
    ``leftovers`` are what training left behind, by name, ``skipped`` the classes of objects there, which are not
    imported; ``settings`` are plain values of them that may be arguments of the network. ``extra_state`` is what
    modules keep beside their tensors, and ``versions`` those that torch saves of modules, by their paths. ``ignored``
    are the keys that the user left out by the patterns ``ignore_keys``. ``module`` is the user's own network where a
    whole pickled module was trusted. ``files`` are the files as they were when they were read.
    """

    path: Path
    sha256: str
    size_bytes: int
    format: Format
    container: Container
    entry: str
    tensors: Mapping[str, StoredTensor]
    candidates: tuple[Candidate, ...]
    choice: str
    non_finite: tuple[str, ...]
    leftovers: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    extra_state: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    ignore_keys: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    module: Any = None
    files: Mapping[Path, FileState] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """The number of values in all tensors."""
        return sum(tensor.numel for tensor in self.tensors.values())

    @property
    def dtypes(self) -> dict[str, int]:
        """The number of tensors of each type, the most frequent first."""
        counts: dict[str, int] = {}
        for tensor in self.tensors.values():
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor, by key; that of a module's extra state is EXTRA_STATE."""
        shapes = {key: tensor.shape for key, tensor in self.tensors.items()}
        return {**shapes, **dict.fromkeys(self.extra_state, EXTRA_STATE)}

    def shared(self) -> Iterator[tuple[str, ...]]:
        """Give the groups of keys whose tensors are the same bytes."""
        groups: dict[tuple[Storage, int, tuple[int, ...]], list[str]] = {}
        for key, tensor in self.tensors.items():
            if tensor.numel:
                groups.setdefault((tensor.storage, tensor.offset, tensor.shape), []).append(key)
        for keys in groups.values():
            if len(keys) > 1:
                yield tuple(keys)
