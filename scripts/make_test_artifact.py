"""Train the tiny network of tests/data, export it to tests/data/tiny, and put a photo beside it."""

import io
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

import torch
from PIL import Image

import exporter

DATA = Path(__file__).parents[1] / "tests" / "data"
sys.path.insert(0, str(DATA))

import net  # noqa: E402
import training  # noqa: E402

PHOTOS = {"cat": "chelsea", "coffee": "coffee", "rocket": "rocket", "astronaut": "astronaut"}

if __name__ == "__main__":
    folder = files("exporter.parity") / "photos"
    photos = {
        label: Image.open(io.BytesIO((folder / f"{name}.jpg").read_bytes())).convert("RGB")
        for label, name in PHOTOS.items()
    }
    torch.manual_seed(0)
    network = training.train(net.MyCNN(num_classes=len(PHOTOS)), list(photos.values()), net.transform)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint, labels = Path(scratch) / "tiny.pth", Path(scratch) / "labels.txt"
        torch.save(network.state_dict(), checkpoint)
        labels.write_text("".join(f"{label}\n" for label in PHOTOS), encoding="utf-8")
        exporter.export(
            checkpoint,
            net.MyCNN,
            arguments={"num_classes": len(PHOTOS)},
            preprocess=net.transform,
            labels=labels,
            out=DATA / "tiny",
            force=True,
        )
    for label, photo in photos.items():
        photo.resize((photo.width // 2, photo.height // 2)).save(DATA / f"{label}.jpg", quality=85)
