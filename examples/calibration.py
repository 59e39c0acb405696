"""How sure is it, and how sure should it be: a classifier of digits that was trained too long, measured and calibrated.

Run: python scripts/examples/calibration.py FOLDER
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import exporter
import runtime
from exporter.calibration.fit import calibrate
from runtime.evaluation.data import read_labelled, score_labelled
from runtime.evaluation.metrics import evaluate

SEEN = 120


def train(folder: Path) -> nn.Module:
    """Write digits.pth, and what the network has not seen as fitting.jsonl and testing.jsonl, with labels."""
    folder.mkdir(parents=True, exist_ok=True)
    data = load_digits()
    pixels, target = (data.images / 16).astype(np.float32), data.target
    order = np.random.default_rng(0).permutation(len(target))
    seen, fitting, testing = order[:SEEN], order[SEEN:900], order[900:]
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(200):  # long after all of the few are right, so that it is too sure of the others
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(torch.from_numpy(pixels[seen])), torch.from_numpy(target[seen])).backward()
        optimizer.step()
    torch.save(network.state_dict(), folder / "digits.pth")
    for name, rows in (("fitting", fitting), ("testing", testing)):
        lines = (json.dumps({"input": pixels[row].tolist(), "label": int(target[row])}) for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return network.eval()


def main(folder: Path) -> dict[str, float]:
    """Train, export, calibrate; return the figures of the eager network and of both artifacts on what none has seen."""
    network = train(folder)
    artifact, calibrated = folder / "artifact", folder / "calibrated"
    exporter.export(folder / "digits.pth", network, inputs=["image=float32[batch,8,8]"], out=artifact, force=True)
    found = calibrate(artifact, folder / "fitting.jsonl", out=calibrated)

    figures = {"temperature": found.temperature or 0.0}
    for name, place in (("before", artifact), ("after", calibrated)):
        model = runtime.load(place)
        scores = score_labelled(model, read_labelled(model, folder / "testing.jsonl", column="label"))
        measured = evaluate(model, scores, name=name)
        figures |= {f"accuracy {name}": measured.accuracy, f"calibration error {name}": measured.calibration_error}
        rows = [json.loads(line) for line in (folder / "testing.jsonl").read_text().splitlines()]
        with torch.no_grad():
            logits = network(torch.tensor([row["input"] for row in rows]))
        eager = torch.softmax(logits / (found.temperature if name == "after" else 1.0), dim=-1).numpy()
        figures[f"largest difference {name}"] = float(np.abs(eager - scores.scores).max())
    return figures


if __name__ == "__main__":
    for figure, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/examples/calibration")).items():
        print(f"{figure}: {value:.3g}")
