"""Tensors as a checkpoint describes them, to torch: mapped from the file, private, copied when written to."""

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
        place = stored.storage
        if place not in storages:
            if place.path not in files:
                size_bytes = place.path.stat().st_size
                files[place.path] = torch.UntypedStorage.from_file(str(place.path), False, size_bytes)
            part = files[place.path][place.offset : place.offset + place.size_bytes]
            assert isinstance(part, torch.UntypedStorage)
            storages[place] = part
        dtype = getattr(torch, stored.dtype)
        assert place.size_bytes >= stored.numel * ITEM_BYTES[stored.dtype]
        tensor = torch.empty(0, dtype=dtype)
        tensors[key] = tensor.set_(storages[place], stored.offset, stored.shape, stored.strides)
    return tensors
