"""Calibration: a classifier of digits with overconfident probabilities, evaluated and calibrated.

python examples/calibration.py FOLDER
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import truecopy
from exporter.calibration.fit import calibrate
from runtime.evaluation.data import read_labeled, score_labeled
from runtime.evaluation.metrics import evaluate

TRAINING = 120


def train(folder: Path) -> nn.Module:
    """Write digits.pth, and labeled data that the network has not seen as fitting.jsonl and testing.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    data = load_digits()
    pixels, target = (data.images / 16).astype(np.float32), data.target
    order = np.random.default_rng(0).permutation(len(target))
    training, fitting, testing = order[:TRAINING], order[TRAINING:900], order[900:]
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    inputs, classes = torch.from_numpy(pixels[training]), torch.from_numpy(target[training])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(200):  # far beyond a training accuracy of 100%, so that it is overconfident elsewhere
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs), classes).backward()
        optimizer.step()
    torch.save(network.state_dict(), folder / "digits.pth")
    for name, rows in (("fitting", fitting), ("testing", testing)):
        lines = (json.dumps({"input": pixels[row].tolist(), "label": int(target[row])}) for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return network.eval()


def main(folder: Path) -> dict[str, float]:
    """Train, export and calibrate; return the figures of the eager network and of both artifacts on unseen data."""
    network = train(folder)
    artifact, calibrated = folder / "artifact", folder / "calibrated"
    truecopy.export(folder / "digits.pth", network, inputs=["image=float32[batch,8,8]"], out=artifact, force=True)
    calibration = calibrate(artifact, folder / "fitting.jsonl", out=calibrated)

    figures = {"temperature": calibration.temperature or 0.0}
    for name, folder_of_artifact in (("before", artifact), ("after", calibrated)):
        model = truecopy.load(folder_of_artifact)
        scores = score_labeled(model, read_labeled(model, folder / "testing.jsonl", column="label"))
        measured = evaluate(model, scores, name=name)
        figures |= {f"accuracy {name}": measured.accuracy, f"calibration error {name}": measured.calibration_error}
        rows = [json.loads(line) for line in (folder / "testing.jsonl").read_text().splitlines()]
        with torch.no_grad():
            logits = network(torch.tensor([row["input"] for row in rows]))
        eager = torch.softmax(logits / (calibration.temperature if name == "after" else 1.0), dim=-1).numpy()
        figures[f"largest difference {name}"] = float(np.abs(eager - scores.scores).max())
    return figures


if __name__ == "__main__":
    for figure, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/examples/calibration")).items():
        print(f"{figure}: {value:.3g}")
