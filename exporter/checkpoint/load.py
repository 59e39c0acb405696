"""Loading of described tensors into torch: memory-mapped, copied when written to."""

from pathlib import Path
from typing import Any

import torch

from exporter.checkpoint.description import ITEM_BYTES, Checkpoint, Storage


def load_tensors(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Return the chosen weights, on the CPU, as they are in the file: dtype, strides and sharing included."""
    files: dict[Path, Any] = {}
    storages: dict[Storage, torch.UntypedStorage] = {}
    tensors = {}
    for key, stored in checkpoint.tensors.items():
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
