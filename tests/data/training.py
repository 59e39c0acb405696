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


def give_signal(network: nn.Module, images: torch.Tensor) -> None:
    """Make a random network's outputs vary: true batch statistics, then a centerd and scaled last layer."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in norms:
        module.momentum = None
    crops = torch.cat([images, images.flip(2), images.flip(3), images.roll(60, 3)])
    with torch.no_grad():
        network.train()
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        network(crops)
        network.eval()
        logits = network(crops)
        last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        scale = 2.5 / logits.std(dim=0).mean()
        last.bias.sub_(logits.mean(dim=0)).mul_(scale)
        last.weight.mul_(scale)
