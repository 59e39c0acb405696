"""Pictures of label maps: class colors over the image that the network saw."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.errors import InputError
from runtime.geometry.images import from_array
from runtime.inputs.source import is_file, is_url, native
from runtime.jobs.urls import read_url
from runtime.manifest import ImageInput
from runtime.model import Model
from runtime.outputs.registry import open_interpreter
from runtime.results import Failure, Result

# How much of the color covers the image.
_OPACITY = 0.5

# Bytes of a picture's name without its number and suffix; file systems take 255.
_LONGEST_STEM = 200


class Overlays:
    """A folder of pictures, one per result, named like its input."""

    def __init__(self, model: Model, folder: Path) -> None:
        """Raise InputError unless the model gives label maps."""
        self._interpreter = open_interpreter(model.manifest.task, model.labels)
        if not self._interpreter.gives_maps:
            raise InputError(
                f"--overlays '{folder}': needs label maps: expected the task segment, got {model.manifest.task.kind}. "
                "Omit the option."
            )
        self._model = model
        self._folder = folder
        self._written: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def write_each(self, results: Iterable[Result]) -> Iterator[Result]:
        """Yield results as they come, after their pictures are written; failures have none.

        A photo that cannot be read again is that result's failure.
        """
        for result in results:
            if isinstance(result, Failure):
                yield result
                continue
            try:
                self.write(result)
            except InputError as error:
                yield Failure(input=result.input, error=str(error))
            else:
                yield result

    def write(self, result: Result) -> Path:
        """Write the picture of a result, and return its path: PNG, RGB, in the size of the label map.

        A photo is under the colors, the part of it that the network saw. Other inputs have the colors alone, as have
        images that are in a table instead of a file.
        """
        colors: NDArray[np.uint8] = self._interpreter.draw(result)
        photo = self._photo(result.input)
        if photo is not None:
            height, width = colors.shape[:2]
            below = np.asarray(photo.convert("RGB").resize((width, height)))
            colors = (below * (1 - _OPACITY) + colors * _OPACITY).round().astype(np.uint8)
        path = self._folder / native(f"{self.name(result.input)}.png")
        Image.fromarray(colors).save(path)
        return path

    def _photo(self, name: str) -> Image.Image | None:
        """Return the part of an image's file, RGB or gray, that the network saw; None where there is none."""
        (spec, *others) = self._model.manifest.inputs
        path = native(name)
        if others or not isinstance(spec, ImageInput) or not (is_url(name) or is_file(path)):
            return None
        source = read_url(name) if is_url(name) else Path(path)
        pixels = np.asarray(self._model.prepare(source, subject=f"'{name}'"))
        return from_array(pixels) if pixels.dtype == np.uint8 and pixels.shape[2] in {1, 3} else None

    def name(self, source: str) -> str:
        """Return a name for the picture of an input that no other has: files of several folders may be called alike."""
        # A name of a row may be longer than a file's.
        name = stem = Path(source).stem.encode()[:_LONGEST_STEM].decode(errors="ignore") or "picture"
        number = 2
        while name in self._written:
            name, number = f"{stem}-{number}", number + 1
        self._written.add(name)
        return name
