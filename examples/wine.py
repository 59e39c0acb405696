"""Rows to yes or no: wine, with one logit, and plain statistics in a JSON file.

python examples/wine.py FOLDER
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_wine
from torch import nn

import truecopy


def train(folder: Path) -> tuple[nn.Module, torch.Tensor]:
    """Write wine.pth, stats.json and names.txt, as a training script would."""
    folder.mkdir(parents=True, exist_ok=True)
    data = load_wine(as_frame=True)
    mean, std = data.data.mean(), data.data.std()
    features = torch.tensor(((data.data - mean) / std).to_numpy(), dtype=torch.float32)
    targets = torch.tensor((data.target == 0).to_list()).float()
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(13, 8), nn.ReLU(), nn.Linear(8, 1), nn.Flatten(0))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(network(features), targets).backward()
        optimizer.step()
    torch.save(network.state_dict(), folder / "wine.pth")
    statistics = {name: {"mean": mean[name], "std": std[name]} for name in data.data.columns}
    (folder / "stats.json").write_text(json.dumps(statistics))
    (folder / "names.txt").write_text("another\nbarolo\n")
    return network.eval(), features


def main(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Train, export, and return the eager probabilities of the second class and the artifact's, over all rows."""
    network, features = train(folder)
    truecopy.export(
        folder / "wine.pth",
        network,
        preprocess=str(folder / "stats.json"),
        labels=folder / "names.txt",
        task="binary",
        out=folder / "artifact",
        force=True,
    )
    with torch.no_grad():
        eager = torch.sigmoid(network(features)).numpy()
    results = truecopy.load(folder / "artifact").predict(load_wine(as_frame=True).data.to_dict("records"))
    return eager, np.array(
        [next(scored.probability for scored in result.top if scored.index == 1) for result in results]
    )


if __name__ == "__main__":
    eager, artifact = main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/examples/wine"))
    print(f"178 rows, largest difference {np.abs(eager - artifact).max():.1e}")
