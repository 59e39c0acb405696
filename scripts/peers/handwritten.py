"""What people write by hand: Pillow, a resize and a crop, an onnxruntime session, the five best classes.

Every peer runs this; it does what truecopy's runtime does for EfficientNet-Lite0, on the same graph.
"""

import io
import os
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

SIZE, CROP = 256, 224


class Classifier:
    """A session with a number of threads of its own."""

    def __init__(self, threads: int) -> None:
        folder = Path(os.environ["PEER_ARTIFACT"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            str(folder / "network.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._labels = (folder / "labels.txt").read_text(encoding="utf-8").splitlines()

    def prepare(self, body: bytes) -> np.ndarray:
        """Return the prepared pixels, uint8 [224, 224, 3]."""
        return self.prepare_image(Image.open(io.BytesIO(body)))

    def prepare_image(self, image: Image.Image) -> np.ndarray:
        """Return the prepared pixels of an opened image."""
        image = image.convert("RGB")
        short, long = sorted(image.size)
        resized = (SIZE, SIZE * long // short)
        image = image.resize(resized if image.width <= image.height else resized[::-1], Image.Resampling.BICUBIC)
        left, top = round((image.width - CROP) / 2), round((image.height - CROP) / 2)
        return np.asarray(image.crop((left, top, left + CROP, top + CROP)))

    def score(self, pixels: np.ndarray) -> np.ndarray:
        """Return probabilities [batch, classes] of prepared pixels."""
        return self._session.run(None, {"pixels": pixels})[0]

    def answer(self, scores: np.ndarray) -> dict:
        """Return the five best classes."""
        order = np.argsort(-scores)[:5]
        return {
            "label": self._labels[order[0]],
            "top": [{"label": self._labels[index], "probability": float(scores[index])} for index in order],
        }

    def predict(self, body: bytes) -> dict:
        """Return the answer for the bytes of one image."""
        return self.answer(self.score(self.prepare(body)[None])[0])
