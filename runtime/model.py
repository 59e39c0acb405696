"""Model: predictions from an artifact."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from numpy.typing import NDArray

from runtime.artifact.networks import open_executor, read_graphs
from runtime.artifact.open import Artifact, artifact_errors, open_artifact
from runtime.artifact.variants import warn_if_slow
from runtime.engine.arguments import check_arrays, check_settings, named_pairs
from runtime.engine.concurrency import ConcurrencyPlan, PlanName, PlanRequest, batches, run_by_bucket
from runtime.engine.devices import DeviceOptions
from runtime.engine.session import Arrays, run_in_parts
from runtime.errors import ArtifactError, DeviceError, InputError, TruecopyError
from runtime.inputs.decoder import (
    UNCOMPARED,
    DecodedInput,
    PreparedInput,
    SequenceSource,
    Source,
    check_compared,
    fault_of,
    input_border,
    read_stream,
    uncompared_length,
)
from runtime.inputs.image.decoder import MAX_PIXELS, PIXELS
from runtime.inputs.registry import is_costly_to_decode, open_decoder
from runtime.inputs.warnings import InputWarnings
from runtime.manifest import BATCH, FULL_PRECISION, Manifest, Variant
from runtime.outputs.precision import with_precisions
from runtime.outputs.registry import open_interpreter
from runtime.outputs.shown import ShownModel
from runtime.results import Failure, InputScores, Result, check_options, interpret, split


class Model(ShownModel):
    """A loaded artifact; safe to use from many threads. ``close``, or the end of a ``with``, ends its threads.

    It stays what was verified, whatever happens to the folder. A copy, or one that was pickled, opens the same version
    of the artifact anew, by its path; in a forked process a model on the CPU starts again from memory.

    ``predict`` is ``decode``, ``prepare``, ``score`` and ``interpret``, which callers with their own workers may call
    one by one: it prepares on the host, as the manifest says, and runs the network on what it prepared. ``run`` takes
    arrays for either graph: ``{"image": uint8 [batch, any height, any width, 3]}``, or prepared ``{"pixels": ...}``.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        precision: str = FULL_PRECISION,
        device: str = "auto",
        plan: PlanName = "latency",
        workers: int | None = None,
        threads: int | None = None,
        batch: int | None = None,
        max_pixels: int = MAX_PIXELS,
        options: DeviceOptions | None = None,
    ) -> None:
        self._settings = {name: value for name, value in locals().items() if name not in {"self", "artifact"}}
        check_settings(self._settings)
        self._artifact = artifact
        self._warnings = InputWarnings()
        with artifact_errors(artifact.path):
            self._labels = artifact.labels()
            self._decoder = open_decoder(artifact, max_pixels=max_pixels)
            self._variant = artifact.manifest.variant(precision)
            self._bucket = self._decoder.bucket if self._variant.shares_batches else id
            self._batched = artifact.manifest.batched_outputs
            self._graphs = read_graphs(artifact, self._variant)
            # Measured on a CPU: a batch of photos gains nothing; of rows, whose networks are small, most of the speed.
            self._executor = open_executor(
                artifact,
                self._graphs,
                precision=precision,
                device=device,
                request=PlanRequest(
                    name=plan,
                    workers=workers,
                    threads=threads,
                    batch=batch,
                    cpu_batch=None if is_costly_to_decode(artifact.manifest.inputs) else self._decoder.batch_size,
                    most=artifact.manifest.largest_batch,
                ),
                options=options or DeviceOptions(),
            )

    @property
    def manifest(self) -> Manifest:
        """The artifact's manifest."""
        return self._artifact.manifest

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of the scores; empty for tasks without classes."""
        return self._labels

    @property
    def warning_counts(self) -> dict[str, int]:
        """The number of inputs so far with a warning, by its kind: ``rotated``, ``truncated``, ``uncompared``."""
        return self._warnings.counts

    @property
    def variant(self) -> Variant:
        """The graphs that this model runs, by their precision."""
        return self._variant

    @property
    def precision(self) -> str:
        """The precision that was asked for: that of the variant, or of it and fp32, such as ``int8+fp32``."""
        return str(self._settings["precision"])

    @property
    def stats(self) -> dict[str, int]:
        """The number of rows so far by the precision that computed them; empty where all are of one."""
        rows, again = self._executor.row_counts or (0, None)
        return {} if again is None else {self._variant.precision: rows - again, FULL_PRECISION: again}

    @property
    def device(self) -> str:
        """The device that runs the network: never ``auto``."""
        return self._executor.device

    @property
    def fills_batches(self) -> bool:
        """Whether batches are filled up to the plan's number: on accelerators, where inputs have one shape."""
        return self._executor.fills_batches

    @property
    def plan(self) -> ConcurrencyPlan:
        """The numbers of workers, of threads per call and of inputs per batch."""
        return self._executor.plan

    @overload
    def predict(self, inputs: Source, *, top_k: int = 5, threshold: float | None = None) -> Result: ...

    @overload
    def predict(
        self, inputs: SequenceSource, *, top_k: int = 5, threshold: float | None = None
    ) -> Result | list[Result]: ...

    @overload
    def predict(
        self, inputs: list[Any] | tuple[Any, ...], *, top_k: int = 5, threshold: float | None = None
    ) -> list[Result]: ...

    def predict(self, inputs: Any, *, top_k: int = 5, threshold: float | None = None) -> Result | list[Result]:
        """Return the result for one input, or a list of results for a list or tuple of inputs.

        An input is what the artifact's kind takes: a path, encoded bytes or an open file of them, a PIL image or uint8
        [height, width, 3] for images, a dictionary for rows and for several parts, an array for tensors. ``threshold``
        is by default the artifact's own. Raises InputError for a single input that cannot be used; in a list, its
        result is a Failure.
        """
        check_options(top_k, threshold, self.precision)
        if not self._decoder.is_list(inputs):
            result = self._predict_batch([(self._decoder.name(inputs, 0), inputs)], top_k, threshold)[0]
            if isinstance(result, Failure):
                raise InputError(result.error)
            return result
        return list(self.predict_each(self._named(inputs), top_k=top_k, threshold=threshold))

    def predict_each(
        self, named: Iterable[tuple[str, Any]], *, top_k: int = 5, threshold: float | None = None
    ) -> Iterator[Result]:
        """Yield the result of each (name, input), in order, with all of the plan's workers.

        Inputs are taken only a little ahead of the results, so that memory stays bounded however many there are. An
        InputError instead of an input, as a reader of tables yields it, becomes that input's Failure.
        """
        check_options(top_k, threshold, self.precision)
        return self._predict_batches(batches(named_pairs(named), self.plan.batch), top_k, threshold)

    @overload
    async def predict_async(self, inputs: Source, *, top_k: int = 5, threshold: float | None = None) -> Result: ...

    @overload
    async def predict_async(
        self, inputs: SequenceSource, *, top_k: int = 5, threshold: float | None = None
    ) -> Result | list[Result]: ...

    @overload
    async def predict_async(
        self, inputs: list[Any] | tuple[Any, ...], *, top_k: int = 5, threshold: float | None = None
    ) -> list[Result]: ...

    async def predict_async(
        self, inputs: Any, *, top_k: int = 5, threshold: float | None = None
    ) -> Result | list[Result]:
        """Return what ``predict`` returns, without blocking the event loop."""
        import asyncio

        check_options(top_k, threshold, self.precision)
        self._executor.check_open()
        if not self._decoder.is_list(inputs):
            result: Result = await asyncio.wrap_future(
                self._executor.submit(self.predict, inputs, top_k=top_k, threshold=threshold)
            )
            return result
        futures = [
            self._executor.submit(self._predict_batch, batch, top_k, threshold)
            for batch in batches(self._named(inputs), self.plan.batch)
        ]
        results = await asyncio.gather(*map(asyncio.wrap_future, futures))
        return [result for batch in results for result in batch]

    async def run_async(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """Return what ``run`` returns, without blocking the event loop."""
        import asyncio

        return await asyncio.wrap_future(self._executor.submit(self.run, arrays))

    def decode(self, source: Any, *, subject: str = "input") -> DecodedInput:
        """Return one input as its kind decodes it. Raises InputError, with ``subject`` as its name, and no other."""
        with input_border(subject):
            decoded = self._decoder.decode(read_stream(source, subject), subject=subject)
        refused, others = self._decoder.refusable(self._decoder.lengths(decoded))
        check_compared(refused, self.manifest.compared, subject)
        if problem := uncompared_length(others, self.manifest.compared):
            self._warnings.add(UNCOMPARED, subject, problem)
        if decoded.warning:
            self._warnings.add(decoded.warning, subject, self._decoder.warnings[decoded.warning])
        return decoded

    def prepare(self, source: Any, *, subject: str = "input") -> PreparedInput:
        """Return what the host prepares of one input, decoded or not.

        For images it is uint8 [height, width, 3], of the size that the network takes; the other kinds have their own
        types. Raises InputError, with ``subject`` as its name.
        """
        return self._prepare(source, subject, None)

    def bucket(self, prepared: PreparedInput) -> Hashable:
        """Return a key: prepared inputs of equal keys run as one batch."""
        return self._decoder.bucket(prepared)

    def stack(self, prepared: Sequence[PreparedInput]) -> dict[str, NDArray[Any]]:
        """Return the arrays that ``run`` takes for prepared inputs of one bucket."""
        return self._decoder.stack(prepared)

    def raw_arrays(self, decoded: DecodedInput) -> dict[str, NDArray[Any]]:
        """Return the arrays that ``run`` takes for one decoded input that the host does not prepare."""
        return self._decoder.raw_arrays(decoded)

    def score(self, prepared: Sequence[PreparedInput]) -> Sequence[InputScores]:
        """Return the network's scores for prepared inputs: one entry per input, in their order.

        For most tasks it is an array, float32 [batch, classes]; some have a dictionary of arrays per input. Inputs of
        different buckets run as several batches.
        """
        with self._executor.active():
            return self._score(prepared)

    def split(self, outputs: Arrays, prepared: Sequence[PreparedInput]) -> Sequence[InputScores]:
        """Return a graph's outputs for a batch of prepared inputs as ``score`` does: one entry per input."""
        entries = split(self.manifest.task, outputs, batched=self._batched, count=len(prepared))[: len(prepared)]
        if open_interpreter(self.manifest.task).names_parts:
            return [{**row, **self._decoder.parts(value)} for row, value in zip(entries, prepared, strict=True)]
        return entries

    def interpret(self, scores: InputScores, *, name: str, top_k: int = 5, threshold: float | None = None) -> Result:
        """Return the result of one entry of ``score`` for the input ``name``: a Failure where it is not finite."""
        return interpret(self.manifest.task, scores, self._labels, name=name, top_k=top_k, threshold=threshold)

    def run(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """Return a graph's outputs by name; the names of ``arrays`` select the graph.

        A batch larger than those that were compared with the eager model runs in parts. Raises InputError when names,
        dtypes or shapes fit neither graph, for lengths beyond those that were compared, and for NaN and infinity.
        """
        check_arrays(arrays)
        sizes = {array.shape[:1] for array in arrays.values()}
        most = self.manifest.largest_batch
        if most is None or len(sizes) != 1 or not (size := sizes.pop()) or size[0] <= most:
            return self._run(arrays)
        if len(self._batched) < len(self.manifest.outputs):
            check_compared({BATCH: size[0]}, self.manifest.compared, "inputs")
        return run_in_parts(self._run, arrays, most)

    def _run(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        self._decoder.check_arrays(arrays)
        if self._decoder.refuses_lengths:
            check_compared(self._decoder.refusable(self._executor.lengths(arrays))[0], self.manifest.compared, "inputs")
        variant = self._variant
        if variant.model != variant.network and self._decoder.raw_names and self._decoder.raw_names <= arrays.keys():
            if self.device != "cpu":
                raise DeviceError(
                    f"'{variant.model}': its resize needs the CPU provider, as onnxruntime's antialiased CUDA resize "
                    f"gives other pixels. Use predict(), or run() with '{PIXELS}', or load with device='cpu'."
                )
            return self._executor.run_raw(arrays, self._graphs.raw)
        with self._executor.active():
            return self._executor.run(arrays)

    def check_unchanged(self) -> None:
        """Raise ArtifactError if a file of the artifact has been changed since it was loaded."""
        self._artifact.check_unchanged()

    def terminate(self) -> None:
        """End the calls in progress as soon as possible; what they return is of no use, and neither is the model."""
        self._executor.terminate()

    def release(self) -> None:
        """Free the memory of the graphs on a CPU until the next call, which loads them again without the files."""
        self._executor.release()

    def close(self) -> None:
        """Finish the calls in progress, end the threads and release the graphs; later calls raise ModelError."""
        self._executor.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._artifact.folder, self._artifact.digest, self._settings)

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self, source: Any, subject: str, slot: Any) -> PreparedInput:
        decoded = source if isinstance(source, DecodedInput) else self.decode(source, subject=subject)
        with input_border(subject):
            return self._decoder.prepare_into(decoded, slot)

    def _predict_batches(
        self, work: Iterable[list[tuple[str, Any]]], top_k: int, threshold: float | None
    ) -> Iterator[Result]:
        for results in self._executor.map(lambda batch: self._predict_batch(batch, top_k, threshold), work):
            yield from results

    def _predict_batch(self, batch: Sequence[tuple[str, Any]], top_k: int, threshold: float | None) -> list[Result]:
        """Return one result per input; a fault of one input, even if only the network raises it, costs no other."""
        with self._executor.active():
            return self._predict_together(batch, top_k, threshold)

    def _predict_together(self, batch: Sequence[tuple[str, Any]], top_k: int, threshold: float | None) -> list[Result]:
        results: list[Result | None] = []
        prepared: list[PreparedInput] = []
        with self._executor.preparing():
            slots = self._decoder.slots(len(batch))
            for name, source in batch:
                try:
                    if isinstance(source, InputError):
                        raise source
                    prepared.append(self._prepare(source, f"'{name}'", slots[len(prepared)]))
                    results.append(None)
                except InputError as error:
                    results.append(Failure(input=name, error=str(error)))
        try:
            scores = iter(self._score(prepared) if prepared else ())
            return [
                result or self.interpret(next(scores), name=name, top_k=top_k, threshold=threshold)
                for (name, _), result in zip(batch, results, strict=True)
            ]
        except Exception as error:
            if isinstance(error, TruecopyError) and not isinstance(error, InputError):
                raise  # the device's fault or the artifact's: no other input would fare better
            if len(batch) > 1:
                return [self._predict_together([pair], top_k, threshold)[0] for pair in batch]
            return [Failure(input=batch[0][0], error=fault_of(error, batch[0][0]))]

    def _score(self, prepared: Sequence[PreparedInput]) -> Sequence[InputScores]:
        return run_by_bucket(prepared, self._bucket, self._score_batch, most=self.manifest.largest_batch)

    def _score_batch(self, prepared: Sequence[PreparedInput]) -> Sequence[InputScores]:
        outputs, again = self._executor.run_rows(self._decoder.stack(self._executor.fill(prepared)))
        return with_precisions(self.split(outputs, prepared), self._variant.precision, again)

    def _named(self, inputs: Sequence[Any]) -> list[tuple[str, Any]]:
        return [(self._decoder.name(source, position), source) for position, source in enumerate(inputs)]


def load(
    path: str | Path,
    *,
    precision: str = FULL_PRECISION,
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

    ``precision`` is one of the artifact's variants: ``fp32``, proven equal to the model, or ``int8`` and ``fp16``,
    which are measured and smaller; int8 runs on CPUs, and ``int8+fp32`` runs rows that are too close to call again in
    fp32. ``device`` is ``cpu``, ``cuda``, ``cuda:N``, ``tensorrt``, ``openvino``, ``coreml`` or ``auto``. ``plan`` is
    ``latency`` (one input on all cores) or ``throughput`` (one core per input); ``workers`` (inputs processed at once),
    ``threads`` (per call of the network) and ``batch`` (inputs per call) override its numbers. Images of more than
    ``max_pixels`` are refused before they are decoded. ``tf32`` and ``memory_limit_mb`` are for NVIDIA devices.

    Raises ArtifactError when the artifact is damaged, foreign or too new, or lacks the precision, and DeviceError when
    a named device cannot run it.
    """
    artifact = open_artifact(path)
    model = Model(
        artifact,
        precision=precision,
        device=device,
        plan=plan,
        workers=workers,
        threads=threads,
        batch=batch,
        max_pixels=max_pixels,
        options=DeviceOptions(tf32=tf32, memory_limit_bytes=memory_limit_mb and memory_limit_mb * 2**20),
    )
    warn_if_slow(artifact, model.variant)
    return model


def _reopen(folder: Path, digest: str, settings: Mapping[str, Any]) -> Model:
    """Return a model that was pickled. Raises ArtifactError where the folder holds another version by now."""
    artifact = open_artifact(folder)
    if artifact.digest != digest:
        raise ArtifactError(
            f"'{folder}': not the version of the model that was pickled or copied: expected a manifest with SHA-256 "
            f"{digest}, got {artifact.digest}. Load the artifact again, and put new versions in other folders."
        )
    return Model(artifact, **settings)
