"""An artifact, ready to run: from photos to labels, or from arrays to arrays."""

import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from runtime import geometry
from runtime.artifact import Artifact, open_artifact
from runtime.cores import usable_cores
from runtime.decode.images import MAX_PIXELS, Decoded, ImageSource, decode_image, subject_of
from runtime.devices import Options
from runtime.errors import DeviceError, InputError, ModelError
from runtime.manifest import Manifest
from runtime.results import Failure, Prediction, Result, classify
from runtime.session import Arrays, Session, open_session
from runtime.workers import Plan, PlanName, Workers, batches, build_plan

PIXELS = "pixels"

_OUT_OF_MEMORY = "'{}': out of memory: expected room to decode and run it, got none. Make it smaller."


class Model:
    """A loaded artifact; safe to use from many threads; ``close`` it, or use it in a ``with``, to end its threads.

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
        plan: PlanName = "latency",
        workers: int | None = None,
        threads: int | None = None,
        batch: int | None = None,
        max_pixels: int = MAX_PIXELS,
        options: Options | None = None,
    ) -> None:
        self._artifact = artifact
        self._max_pixels = max_pixels
        self._rotated = 0
        self._labels = artifact.labels()
        self._lock = threading.Lock()
        self._graphs: dict[str, Session] = {}
        self._workers: Workers | None = None
        self._options = options or Options()
        self._variant = artifact.manifest.variants[0]
        # Only the opened session tells what 'auto' came to; the number of threads matters on the CPU alone.
        given = {"workers": workers, "threads": threads, "batch": batch}
        self._plan = build_plan(plan, device="cpu", cores=usable_cores(), **given)
        self._network: Session | None = self._open(self._variant.network, device)
        self._device = self._network.device
        self._plan = build_plan(plan, device=self._device, cores=usable_cores(), **given)
        if self._device != "cpu":
            self._network.warm_up((1, self._plan.batch))

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
        """Where the network runs: never ``auto``."""
        return self._device

    @property
    def plan(self) -> Plan:
        """How lists and jobs are spread over the cores, and how many threads one call of the network takes."""
        return self._plan

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
        if isinstance(inputs, list | tuple):
            named = ((subject_of(source, position), source) for position, source in enumerate(inputs))
            return list(self.predict_each(named, top_k=top_k, threshold=threshold))
        _check_options(top_k, threshold)
        result = self._predict_batch([(subject_of(inputs, 0), inputs)], top_k, threshold)[0]  # type: ignore[list-item]
        if isinstance(result, Failure):
            raise InputError(result.error)
        return result

    def predict_each(
        self, named: Iterable[tuple[str, ImageSource | InputError]], *, top_k: int = 5, threshold: float = 0.0
    ) -> Iterator[Result]:
        """Yield the result of each (name, input), in order, with all of the plan's workers at work.

        Inputs are taken only a little ahead of the results, so that memory stays bounded however many there are. An
        InputError in the place of an input, as a reader of tables leaves it, is that input's Failure.
        """
        _check_options(top_k, threshold)
        return self._predict_batches(batches(named, self._plan.batch), top_k, threshold)

    async def predict_async(
        self, inputs: ImageSource | Sequence[ImageSource], *, top_k: int = 5, threshold: float = 0.0
    ) -> Prediction | list[Result]:
        """Return what ``predict`` returns, while the event loop goes on."""
        import asyncio

        _check_options(top_k, threshold)
        many = isinstance(inputs, list | tuple)
        sources: Sequence[ImageSource] = inputs if many else [inputs]  # type: ignore[assignment, list-item]
        named = ((subject_of(source, position), source) for position, source in enumerate(sources))
        futures = [
            self._open_workers().submit(self._predict_batch, batch, top_k, threshold)
            for batch in batches(named, self._plan.batch)
        ]
        answers = await asyncio.gather(*map(asyncio.wrap_future, futures))
        results = [result for answer in answers for result in answer]
        if many:
            return results
        if isinstance(results[0], Failure):
            raise InputError(results[0].error)
        return results[0]

    async def run_async(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """Return what ``run`` returns, while the event loop goes on."""
        import asyncio

        return await asyncio.wrap_future(self._open_workers().submit(self.run, arrays))

    def decode(self, source: ImageSource, *, subject: str = "image") -> Decoded:
        """Return one input as the manifest's input spec decodes it. Raises InputError, with ``subject`` as its name."""
        decoded = decode_image(source, self.manifest.inputs[0], subject=subject, max_pixels=self._max_pixels)
        if decoded.turned and not self.manifest.inputs[0].exif:
            self._note_rotated(subject)
        return decoded

    def prepare(self, source: ImageSource | Decoded, *, subject: str = "image") -> NDArray[np.uint8]:
        """Return the prepared pixels of one image: uint8 [height, width, 3], of the size the network takes."""
        decoded = source if isinstance(source, Decoded) else self.decode(source, subject=subject)
        return geometry.prepare(decoded.image, self.manifest.preprocessing.geometry)

    def score(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the network's scores for prepared inputs, float32 [batch, classes]."""
        pixels = prepared[0][np.newaxis] if len(prepared) == 1 else np.stack(prepared)
        scores: NDArray[np.float32] = self._opened().run({PIXELS: pixels})[self.manifest.outputs[0].name]
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
        return self._opened().run(arrays)

    def check_unchanged(self) -> None:
        """Raise ArtifactError if a file of the artifact has been changed since it was loaded."""
        self._artifact.check_unchanged()

    def close(self) -> None:
        """Finish what is in work, end the threads and let go of the graphs; using the model afterwards is an error."""
        with self._lock:
            workers, self._workers, self._network = self._workers, None, None
            self._graphs.clear()
        if workers is not None:
            workers.close()

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _predict_batches(
        self, work: Iterable[list[tuple[str, ImageSource | InputError]]], top_k: int, threshold: float
    ) -> Iterator[Result]:
        if self._plan.workers == 1:
            for batch in work:
                yield from self._predict_batch(batch, top_k, threshold)
            return
        answers = self._open_workers().map(lambda batch: self._predict_batch(batch, top_k, threshold), work)
        for results in answers:
            yield from results

    def _predict_batch(
        self, batch: Sequence[tuple[str, ImageSource | InputError]], top_k: int, threshold: float
    ) -> list[Result]:
        """Return one result an input; what is wrong with one input, even for the network alone, costs only itself."""
        results: list[Result | None] = []
        prepared = []
        for name, source in batch:
            try:
                if isinstance(source, InputError):
                    raise source
                prepared.append(self.prepare(source, subject=f"'{name}'"))
                results.append(None)
            except InputError as error:
                results.append(Failure(input=name, error=str(error)))
            except MemoryError:
                results.append(Failure(input=name, error=_OUT_OF_MEMORY.format(name)))
        try:
            scores = iter(self.score(prepared) if prepared else ())
        except (InputError, MemoryError) as error:
            if len(batch) > 1:
                return [self._predict_batch([one], top_k, threshold)[0] for one in batch]
            name = batch[0][0]
            message = _OUT_OF_MEMORY.format(name) if isinstance(error, MemoryError) else f"'{name}': {error}"
            return [Failure(input=name, error=message)]
        return [
            result or self.interpret(next(scores), name=name, top_k=top_k, threshold=threshold)
            for (name, _), result in zip(batch, results, strict=True)
        ]

    def _opened(self) -> Session:
        network = self._network
        if network is None:
            raise ModelError("model: closed: expected a model in use, got one after close(). Load the artifact again.")
        return network

    def _open_workers(self) -> Workers:
        self._opened()
        with self._lock:
            if self._workers is None:
                self._workers = Workers(self._plan.workers)
            return self._workers

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
        self._opened()
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
        path = self._artifact.file(name)
        return open_session(path, device=device, threads=self._plan.threads, options=self._options)


def load(
    path: str | Path,
    *,
    device: str = "auto",
    plan: PlanName = "latency",
    workers: int | None = None,
    threads: int | None = None,
    batch: int | None = None,
    max_pixels: int = MAX_PIXELS,
    tf32: bool = False,
    memory_limit_mb: int | None = None,
) -> Model:
    """Return the artifact in folder ``path``, checked and loaded on ``device``.

    Devices are those of ``runtime.devices.DEVICES``, ``cuda:N``, and ``auto``. ``plan`` is ``latency``, one input on
    all cores, or ``throughput``, one core an input; ``workers`` (inputs in work at once), ``threads`` (of one call) and
    ``batch`` (inputs a call) override its numbers. Images of more than ``max_pixels`` are refused before they are
    decoded. ``tf32`` and ``memory_limit_mb`` are for NVIDIA devices. Raises ArtifactError when the artifact is damaged,
    foreign or too new, and DeviceError when a named device cannot run it.
    """
    limit = None if memory_limit_mb is None else memory_limit_mb * 2**20
    return Model(
        open_artifact(path),
        device=device,
        plan=plan,
        workers=workers,
        threads=threads,
        batch=batch,
        max_pixels=max_pixels,
        options=Options(tf32=tf32, memory_limit_bytes=limit),
    )


def _check_options(top_k: int, threshold: float) -> None:
    if top_k < 1:
        raise InputError(f"top_k: expected at least 1, got {top_k}. Ask for one label or more.")
    if not 0.0 <= threshold <= 1.0:
        raise InputError(f"threshold: expected a probability from 0 to 1, got {threshold}. Choose one in that range.")
