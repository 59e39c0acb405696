"""An artifact, ready to run: from a caller's inputs to what they mean, or from arrays to arrays."""

import threading
import warnings
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from runtime.artifact import Artifact, open_artifact
from runtime.decode.images import MAX_PIXELS, PIXELS, ROTATED
from runtime.decode.protocol import Decoded, open_decoder, subject_of
from runtime.errors import DeviceError, InputError
from runtime.manifest import Manifest
from runtime.results import Answer, Failure, Result, interpret, split
from runtime.session import Arrays, Session, open_session


class Model:
    """A loaded artifact; safe to use from many threads.

    ``predict`` is ``decode``, ``prepare``, ``score`` and ``interpret``, which callers with their own workers may call
    one by one: it prepares on the host, as the manifest says, and runs the network on what it prepared. ``run`` takes
    arrays for either graph: raw inputs, such as ``{"image": uint8 [batch, any height, any width, 3]}``, or prepared
    ones, such as ``{"pixels": uint8 [batch, height, width, 3]}``.
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
        self._threads = threads
        self._labels = artifact.labels()
        self._lock = threading.Lock()
        self._remarks: Counter[str] = Counter()
        self._decoder = open_decoder(artifact, max_pixels=max_pixels)
        outputs = artifact.manifest.outputs
        self._batched = frozenset(output.name for output in outputs if output.shape and output.shape[0] == "batch")
        self._graphs: dict[str, Session] = {}
        self._variant = artifact.manifest.variants[0]
        self._network = self._open(self._variant.network, device)

    @property
    def manifest(self) -> Manifest:
        """What the artifact says of itself."""
        return self._artifact.manifest

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of the scores; none for tasks without classes."""
        return self._labels

    @property
    def remarks(self) -> dict[str, int]:
        """How many inputs so far had something to be warned about, by what: ``rotated``, ``truncated``."""
        with self._lock:
            return dict(self._remarks)

    @property
    def rotated(self) -> int:
        """How many images so far asked, by EXIF, for a rotation that this model was not trained with."""
        return self.remarks.get(ROTATED, 0)

    @property
    def device(self) -> str:
        """Where the network runs: ``cpu``, ``cuda`` or ``cuda:N``."""
        return self._network.device

    def predict(
        self, inputs: Any, *, top_k: int = 5, threshold: float | None = None, names: Sequence[str] | None = None
    ) -> Any:
        """Return the answer for one input, or a list of results for a list or tuple of inputs.

        An input is what the artifact's kind takes: a path, encoded bytes, a PIL image or a uint8 array [height, width,
        3] for images, a dictionary for rows, an array for tensors. The answer's type is the task's: Prediction,
        LabelSet, Estimate, Segmentation or Outputs. One input that cannot be used raises InputError; in a list it
        costs only its own place, which then holds a Failure. ``names`` are what results and messages call the inputs of
        a list, instead of their paths or positions. ``threshold`` is a probability, by default the artifact's own.
        """
        check_options(top_k, threshold)
        if not self._decoder.is_list(inputs):
            result = self._predict_batch([inputs], names or [subject_of(inputs, 0)], top_k, threshold)[0]
            if isinstance(result, Failure):
                raise InputError(result.error)
            return result
        if names is None:
            names = [subject_of(source, position) for position, source in enumerate(inputs)]
        elif len(names) != len(inputs):
            raise InputError(f"names: expected one an input, {len(inputs)}, got {len(names)}. Name every input.")
        results: list[Result] = []
        size = self._decoder.batch_size
        for start in range(0, len(inputs), size):
            stop = start + size
            results += self._predict_batch(inputs[start:stop], names[start:stop], top_k, threshold)
        return results

    def decode(self, source: Any, *, subject: str = "input") -> Decoded:
        """Return one input as its kind decodes it. Raises InputError, with ``subject`` as its name."""
        decoded = self._decoder.decode(source, subject=subject)
        if decoded.remark:
            self._note(decoded.remark, subject)
        return decoded

    def prepare(self, source: Any, *, subject: str = "input") -> Any:
        """Return what the host prepares of one input, decoded or not.

        For images it is uint8 [height, width, 3], of the size that the network takes; other kinds have their own.
        Raises InputError, with ``subject`` as its name.
        """
        decoded = source if isinstance(source, Decoded) else self.decode(source, subject=subject)
        return self._decoder.prepare(decoded)

    def bucket(self, prepared: Any) -> Hashable:
        """Return a key: prepared inputs of equal keys run as one batch."""
        return self._decoder.bucket(prepared)

    def stack(self, prepared: Sequence[Any]) -> dict[str, NDArray[Any]]:
        """Return the arrays that ``run`` takes for prepared inputs of one bucket."""
        return self._decoder.stack(prepared)

    def whole(self, decoded: Decoded) -> dict[str, NDArray[Any]]:
        """Return the arrays that ``run`` takes for one decoded input, nothing of it prepared on the host."""
        return self._decoder.whole(decoded)

    def score(self, prepared: Sequence[Any]) -> Sequence[Any]:
        """Return the network's scores for prepared inputs: one entry an input, in their order.

        For most tasks it is an array, as float32 [batch, classes]; raw tasks have a dictionary of arrays an input.
        Inputs of different buckets run as several batches.
        """
        buckets: dict[Hashable, list[int]] = {}
        for position, one in enumerate(prepared):
            buckets.setdefault(self._decoder.bucket(one), []).append(position)
        if len(buckets) == 1:
            return self._score_batch(prepared)
        scores: list[Any] = [None] * len(prepared)
        for positions in buckets.values():
            batch = self._score_batch([prepared[position] for position in positions])
            for position, score in zip(positions, batch, strict=True):
                scores[position] = score
        return scores

    def interpret(self, scores: Any, *, name: str, top_k: int = 5, threshold: float | None = None) -> Answer:
        """Return what one entry of ``score`` means for the input ``name``."""
        return interpret(self.manifest.task, scores, self._labels, name=name, top_k=top_k, threshold=threshold)

    def run(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """Return a graph's outputs by name; the names of ``arrays`` say which graph.

        Raises InputError when names, dtypes or shapes fit neither graph.
        """
        if self._variant.model != self._variant.network and arrays.keys() == {
            spec.name for spec in self.manifest.inputs
        }:
            return self._whole_path().run(arrays)
        return self._network.run(arrays)

    def _predict_batch(
        self, sources: Sequence[Any], names: Sequence[str], top_k: int, threshold: float | None
    ) -> list[Result]:
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

    def _score_batch(self, prepared: Sequence[Any]) -> Sequence[Any]:
        outputs = self._network.run(self._decoder.stack(prepared))
        return split(self.manifest.task, outputs, batched=self._batched, count=len(prepared))

    def _note(self, remark: str, subject: str) -> None:
        with self._lock:
            self._remarks[remark] += 1
            first = self._remarks[remark] == 1
        if first:
            warnings.warn(f"{subject}: {self._decoder.remarks[remark]}", stacklevel=2)

    def _whole_path(self) -> Session:
        """Return the graph that takes raw inputs, loaded at its first use."""
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


def check_options(top_k: int, threshold: float | None) -> None:
    """Raise InputError for a number of classes or a threshold that no prediction can have."""
    if top_k < 1:
        raise InputError(f"top_k: expected at least 1, got {top_k}. Ask for one label or more.")
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise InputError(f"threshold: expected a probability from 0 to 1, got {threshold}. Choose one in that range.")
