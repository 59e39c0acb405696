"""Label maps as pictures: the classes' colors over the image that the network saw."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.errors import InputError
from runtime.inputs.source import is_url
from runtime.jobs.urls import read_url
from runtime.manifest import ImageInput, Segment
from runtime.model import Model
from runtime.results import Result, Segmentation

# How much of the color covers the image.
_OPACITY = 0.5


class Overlays:
    """A folder that pictures are written to, one an answer, named like its input."""

    def __init__(self, model: Model, folder: Path) -> None:
        """Raise InputError unless the model gives label maps."""
        task = model.manifest.task
        if not isinstance(task, Segment):
            raise InputError(
                f"--overlays '{folder}': needs label maps: expected the task segment, got {task.kind}. Omit the option."
            )
        self._model = model
        self._folder = folder
        self._colours = np.array(task.colors, dtype=np.uint8)
        self._written: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def write_each(self, results: Iterable[Result]) -> Iterator[Result]:
        """Yield results as they come, having written the pictures of those that are label maps."""
        for result in results:
            if isinstance(result, Segmentation):
                self.write(result)
            yield result

    def write(self, answer: Segmentation) -> Path:
        """Write the picture of an answer, and return its path: PNG, RGB, in the size of the label map.

        Over a photo, in the part of it that the network saw; other inputs have the colors alone.
        """
        colors: NDArray[np.uint8] = self._colours[answer.label_map]
        if isinstance(self._model.manifest.inputs[0], ImageInput):
            source = read_url(answer.input) if is_url(answer.input) else Path(answer.input)
            pixels = np.asarray(self._model.prepare(source, subject=f"'{answer.input}'"))
            height, width = answer.label_map.shape
            photo = np.asarray(Image.fromarray(pixels).resize((width, height)))
            colors = (photo * (1 - _OPACITY) + colors * _OPACITY).round().astype(np.uint8)
        path = self._folder / f"{self.name(answer.input)}.png"
        Image.fromarray(colors).save(path)
        return path

    def name(self, source: str) -> str:
        """Return the name of an input's picture, as none before had: files of several folders may be called alike."""
        name = stem = Path(source).stem
        number = 2
        while name in self._written:
            name, number = f"{stem}-{number}", number + 1
        self._written.add(name)
        return name
