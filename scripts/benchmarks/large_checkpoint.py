"""Checkpoint of a large untrained network whose scores differ between photos: NAME FILE."""

import sys
from pathlib import Path

import torch

from sweeps.cases import build, give_signal, noise_images, photo_crops, transform_for

name, path = sys.argv[1:]
torch.manual_seed(0)
network = build(name)
transform = transform_for(name, network)
give_signal(network, photo_crops(transform, count=4), also=noise_images(transform))
torch.save(network.state_dict(), Path(path))
