"""Rows to a class: iris, behind a StandardScaler saved with skops.

python examples/iris.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
import skops.io
import torch
from sklearn.datasets import load_iris
from sklearn.preprocessing import StandardScaler
from torch import nn

import truecopy


def build() -> nn.Module:
    """Return the untrained network, as for --arch iris.py:build."""
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))


def train(folder: Path) -> tuple[nn.Module, StandardScaler]:
    """Write iris.pth, scaler.skops and species.txt, as a training script would, and rows with and without labels."""
    folder.mkdir(parents=True, exist_ok=True)
    data = load_iris(as_frame=True)
    scaler = StandardScaler().fit(data.data)
    features, classes = torch.from_numpy(scaler.transform(data.data)).float(), torch.tensor(data.target.to_numpy())
    torch.manual_seed(0)
    network = build()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(features), classes).backward()
        optimizer.step()
    torch.save(network.state_dict(), folder / "iris.pth")
    skops.io.dump(scaler, folder / "scaler.skops")
    (folder / "species.txt").write_text("".join(f"{name}\n" for name in data.target_names))
    data.data.iloc[::50].to_csv(folder / "rows.csv", index=False)
    data.data.assign(label=[data.target_names[index] for index in data.target]).to_csv(folder / "iris.csv", index=False)
    return network.eval(), scaler


def main(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Train, export, and return the eager probabilities and the artifact's, over all rows."""
    network, scaler = train(folder)
    truecopy.export(
        folder / "iris.pth",
        network,
        preprocess=str(folder / "scaler.skops"),
        labels=folder / "species.txt",
        out=folder / "artifact",
        force=True,
    )
    frame = load_iris(as_frame=True).data
    with torch.no_grad():
        eager = torch.softmax(network(torch.from_numpy(scaler.transform(frame)).float()), dim=-1).numpy()
    results = truecopy.load(folder / "artifact").predict(frame.to_dict("records"), top_k=3)
    scores = [sorted(result.top, key=lambda scored: scored.index) for result in results]
    return eager, np.array([[scored.probability for scored in row] for row in scores])


if __name__ == "__main__":
    eager, artifact = main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/examples/iris"))
    print(f"150 rows, largest difference {np.abs(eager - artifact).max():.1e}")
