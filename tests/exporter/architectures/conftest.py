"""Checkpoints of networks, and what a rebuilt network is compared with."""

from itertools import count

import pytest
import torch
from torch import nn

from exporter.checkpoint import Checkpoint, read_checkpoint


@pytest.fixture
def checkpoint_of(tmp_path):
    """Save tensors as a file of their own and read it: networks use the files that they are loaded from."""
    numbers = count()

    def save(network: nn.Module | dict[str, object]) -> Checkpoint:
        path = tmp_path / f"{next(numbers)}.pth"
        torch.save(network if isinstance(network, dict) else dict(network.state_dict()), path)
        return read_checkpoint(path)

    return save
