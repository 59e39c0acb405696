"""An artifact, ready to run: from photos to labels, or from arrays to arrays."""

import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from runtime import geometry
from runtime.artifact import Artifact, open_artifact
from runtime.decode.images import MAX_PIXELS, Decoded, ImageSource, decode_image, subject_of
from runtime.errors import DeviceError, InputError
from runtime.manifest import Manifest
from runtime.results import Failure, Prediction, Result, classify
from runtime.session import Arrays, Session, open_session

# Batches save nothing on a CPU (measured); a few at a time bounds the memory that a long list takes.
_BATCH = 8

PIXELS = "pixels"


class Model:
    """A loaded artifact; safe to use from many threads.

    ``predict`` is ``decode``, ``prepare``, ``score`` and ``interpret``, which callers with their own workers may call
    one by one: it prepares on the host, as the manifest says, and runs the network on what it prepared. ``run`` takes
    arrays for either graph: ``{"pixels": uint8 [batch, height, width, 3]}`` or ``{"image": uint8 [batch, any height,
    any width, 3]}``.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        device: str = "auto",
        threads: int | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._artifact = artifact
        self.max_pixels = max_pixels
        self._rotated = 0
        self._threads = threads
        self._labels = artifact.labels()
        self._lock = threading.Lock()
        self._graphs: dict[str, Session] = {}
        self._variant = artifact.manifest.variants[0]
        self._network = self._open(self._variant.network, device)

    @property
    def manifest(self) -> Manifest:
        """What the artifact says of itself."""
        return self._artifact.manifest

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of the scores."""
        return self._labels

    @property
    def rotated(self) -> int:
        """How many images so far asked, by EXIF, for a rotation that this model was not trained with."""
        return self._rotated

    @property
    def device(self) -> str:
        """Where the network runs: ``cpu``, ``cuda`` or ``cuda:N``."""
        return self._network.device

    @overload
    def predict(  # type: ignore[overload-overlap]  # a str is a sequence of str, too: the first overload wins
        self, inputs: ImageSource, *, top_k: int = 5, threshold: float = 0.0
    ) -> Prediction: ...

    @overload
    def predict(self, inputs: Sequence[ImageSource], *, top_k: int = 5, threshold: float = 0.0) -> list[Result]: ...

    def predict(
        self, inputs: ImageSource | Sequence[ImageSource], *, top_k: int = 5, threshold: float = 0.0
    ) -> Prediction | list[Result]:
        """Return the prediction for one image, or a list of results for a list or tuple of images.

        An image is a path, encoded bytes, a PIL image, or a uint8 array [height, width, 3], RGB. One image that cannot
        be used raises InputError; in a list it costs only its own place, which then holds a Failure.
        """
        check_options(top_k, threshold)
        if isinstance(inputs, list | tuple):
            results: list[Result] = []
            for start in range(0, len(inputs), _BATCH):
                results += self._predict_batch(inputs[start : start + _BATCH], start, top_k, threshold)
            return results
        result = self._predict_batch([inputs], 0, top_k, threshold)[0]  # type: ignore[list-item]
        if isinstance(result, Failure):
            raise InputError(result.error)
        return result

    def decode(self, source: ImageSource, *, subject: str = "image") -> Decoded:
        """Return one input as the manifest's input spec decodes it. Raises InputError, with ``subject`` as its name."""
        decoded = decode_image(source, self.manifest.inputs[0], subject=subject, max_pixels=self.max_pixels)
        if decoded.turned and not self.manifest.inputs[0].exif:
            self._note_rotated(subject)
        return decoded

    def prepare(self, source: ImageSource | Decoded, *, subject: str = "image") -> NDArray[np.uint8]:
        """Return the prepared pixels of one image: uint8 [height, width, 3], of the size the network takes."""
        decoded = source if isinstance(source, Decoded) else self.decode(source, subject=subject)
        return geometry.prepare(decoded.image, self.manifest.preprocessing.geometry)

    def score(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the network's scores for prepared inputs, float32 [batch, classes]."""
        scores: NDArray[np.float32] = self._network.run({PIXELS: np.stack(prepared)})[self.manifest.outputs[0].name]
        return scores

    def interpret(
        self, scores: NDArray[np.float32], *, name: str, top_k: int = 5, threshold: float = 0.0
    ) -> Prediction:
        """Return the prediction that one row of scores, float32 [classes], means for the input ``name``."""
        return classify(scores, self._labels, name=name, top_k=top_k, threshold=threshold)

    def run(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """Return a graph's outputs by name; the names of ``arrays`` say which graph.

        Raises InputError when names, dtypes or shapes fit neither graph.
        """
        if arrays.keys() == {self.manifest.inputs[0].name}:
            return self._whole_path().run(arrays)
        return self._network.run(arrays)

    def _predict_batch(self, sources: Sequence[ImageSource], start: int, top_k: int, threshold: float) -> list[Result]:
        names = [subject_of(source, start + offset) for offset, source in enumerate(sources)]
        results: list[Result | None] = []
        prepared = []
        for name, source in zip(names, sources, strict=True):
            try:
                prepared.append(self.prepare(source, subject=f"'{name}'"))
                results.append(None)
            except InputError as error:
                results.append(Failure(input=name, error=str(error)))
        scores = iter(self.score(prepared) if prepared else ())
        return [
            result or self.interpret(next(scores), name=name, top_k=top_k, threshold=threshold)
            for name, result in zip(names, results, strict=True)
        ]

    def _note_rotated(self, subject: str) -> None:
        with self._lock:
            self._rotated += 1
            first = self._rotated == 1
        if first:
            warnings.warn(
                f"{subject}: its EXIF orientation asks for a rotation, which is not applied, as in training. "
                "If the model was trained on rotated photos, export it with --exif.",
                stacklevel=2,
            )

    def _whole_path(self) -> Session:
        """Return the graph that takes raw images, loaded at its first use."""
        name = self._variant.model
        with self._lock:
            if name not in self._graphs:
                if self.device != "cpu":
                    raise DeviceError(
                        f"'{name}': its resize is for the CPU provider: onnxruntime's antialiased CUDA resize gives "
                        f"other pixels. Use predict(), or run() with '{PIXELS}', or load with device='cpu'."
                    )
                self._graphs[name] = self._open(name, "cpu")
            return self._graphs[name]

    def _open(self, name: str, device: str) -> Session:
        self._artifact.file(self._variant.weights)
        return open_session(self._artifact.file(name), device=device, threads=self._threads)


def load(path: str | Path, *, device: str = "auto", threads: int | None = None, max_pixels: int = MAX_PIXELS) -> Model:
    """Return the artifact in folder ``path``, checked and loaded on ``device``.

    Devices are ``auto``, ``cpu``, ``cuda`` and ``cuda:N``; ``threads`` bounds the threads of one call; images of more
    than ``max_pixels`` are refused before they are decoded. Raises ArtifactError when the artifact is damaged, foreign
    or too new, and DeviceError when a named device cannot run it.
    """
    return Model(open_artifact(path), device=device, threads=threads, max_pixels=max_pixels)


def check_options(top_k: int, threshold: float) -> None:
    """Raise InputError for a number of classes or a threshold that no prediction can have."""
    if top_k < 1:
        raise InputError(f"top_k: expected at least 1, got {top_k}. Ask for one label or more.")
    if not 0.0 <= threshold <= 1.0:
        raise InputError(f"threshold: expected a probability from 0 to 1, got {threshold}. Choose one in that range.")
