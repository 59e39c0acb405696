"""Predictor for Ray Data: columns in, columns out.

::

    dataset.map_batches(Predictor, fn_constructor_kwargs={"artifact": path}, num_cpus=2, concurrency=4)
"""

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.deploy.artifact_copies import place_artifact
from runtime.engine.cpu import usable_cores
from runtime.errors import InputError
from runtime.inputs.image.decoder import MAX_PIXELS
from runtime.inputs.registry import source_format_of
from runtime.inputs.source import NamedInput, SourceFormat
from runtime.jobs.urls import fetch_each
from runtime.manifest import FULL_PRECISION
from runtime.model import Model, load
from runtime.results import Result, check_options

Columns = Mapping[str, Any]


class Predictor:
    """Predicts batches of columns, with an ``error`` instead of a prediction where an input has none; picklable.

    ``artifact`` is a folder on every node, or a URL such as ``s3://bucket/artifact``, fetched once per node; with
    ``sha256``, as ``artifact_digest`` returns it, any other version is refused. ``column`` names the inputs as
    'truecopy predict --column' does: by default the only column or one with a usual name, and for rows all of them.
    Arrays of pixels, as ``ray.data.read_images`` returns them, are inputs as well. The columns of the results, such as
    ``label``, ``index``, ``probability`` and ``top``, follow those of the batch, with ``prefix`` before their names.

    The actor works on as many inputs at once as it has ``num_cpus``, each call of the network on one thread:
    onnxruntime ignores OMP_NUM_THREADS, which Ray sets. The model is loaded at first use.
    """

    def __init__(
        self,
        artifact: str | Path,
        *,
        sha256: str | None = None,
        column: str | None = None,
        prefix: str = "",
        top_k: int = 5,
        threshold: float | None = None,
        precision: str = FULL_PRECISION,
        device: str = "auto",
        workers: int | None = None,
        threads: int | None = None,
        batch: int | None = None,
        max_pixels: int = MAX_PIXELS,
        tf32: bool = False,
        memory_limit_mb: int | None = None,
        files: Mapping[str, Any] | None = None,
    ) -> None:
        """Store the options of 'truecopy predict'; ``files`` are the artifact's, by name, as object references."""
        check_options(top_k, threshold, precision)
        self._artifact = str(artifact)
        self._sha256 = sha256
        self._files = files
        self._column = column
        self._prefix = prefix
        self._top_k = top_k
        self._threshold = threshold
        self._load = {
            "precision": precision,
            "device": device,
            "workers": workers,
            "threads": threads,
            "batch": batch,
            "max_pixels": max_pixels,
            "tf32": tf32,
            "memory_limit_mb": memory_limit_mb,
        }
        self._model: Model | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None}

    @property
    def model(self) -> Model:
        """The loaded model; raises ArtifactError where this node has another version of it."""
        if self._model is None:
            folder = place_artifact(self._artifact, sha256=self._sha256, files=self._files)
            options: dict[str, Any] = dict(self._load)
            if options["device"] in {"auto", "cpu"}:
                cores = assigned_cores()
                options["threads"] = threads = options["threads"] or 1
                options["workers"] = options["workers"] or max(1, cores // threads)
            self._model = load(folder, plan="throughput", **options)
        return self._model

    def predict_named(self, named: Iterable[NamedInput]) -> list[Result]:
        """Return the result of each input, in order; URLs are fetched ahead."""
        return list(self.model.predict_each(fetch_each(named), top_k=self._top_k, threshold=self._threshold))

    def __call__(self, batch: Columns) -> dict[str, Any]:
        """Return the columns of ``batch``, as arrays or lists by name, followed by those of the results."""
        columns = dict(batch.to_pydict() if hasattr(batch, "to_pydict") else batch)
        rows = _to_rows(columns)
        results = self.predict_named(self._name_each(rows, source_format_of(self.model.manifest.inputs)))
        predicted = {f"{self._prefix}{name}": values for name, values in _to_columns(results).items()}
        if taken := [name for name in predicted if name in columns]:
            raise InputError(f"column '{taken[0]}': already exists in the batch. Pass prefix='predicted_'.")
        return {**columns, **predicted}

    def _name_each(self, rows: Sequence[dict[str, Any]], source_format: SourceFormat) -> list[NamedInput]:
        named: list[NamedInput] = []
        for number, row in enumerate(rows, 1):
            try:
                named.append(source_format.from_row(row, self._column, f"#{number}"))
            except InputError as error:
                if number == 1:  # the column is wrong, and so all rows would be
                    raise
                named.append((f"#{number}", error))
        return named


def assigned_cores() -> int:
    """Return the ``num_cpus`` of the Ray actor or task that this runs in, at least 1; elsewhere the usable cores."""
    ray: Any = import_module("ray")  # only partly typed
    if not ray.is_initialized():
        return usable_cores()
    context = ray.get_runtime_context()
    if context.worker.mode != ray.WORKER_MODE:
        return usable_cores()
    return max(1, int(context.get_assigned_resources().get("CPU", 1)))


def _to_rows(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return columns as rows; numbers and strings become Python objects, rows of arrays with more axes stay arrays."""
    values = [
        column.tolist() if isinstance(column, np.ndarray) and column.ndim == 1 else list(column)
        for column in columns.values()
    ]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _to_columns(results: Sequence[Result]) -> dict[str, NDArray[Any]]:
    """Return the rows of results as columns of objects, None where a row has no such value; 'error' is always there."""
    rows = [result.to_dict() for result in results]
    names = {name: None for row in rows for name in row if name not in {"input", "error"}}
    columns = {}
    for name in [*names, "error"]:
        column = np.empty(len(rows), dtype=object)
        for index, row in enumerate(rows):  # numpy would make lists of equal lengths an axis
            column[index] = row.get(name)
        columns[name] = column
    return columns
