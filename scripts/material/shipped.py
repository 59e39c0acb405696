"""Photos that truecopy ships for its own checks."""

import io
from importlib.resources import files

from PIL import Image


def shipped_photos() -> dict[str, Image.Image]:
    """Return the photos by name, RGB."""
    folder = files("exporter.parity") / "photos"
    return {
        name: Image.open(io.BytesIO((folder / f"{name}.jpg").read_bytes())).convert("RGB")
        for name in ("chelsea", "coffee", "rocket", "astronaut")
    }
