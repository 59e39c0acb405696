"""An artifact, ready to run: from a caller's inputs to what they mean, or from arrays to arrays."""

import threading
import warnings
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from runtime.artifact.open import Artifact, open_artifact
from runtime.engine.concurrency import ActiveCalls, ConcurrencyPlan, PlanName, ThreadPool, batches, build_plan
from runtime.engine.cpu import usable_cores
from runtime.engine.devices import DeviceOptions
from runtime.engine.session import Arrays, Session, open_session
from runtime.errors import DeviceError, InputError, ModelError
from runtime.inputs.decoder import DecodedInput, subject_of
from runtime.inputs.image.decoder import MAX_PIXELS, PIXELS, ROTATED
from runtime.inputs.registry import open_decoder
from runtime.manifest import ImageInput, Manifest
from runtime.results import Failure, Result, interpret, split

_OUT_OF_MEMORY = "'{}': out of memory: expected room to decode and run it, got none. Make it smaller."


class Model:
    """A loaded artifact; safe to use from many threads; ``close`` it, or use it in a ``with``, to end its threads.

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
        plan: PlanName = "latency",
        workers: int | None = None,
        threads: int | None = None,
        batch: int | None = None,
        max_pixels: int = MAX_PIXELS,
        options: DeviceOptions | None = None,
    ) -> None:
        self._artifact = artifact
        self._labels = artifact.labels()
        self._lock = threading.Lock()
        self._warning_counts: Counter[str] = Counter()
        self._decoder = open_decoder(artifact, max_pixels=max_pixels)
        outputs = artifact.manifest.outputs
        self._batched = frozenset(output.name for output in outputs if output.batched)
        self._graphs: dict[str, Session] = {}
        self._variant = artifact.manifest.variants[0]
        self._workers: ThreadPool | None = None
        self._options = options or DeviceOptions()
        # A batch of photos gives nothing on a CPU (measured); of rows, whose networks are small, it is most of the
        # speed. Only the opened session tells what 'auto' came to.
        images = any(isinstance(spec, ImageInput) for spec in artifact.manifest.inputs)
        given = {"workers": workers, "threads": threads, "batch": batch}
        cpu_batch = batch if images or batch else self._decoder.batch_size
        self._plan = build_plan(plan, device="cpu", cores=usable_cores(), **{**given, "batch": cpu_batch})
        self._calls = ActiveCalls()
        self._shared: Session | None = None
        # Threads that were asked for are those of every call; else calls that share the cores have one each.
        self._shares = self._plan.threads > 1 and threads is None
        spin = self._shares or (self._plan.threads > 1 and self._plan.workers == 1)
        self._network: Session | None = self._open(self._variant.network, device, threads=self._plan.threads, spin=spin)
        self._device = self._network.device
        # An output without a batch may be of all inputs, those that fill up included.
        every_output = len(self._batched) == len(outputs)
        self._fills = self._device != "cpu" and self._network.only_batch_varies and every_output
        if self._device != "cpu":
            self._plan = build_plan(plan, device=self._device, cores=usable_cores(), **given)
            self._network.warm_up([self._plan.batch])

    @property
    def manifest(self) -> Manifest:
        """What the artifact says of itself."""
        return self._artifact.manifest

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of the scores; none for tasks without classes."""
        return self._labels

    @property
    def warning_counts(self) -> dict[str, int]:
        """How many inputs so far had something to be warned about, by what: ``rotated``, ``truncated``."""
        with self._lock:
            return dict(self._warning_counts)

    @property
    def rotated(self) -> int:
        """How many images so far asked, by EXIF, for a rotation that this model was not trained with."""
        return self.warning_counts.get(ROTATED, 0)

    @property
    def device(self) -> str:
        """Where the network runs: never ``auto``."""
        return self._device

    @property
    def fills_batches(self) -> bool:
        """Whether calls are filled up to the plan's batch: on accelerators, where inputs have one shape."""
        return self._fills

    @property
    def plan(self) -> ConcurrencyPlan:
        """How lists and jobs are spread over the cores, and how many threads one call of the network takes."""
        return self._plan

    def predict(self, inputs: Any, *, top_k: int = 5, threshold: float | None = None) -> Any:
        """Return the answer for one input, or a list of results for a list or tuple of inputs.

        An input is what the artifact's kind takes: a path, encoded bytes, a PIL image or a uint8 array [height, width,
        3] for images, a dictionary for rows, an array for tensors. The answer's type is the task's: Prediction,
        LabelSet, Estimate, Segmentation, TokenSequence or Outputs. One input that cannot be used raises InputError; in
        a list it costs only its own place, which then holds a Failure. ``threshold`` is a probability, by default the
        artifact's own.
        """
        check_options(top_k, threshold)
        if not self._decoder.is_list(inputs):
            result = self._predict_batch([(self._name(inputs, 0), inputs)], top_k, threshold)[0]
            if isinstance(result, Failure):
                raise InputError(result.error)
            return result
        return list(self.predict_each(self._named(inputs), top_k=top_k, threshold=threshold))

    def predict_each(
        self, named: Iterable[tuple[str, Any]], *, top_k: int = 5, threshold: float | None = None
    ) -> Iterator[Result]:
        """Yield the result of each (name, input), in order, with all of the plan's workers at work.

        Inputs are taken only a little ahead of the results, so that memory stays bounded however many there are. An
        InputError in the place of an input, as a reader of tables leaves it, is that input's Failure.
        """
        check_options(top_k, threshold)
        return self._predict_batches(batches(named, self._plan.batch), top_k, threshold)

    async def predict_async(self, inputs: Any, *, top_k: int = 5, threshold: float | None = None) -> Any:
        """Return what ``predict`` returns, while the event loop goes on."""
        import asyncio

        check_options(top_k, threshold)
        workers = self._open_workers()
        if not self._decoder.is_list(inputs):
            return await asyncio.wrap_future(workers.submit(self.predict, inputs, top_k=top_k, threshold=threshold))
        futures = [
            workers.submit(self._predict_batch, batch, top_k, threshold)
            for batch in batches(self._named(inputs), self._plan.batch)
        ]
        answers = await asyncio.gather(*map(asyncio.wrap_future, futures))
        return [result for answer in answers for result in answer]

    async def run_async(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """Return what ``run`` returns, while the event loop goes on."""
        import asyncio

        return await asyncio.wrap_future(self._open_workers().submit(self.run, arrays))

    def decode(self, source: Any, *, subject: str = "input") -> DecodedInput:
        """Return one input as its kind decodes it. Raises InputError, with ``subject`` as its name."""
        decoded = self._decoder.decode(source, subject=subject)
        if decoded.warning:
            self._warn_once(decoded.warning, subject)
        return decoded

    def prepare(self, source: Any, *, subject: str = "input") -> Any:
        """Return what the host prepares of one input, decoded or not.

        For images it is uint8 [height, width, 3], of the size that the network takes; other kinds have their own.
        Raises InputError, with ``subject`` as its name.
        """
        decoded = source if isinstance(source, DecodedInput) else self.decode(source, subject=subject)
        return self._decoder.prepare(decoded)

    def bucket(self, prepared: Any) -> Hashable:
        """Return a key: prepared inputs of equal keys run as one batch."""
        return self._decoder.bucket(prepared)

    def stack(self, prepared: Sequence[Any]) -> dict[str, NDArray[Any]]:
        """Return the arrays that ``run`` takes for prepared inputs of one bucket."""
        return self._decoder.stack(prepared)

    def whole(self, decoded: DecodedInput) -> dict[str, NDArray[Any]]:
        """Return the arrays that ``run`` takes for one decoded input, nothing of it prepared on the host."""
        return self._decoder.whole(decoded)

    def score(self, prepared: Sequence[Any]) -> Sequence[Any]:
        """Return the network's scores for prepared inputs: one entry an input, in their order.

        For most tasks it is an array, as float32 [batch, classes]; raw tasks have a dictionary of arrays an input.
        Inputs of different buckets run as several batches.
        """
        with self._calls:
            return self._score(prepared)

    def _score(self, prepared: Sequence[Any]) -> Sequence[Any]:
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

    def interpret(self, scores: Any, *, name: str, top_k: int = 5, threshold: float | None = None) -> Result:
        """Return what one entry of ``score`` means for the input ``name``: a Failure where it is not finite."""
        return interpret(self.manifest.task, scores, self._labels, name=name, top_k=top_k, threshold=threshold)

    def run(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """Return a graph's outputs by name; the names of ``arrays`` say which graph.

        Raises InputError when names, dtypes or shapes fit neither graph.
        """
        if self._variant.model != self._variant.network and arrays.keys() == {
            spec.name for spec in self.manifest.inputs
        }:
            return self._whole_path().run(arrays)
        with self._calls:
            return self._session().run(arrays)

    def check_unchanged(self) -> None:
        """Raise ArtifactError if a file of the artifact has been changed since it was loaded."""
        self._artifact.check_unchanged()

    def close(self) -> None:
        """Finish what is in work, end the threads and let go of the graphs; using the model afterwards is an error."""
        with self._lock:
            workers, self._workers, self._network, self._shared = self._workers, None, None, None
            self._graphs.clear()
        if workers is not None:
            workers.close()

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _predict_batches(
        self, work: Iterable[list[tuple[str, Any]]], top_k: int, threshold: float | None
    ) -> Iterator[Result]:
        if self._plan.workers == 1:
            for batch in work:
                yield from self._predict_batch(batch, top_k, threshold)
            return
        answers = self._open_workers().map(lambda batch: self._predict_batch(batch, top_k, threshold), work)
        for results in answers:
            yield from results

    def _predict_batch(self, batch: Sequence[tuple[str, Any]], top_k: int, threshold: float | None) -> list[Result]:
        """Return one result an input; what is wrong with one input, even for the network alone, costs only itself."""
        with self._calls:
            return self._predict_together(batch, top_k, threshold)

    def _predict_together(self, batch: Sequence[tuple[str, Any]], top_k: int, threshold: float | None) -> list[Result]:
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
            scores = iter(self._score(prepared) if prepared else ())
        except (InputError, MemoryError) as error:
            if len(batch) > 1:
                return [self._predict_together([one], top_k, threshold)[0] for one in batch]
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

    def _open_workers(self) -> ThreadPool:
        self._opened()
        with self._lock:
            if self._workers is None:
                self._workers = ThreadPool(self._plan.workers)
            return self._workers

    def _score_batch(self, prepared: Sequence[Any]) -> Sequence[Any]:
        missing = max(0, self._plan.batch - len(prepared)) if self._fills else 0
        outputs = self._session().run(self._decoder.stack([*prepared, *[prepared[-1]] * missing]))
        return split(self.manifest.task, outputs, batched=self._batched, count=len(prepared))[: len(prepared)]

    def _named(self, inputs: Sequence[Any]) -> list[tuple[str, Any]]:
        return [(self._name(source, position), source) for position, source in enumerate(inputs)]

    def _name(self, source: Any, position: int) -> str:
        """Return what results call an input; texts and the like have a way of their own."""
        name = getattr(self._decoder, "name", subject_of)
        return str(name(source, position))

    def _warn_once(self, warning: str, subject: str) -> None:
        with self._lock:
            self._warning_counts[warning] += 1
            first = self._warning_counts[warning] == 1
        if first:
            warnings.warn(f"{subject}: {self._decoder.warnings[warning]}", stacklevel=2)

    def _whole_path(self) -> Session:
        """Return the graph that takes raw inputs, loaded at its first use."""
        name = self._variant.model
        self._opened()
        with self._lock:
            if name not in self._graphs:
                if self.device != "cpu":
                    raise DeviceError(
                        f"'{name}': its resize is for the CPU provider: onnxruntime's antialiased CUDA resize gives "
                        f"other pixels. Use predict(), or run() with '{PIXELS}', or load with device='cpu'."
                    )
                self._graphs[name] = self._open(name, "cpu", threads=self._plan.threads)
            return self._graphs[name]

    def _session(self) -> Session:
        """Return the network for a call: on all cores where it is alone, on its own thread where others are at work."""
        network = self._opened()
        if self._calls.alone or not self._shares or self._device != "cpu":
            return network
        with self._lock:
            if self._shared is None:
                self._shared = self._open(self._variant.network, "cpu", threads=1)
            return self._shared

    def _open(self, name: str, device: str, *, threads: int, spin: bool = False) -> Session:
        self._artifact.file(self._variant.weights)
        path = self._artifact.file(name)
        return open_session(path, device=device, threads=threads, spin=spin, options=self._options)


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

    Devices are those of ``engine.devices.DEVICES``, ``cuda:N``, and ``auto``. ``plan`` is ``latency``, one input on
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
        options=DeviceOptions(tf32=tf32, memory_limit_bytes=limit),
    )


def check_options(top_k: int, threshold: float | None) -> None:
    """Raise InputError for a number of classes or a threshold that no prediction can have."""
    if top_k < 1:
        raise InputError(f"top_k: expected at least 1, got {top_k}. Ask for one label or more.")
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise InputError(f"threshold: expected a probability from 0 to 1, got {threshold}. Choose one in that range.")
