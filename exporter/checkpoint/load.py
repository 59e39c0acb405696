"""Loading of described tensors into torch: memory-mapped, copied when written to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from exporter.checkpoint.description import ITEM_BYTES, Checkpoint, Storage, StoredTensor
from exporter.checkpoint.unpickler import Opaque
from exporter.errors import CheckpointError


def load_tensors(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Return the chosen weights, on the CPU, as they are in the file: dtype, strides and sharing included."""
    return _load(checkpoint.tensors)


def load_extra_state(checkpoint: Checkpoint, key: str) -> Any:
    """Return what a module saved beside its tensors: plain Python values, with tensors in them.

    Raises CheckpointError where an object of another class is in it.
    """
    return _to_value(checkpoint.extra_state[key], f"'{checkpoint.path}': '{key}'", key)


def _to_value(value: object, subject: str, key: str) -> Any:
    if isinstance(value, StoredTensor):
        return _load({"": value})[""]
    if isinstance(value, dict):
        return {name: _to_value(item, subject, key) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_to_value(item, subject, key) for item in value)
    if isinstance(value, str | bytes | int | float | bool | None):
        return value
    kind = value.symbol if isinstance(value, Opaque) else value
    raise CheckpointError(
        f"{subject}: holds an object of '{kind}', whose code would have to run. Leave it out, if the outputs do not "
        f"depend on it: --ignore-keys '{key}'."
    )


def _load(described: Mapping[str, StoredTensor]) -> dict[str, torch.Tensor]:
    files: dict[Path, Any] = {}
    storages: dict[Storage, torch.UntypedStorage] = {}
    tensors = {}
    for key, stored in described.items():
        storage = stored.storage
        if storage not in storages:
            if storage.path not in files:
                size_bytes = storage.path.stat().st_size
                files[storage.path] = torch.UntypedStorage.from_file(str(storage.path), False, size_bytes)
            part = files[storage.path][storage.offset : storage.offset + storage.size_bytes]
            assert isinstance(part, torch.UntypedStorage)
            storages[storage] = part
        dtype = getattr(torch, stored.dtype)
        assert storage.size_bytes >= stored.numel * ITEM_BYTES[stored.dtype]
        tensor = torch.empty(0, dtype=dtype)
        tensors[key] = tensor.set_(storages[storage], stored.offset, stored.shape, stored.strides)
    return tensors
