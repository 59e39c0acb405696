"""Served models: verified artifacts with warmed-up sessions."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from threading import Lock
from typing import Generic, TypeVar

import numpy as np

from runtime.artifact.difference import largest_difference
from runtime.artifact.golden import read_golden
from runtime.artifact.open import Artifact, open_artifact
from runtime.artifact.variants import warn_if_slow
from runtime.engine.concurrency import BATCH_SIZES
from runtime.inputs.payload import Payload
from runtime.inputs.registry import is_costly_to_decode, open_payload
from runtime.manifest import FULL_PRECISION, Manifest
from runtime.model import Model
from runtime.server.folder_watch import FolderWatch
from runtime.server.options import Batching
from runtime.verify import check_answers, run_golden

Session = TypeVar("Session")

# The inputs of one request that share a job, where decoding an input costs next to nothing.
_INPUTS_PER_JOB = 32

# A session's time is the median of its latest runs, so that one disturbed run does not count. Every so often a single
# input goes to the slower session, to find out whether it still is slower.
_LATEST_RUNS = 5
_TRY_SLOWER_EVERY = 20

# The share of multi-threaded runs that other jobs may overlap before every job stays on one core; and the weight of the
# latest run in that share. Measured on two cores: all cores save a single input a fifth of the network's time; at half
# of the peak rate, p99 is a fifth lower without them.
_MOST_OVERLAPPED = 0.25
_LATEST_OVERLAPPED = 0.05


class SessionChooser(Generic[Session]):
    """Chooses the session for an input with no concurrent job: the faster one, as measured.

    That is the multi-threaded session, unless other jobs use the cores: a run that is spread over cores waits for the
    slowest. So where the next request often arrives during such a run, every job gets one core. Worker threads share
    one chooser. A session is any object that stands for one.
    """

    def __init__(self, single_threaded: Session, multi_threaded: Session) -> None:
        self._sessions = (multi_threaded, single_threaded)
        self._lock = Lock()
        self._seconds: tuple[deque[float], deque[float]] = (deque(maxlen=_LATEST_RUNS), deque(maxlen=_LATEST_RUNS))
        self._choices = 0
        self._overlapped = 0.0

    def choose(self) -> Session:
        """Return the session for the next input that has no concurrent job."""
        multi_threaded, single_threaded = self._sessions
        if multi_threaded is single_threaded:
            return single_threaded
        with self._lock:
            if self._overlapped > _MOST_OVERLAPPED:
                return single_threaded
            self._choices += 1
            counts = [len(seconds) for seconds in self._seconds]
            if min(counts) < _LATEST_RUNS:
                return self._sessions[counts.index(min(counts))]
            multi_s, single_s = map(median, self._seconds)
            slower, faster = (
                (single_threaded, multi_threaded) if multi_s <= single_s else (multi_threaded, single_threaded)
            )
            return slower if self._choices % _TRY_SLOWER_EVERY == 0 else faster

    def record(self, session: Session, seconds: float, *, overlapped: bool) -> None:
        """Record the time of an input that had no concurrent job at its start, and whether one arrived meanwhile."""
        with self._lock:
            self._overlapped += _LATEST_OVERLAPPED * (overlapped - self._overlapped)
            if not overlapped:
                self._seconds[self._sessions.index(session)].append(seconds)


@dataclass(kw_only=True)
class ServedModel:
    """One artifact, ready to serve.

    ``single_threaded`` runs on the thread that calls it, ``multi_threaded`` on all cores; on an accelerator they are
    the same. ``batch_models`` has the model for batches of up to so many inputs, by that number, smallest first; it is
    empty where inputs run one by one. ``inputs_per_job`` is how many inputs of one request share a run: more than one
    only for kinds whose decoding costs next to nothing. ``watch`` tells when the folder holds another artifact.
    """

    name: str
    path: Path
    watch: FolderWatch
    single_threaded: Model
    multi_threaded: Model
    batch_models: Mapping[int, Model] = field(default_factory=dict)
    inputs_per_job: int = 1
    session_chooser: SessionChooser[Model] = field(init=False)

    def __post_init__(self) -> None:
        self.session_chooser = SessionChooser(self.single_threaded, self.multi_threaded)

    @property
    def manifest(self) -> Manifest:
        """The artifact's manifest."""
        return self.single_threaded.manifest

    @cached_property
    def payload(self) -> Payload:
        """The wire format of the model's inputs."""
        return open_payload(self.manifest.inputs)


def load_verified(  # noqa: PLR0913 - the options of a server
    path: Path,
    *,
    name: str,
    precision: str = FULL_PRECISION,
    device: str,
    cores: int,
    max_pixels: int,
    batching: Batching = "auto",
) -> ServedModel:
    """Return the artifact in folder ``path``, every session of it checked with the golden inputs on this device.

    Inputs run in batches on an accelerator, or on any device with ``batching='on'``, if batches give the scores of
    single runs. Raises ArtifactError when a file is damaged or a score deviates, DeviceError when the device cannot run
    the artifact.
    """
    watch = FolderWatch(path)
    artifact = open_artifact(path)
    open_model = partial(Model, artifact, precision=precision, max_pixels=max_pixels)
    single = open_model(device=device, threads=1)
    multi = single
    if single.device == "cpu" and cores > 1:
        multi = open_model(device=single.device, threads=cores, workers=1)
    for model in {id(single): single, id(multi): multi}.values():
        check_answers(artifact, model)
    warn_if_slow(artifact, single.variant)
    served = ServedModel(
        name=name or artifact.manifest.name, path=path, watch=watch, single_threaded=single, multi_threaded=multi
    )
    if batching == "on" or (batching == "auto" and single.device != "cpu"):
        models = dict.fromkeys(BATCH_SIZES, single)
        if single.fills_batches:
            for size in BATCH_SIZES[1:]:
                models[size] = open_model(device=single.device, threads=1, batch=size)
        served.batch_models = models if _batches_agree(artifact, models) else {}
    if not is_costly_to_decode(artifact.manifest.inputs) and batching != "off" and not served.batch_models:
        agree = _batches_agree(artifact, {1: single, _INPUTS_PER_JOB: single})
        served.inputs_per_job = _INPUTS_PER_JOB if agree else 1
    return served


def _batches_agree(artifact: Artifact, models: Mapping[int, Model]) -> bool:
    """Return whether golden inputs in batches of each model's size have the scores of single runs."""
    if max(models) > (artifact.manifest.largest_batch or max(models)):
        return False
    golden = artifact.manifest.golden
    cases = read_golden(artifact.file(golden.file)).cases
    shapes = {name: array.shape for name, array in cases[0].prepared.items()}
    same_shape = [case for case in cases if {name: array.shape for name, array in case.prepared.items()} == shapes]
    approximation = models[1].variant.approximation
    limits = (golden if approximation is None else approximation.golden).output_limits
    single_runs = [run_golden(artifact, models[1], case.prepared) for case in same_shape]
    for size, model in models.items():
        indices = [index % len(same_shape) for index in range(size)]
        batch = {name: np.concatenate([same_shape[index].prepared[name] for index in indices]) for name in shapes}
        batch_run = run_golden(artifact, model, batch)
        for name in artifact.manifest.batched_outputs:
            expected = np.concatenate([single_runs[index][name] for index in indices])
            if largest_difference(batch_run[name], expected) > limits[name]:
                return False
    return True
