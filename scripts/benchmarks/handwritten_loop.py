"""Hand-written inference loop on onnxruntime for one network and one transform.

It is the fastest that we know of. One thread per core; each reads, decodes with libjpeg-turbo, resizes and crops with
Pillow, and calls a session of one thread. It has no names, errors, other formats or options: nothing but the labels.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import simplejpeg
from PIL import Image

SHORT, CROP = 256, 224


class Loop:
    """``network.onnx`` of EfficientNet-Lite0, behind Resize(256, bicubic) and CenterCrop(224).

    Resizing with Pillow's ``box`` computes only what the crop keeps, but its corners are float32: some pixels are one
    level off the training transform's. ``exact`` resizes the whole image and crops.
    """

    def __init__(self, artifact: Path, decoder: str = "simplejpeg", *, exact: bool = False) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            artifact / "network.onnx", options, providers=["CPUExecutionProvider"]
        )
        self.labels = (artifact / "labels.txt").read_text().splitlines()
        self.pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
        self.exact = exact
        self.decode = {"simplejpeg": _decode_turbo, "pillow": _decode_pillow}[decoder]

    def label(self, path: Path) -> str:
        image = self.decode(path)
        width, height = image.size
        size = (SHORT, SHORT * height // width) if width <= height else (SHORT * width // height, SHORT)
        left, top = round((size[0] - CROP) / 2), round((size[1] - CROP) / 2)
        if self.exact:
            whole = image.resize(size, Image.Resampling.BICUBIC)
            pixels = np.asarray(whole.crop((left, top, left + CROP, top + CROP)))
        else:
            scale_x, scale_y = width / size[0], height / size[1]
            box = (left * scale_x, top * scale_y, (left + CROP) * scale_x, (top + CROP) * scale_y)
            pixels = np.asarray(image.resize((CROP, CROP), Image.Resampling.BICUBIC, box=box))
        scores = self.session.run(None, {"pixels": pixels[None]})[0][0]
        return self.labels[int(scores.argmax())]

    def label_all(self, paths: Sequence[Path]) -> list[str]:
        return list(self.pool.map(self.label, paths))


def _decode_turbo(path: Path) -> Image.Image:
    return Image.fromarray(simplejpeg.decode_jpeg(path.read_bytes()))


def _decode_pillow(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")
