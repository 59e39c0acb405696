"""Trains the tiny network to tell crops of four photos apart: real weights, whose outputs carry signal."""

import random
from collections.abc import Sequence

import torch
from PIL import Image
from torch import nn
from torchvision import transforms


def train(network: nn.Module, photos: Sequence[Image.Image], transform: transforms.Compose) -> nn.Module:
    """Return the network after a few seconds of training: photo number i is class i."""
    generator = random.Random(0)
    crops = []
    for label, photo in enumerate(photos):
        for _ in range(24):
            side = generator.randint(min(photo.size) // 2, min(photo.size))
            left = generator.randint(0, photo.width - side)
            top = generator.randint(0, photo.height - side)
            crops.append((transform(photo.crop((left, top, left + side, top + side))), label))
    images = torch.stack([image for image, _ in crops])
    labels = torch.tensor([label for _, label in crops])
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    network.train()
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    # Running statistics lag behind; count them over the data as it is.
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        network(images)
        # Soft scores: a saturated softmax would hide a fault.
        network.classifier.weight *= 0.4
        network.classifier.bias *= 0.4
    return network.eval()
