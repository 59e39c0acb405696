"""Arrays to a class, to several labels, or to a map: digits, with three networks.

python examples/digits.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import truecopy

SETS = ("even", "below five", "has a hole")


def images() -> tuple[np.ndarray, np.ndarray]:
    """Return the digits, float32 [1797, 1, 8, 8] from 0 to 1, and what they are."""
    data = load_digits()
    return (data.images[:, np.newaxis] / 16).astype(np.float32), data.target


def _fit(network: nn.Module, targets: torch.Tensor, loss: nn.Module, steps: int) -> nn.Module:
    pixels = torch.from_numpy(images()[0])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(steps):
        part = slice(step % 7 * 256, step % 7 * 256 + 256)
        optimizer.zero_grad()
        loss(network(pixels[part]), targets[part]).backward()
        optimizer.step()
    return network.eval()


def classify(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """A whole pickled module, as ``torch.save(model)`` writes it; return eager and artifact probabilities."""
    pixels, target = images()
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    _fit(network, torch.from_numpy(target), nn.CrossEntropyLoss(), 140)
    torch.save(network, folder / "model.pt")
    truecopy.export(
        folder / "model.pt",
        trust=True,
        inputs=["image=float32[batch,1,8,8]"],
        out=folder / "classify",
        force=True,
    )
    with torch.no_grad():
        eager = torch.softmax(network(torch.from_numpy(pixels)), dim=-1).numpy()
    return eager, truecopy.load(folder / "classify").run({"image": pixels})["probabilities"]


def label_sets(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Several labels per input, with a threshold per class; return eager and artifact probabilities."""
    pixels, target = images()
    targets = np.stack([target % 2 == 0, target < 5, np.isin(target, [0, 6, 8, 9])], axis=1)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 3))
    _fit(network, torch.from_numpy(targets).float(), nn.BCEWithLogitsLoss(), 140)
    torch.save(network.state_dict(), folder / "sets.pth")
    (folder / "sets.txt").write_text("".join(f"{name}\n" for name in SETS))
    truecopy.export(
        folder / "sets.pth",
        network,
        inputs=["image=float32[batch,1,8,8]"],
        labels=folder / "sets.txt",
        task="multilabel",
        thresholds=(0.5, 0.4, 0.6),
        out=folder / "multilabel",
        force=True,
    )
    with torch.no_grad():
        eager = torch.sigmoid(network(torch.from_numpy(pixels))).numpy()
    return eager, truecopy.load(folder / "multilabel").run({"image": pixels})["probabilities"]


def segment(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """A class for every pixel, of any size of image; return eager and artifact probabilities."""
    pixels, _ = images()
    # Paper, the edge of a stroke, and its middle.
    targets = torch.from_numpy((pixels[:, 0] > 0.1).astype(np.int64) + (pixels[:, 0] > 0.6))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
    _fit(network, targets, nn.CrossEntropyLoss(), 70)
    torch.save(network.state_dict(), folder / "segment.pth")
    (folder / "classes.txt").write_text("paper\nedge\nstroke\n")
    truecopy.export(
        folder / "segment.pth",
        network,
        inputs=["image=float32[batch,1,height,width]"],
        labels=folder / "classes.txt",
        task="segment",
        out=folder / "segment",
        force=True,
    )
    with torch.no_grad():
        eager = torch.softmax(network(torch.from_numpy(pixels)), dim=1).numpy()
    return eager, truecopy.load(folder / "segment").run({"image": pixels})["probabilities"]


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "build/examples/digits")
    target.mkdir(parents=True, exist_ok=True)
    for example in (classify, label_sets, segment):
        eager, artifact = example(target)
        print(f"{example.__name__}: largest difference {np.abs(eager - artifact).max():.1e}")
