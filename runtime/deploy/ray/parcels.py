"""Task and actors of a Ray job: inputs are listed in parcels, and parcels become results."""

import contextlib
import os
import pickle
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pyarrow
import ray
from ray.data import ActorPoolStrategy, DataContext, Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from runtime.deploy.ray.predictor import Predictor
from runtime.engine.concurrency import batches
from runtime.inputs.registry import source_format_of
from runtime.jobs.sources import read_sources
from runtime.manifest import Manifest
from runtime.results import Result

# How often Ray restarts an actor, and repeats a parcel, before the driver gets an error.
_ACTOR_RESTARTS = 3
_PARCEL_RETRIES = 3


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs of a job: those that ``arguments`` name, relative to ``folder``, without the first ``skipped``.

    A parcel has ``size`` of them. ``stdin`` is a file with the driver's standard input.
    """

    arguments: tuple[str, ...]
    manifest: Manifest
    column: str | None
    stdin: Path | None
    folder: str
    skipped: int
    size: int

    def parcels(self) -> Iterator[bytes]:
        """Yield the parcels as pickled lists of inputs; the same ones every time, as Ray may repeat the task."""
        os.chdir(self.folder)
        with contextlib.ExitStack() as stack:
            stdin = None if self.stdin is None else stack.enter_context(self.stdin.open("rb"))
            named = read_sources(
                self.arguments, source_format_of(self.manifest.inputs), column=self.column, stdin=stdin
            )
            for parcel in batches(islice(named, self.skipped, None), self.size):
                yield pickle.dumps(parcel)


class ParcelPredictor(Predictor):
    """The predictor of a job: a parcel of inputs in, a parcel of results out."""

    def __init__(self, *, folder: str, **options: Any) -> None:
        super().__init__(**options)
        with contextlib.suppress(OSError):  # relative paths are relative to the driver's folder, if it exists here
            os.chdir(folder)

    def __call__(self, batch: Any) -> dict[str, Any]:
        """Return the results of each parcel; raises ArtifactError if the artifact changed while it was in use."""
        parcels = [pickle.dumps(self.predict_named(pickle.loads(parcel))) for parcel in batch["parcel"].to_pylist()]  # noqa: S301
        self.model.check_unchanged()
        return {"parcel": parcels}


class Parcels(Datasource):
    """A listing as a Ray Data source: one task, one block per parcel."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    def get_name(self) -> str:
        """Return its name in Ray."""
        return "Parcels"

    def estimate_inmemory_data_size(self) -> int | None:
        """Return None: the size is only known after listing the inputs."""
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        """Return the one task that lists the inputs."""
        del parallelism
        listing = self._listing

        def read() -> Iterable[pyarrow.Table]:
            for parcel in listing.parcels():
                yield pyarrow.table({"parcel": pyarrow.array([parcel], pyarrow.large_binary())})

        metadata = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None)
        return [ReadTask(read, metadata)]


def predict_parcels(
    listing: Listing, options: dict[str, Any], *, actors: int, actor_cores: int, actor_gpus: int
) -> Iterator[list[Result]]:
    """Yield the results of a listing's inputs, parcel by parcel, in order, from ``actors`` that have ``options``."""
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    # A block of its own for every parcel: Ray would combine small ones for one actor.
    context.target_max_block_size = 1
    here = NodeAffinitySchedulingStrategy(node_id=ray.get_runtime_context().get_node_id(), soft=False)
    with warnings.catch_warnings():
        # There is no other way so far to set the node that reads a source, and the number of retries.
        warnings.filterwarnings("ignore", message=".*ray_remote_args.* is deprecated")
        inputs = ray.data.read_datasource(
            Parcels(listing), override_num_blocks=1, num_cpus=0, ray_remote_args={"scheduling_strategy": here}
        )
        results = inputs.map_batches(
            ParcelPredictor,
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=actors),
            fn_constructor_kwargs={"folder": listing.folder, **options},
            num_cpus=actor_cores,
            num_gpus=actor_gpus,
            max_restarts=_ACTOR_RESTARTS,
            max_task_retries=_PARCEL_RETRIES,
        )
    for block in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        for parcel in block["parcel"].to_pylist():
            yield pickle.loads(parcel)  # noqa: S301 - of our own actors
