"""Checkpoint of a large untrained network whose scores differ between photos: NAME FILE."""

import sys
from pathlib import Path

import torch

from sweeps.cases import build, give_signal, photo_crops, transform_for

name, path = sys.argv[1:]
torch.manual_seed(0)
network = build(name)
give_signal(network, photo_crops(transform_for(name, network), count=4))
torch.save(network.state_dict(), Path(path))
