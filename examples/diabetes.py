"""Rows to a number with a unit: diabetes, behind a ColumnTransformer, with a scaled target.

python examples/diabetes.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
import skops.io
import torch
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

import truecopy


def table():
    """Return the rows in their original units, and the progression of the disease."""
    data = load_diabetes(as_frame=True, scaled=False)
    frame = data.data.assign(sex=data.data["sex"].map({1.0: "one", 2.0: "two"}).astype(object))
    frame.loc[frame.index[::40], "bmi"] = np.nan
    return frame, data.target.to_numpy().reshape(-1, 1)


def train(folder: Path) -> tuple[nn.Module, ColumnTransformer, StandardScaler]:
    """Write diabetes.pth, columns.skops and target.skops, as a training script would."""
    folder.mkdir(parents=True, exist_ok=True)
    frame, progression = table()
    numbers = [name for name in frame.columns if name != "sex"]
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), numbers),
            ("sex", OneHotEncoder(handle_unknown="ignore"), ["sex"]),
        ]
    ).fit(frame)
    target = StandardScaler().fit(progression)
    features = torch.from_numpy(columns.transform(frame)).float()
    targets = torch.from_numpy(target.transform(progression)).float()
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(features.shape[1], 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.mse_loss(network(features), targets).backward()
        optimizer.step()
    torch.save(network.state_dict(), folder / "diabetes.pth")
    skops.io.dump(columns, folder / "columns.skops")
    skops.io.dump(target, folder / "target.skops")
    return network.eval(), columns, target


def main(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Train, export, and return the eager values and the artifact's, over all rows."""
    network, columns, target = train(folder)
    truecopy.export(
        folder / "diabetes.pth",
        network,
        preprocess=str(folder / "columns.skops"),
        task="regress",
        values="progression=points",
        target_transform=folder / "target.skops",
        out=folder / "artifact",
        force=True,
    )
    frame, _ = table()
    with torch.no_grad():
        eager = target.inverse_transform(network(torch.from_numpy(columns.transform(frame)).float()).numpy())
    results = truecopy.load(folder / "artifact").predict(frame.to_dict("records"))
    return eager, np.array([[result.values["progression"]] for result in results])


if __name__ == "__main__":
    eager, artifact = main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/examples/diabetes"))
    print(f"442 rows, largest difference {np.abs(eager - artifact).max():.1e} points")
