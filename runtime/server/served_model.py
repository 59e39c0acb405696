"""An artifact as the server holds it: verified on this device, warmed, with a session for each thread plan."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from runtime.artifact.golden import read_golden
from runtime.artifact.open import Artifact, open_artifact
from runtime.engine.concurrency import BATCH_SIZES
from runtime.manifest import Manifest
from runtime.model import Model
from runtime.server.payloads import kind_of
from runtime.verify import check_answers

Batching = Literal["auto", "on", "off"]

# Of one request, inputs of a kind that costs next to nothing to decode.
_ROWS = 32

# A session's time is the median of its latest runs: one that was disturbed does not count. Every so often a lone input
# goes to the slower session, to see whether it still is.
_LATEST = 5
_TRY_OTHER_EVERY = 20

# Of lone runs, the share that others may join before all of them stay on one core each; and how much the latest counts.
# Measured on two cores: all cores save a lone input a fifth of the network's time; at half of the peak rate, p99 is a
# fifth lower without them.
_MOST_JOINED = 0.25
_LATEST_JOINED = 0.05


class SessionChooser:
    """Which session serves an input that has the house to itself: the one that was faster, as measured.

    That is the one on all cores, unless others use the cores: a run that is spread over cores waits for the slowest. So
    where the next request often comes before a lone one's answer, each has a core of its own. Shared by the workers.
    """

    def __init__(self, narrow: Model, wide: Model) -> None:
        self._models = (wide, narrow)
        self._lock = Lock()
        self._seconds: tuple[deque[float], deque[float]] = (deque(maxlen=_LATEST), deque(maxlen=_LATEST))
        self._chosen = 0
        self._joined = 0.0

    def choose(self) -> Model:
        """Return the session for the next lone input."""
        wide, narrow = self._models
        if wide is narrow:
            return wide
        with self._lock:
            if self._joined > _MOST_JOINED:
                return narrow
            self._chosen += 1
            counts = [len(seconds) for seconds in self._seconds]
            if min(counts) < _LATEST:
                return self._models[counts.index(min(counts))]
            slow, fast = (narrow, wide) if median(self._seconds[0]) <= median(self._seconds[1]) else (wide, narrow)
            return slow if self._chosen % _TRY_OTHER_EVERY == 0 else fast

    def note(self, model: Model, seconds: float, *, joined: bool) -> None:
        """Take in how long an input took that was alone when it began, and whether it still was when it ended."""
        with self._lock:
            self._joined += _LATEST_JOINED * (joined - self._joined)
            if not joined:
                self._seconds[self._models.index(model)].append(seconds)


@dataclass(kw_only=True)
class ServedModel:
    """One artifact, ready to serve.

    ``narrow`` runs on the thread that calls it, ``wide`` on all cores; on an accelerator they are the same.
    ``batched`` has the model for a run of so many requests, by their number, smallest first; it is empty where requests
    run one by one. ``rows_per_job`` is how many inputs of one request share a run: more than one only for kinds whose
    decoding costs next to nothing.
    """

    name: str
    path: Path
    narrow: Model
    wide: Model
    batched: Mapping[int, Model] = field(default_factory=dict)
    rows_per_job: int = 1
    lone: SessionChooser = field(init=False)

    def __post_init__(self) -> None:
        self.lone = SessionChooser(self.narrow, self.wide)

    @property
    def manifest(self) -> Manifest:
        """What the artifact says of itself."""
        return self.narrow.manifest


def load_verified(
    path: Path, *, name: str, device: str, cores: int, max_pixels: int, batching: Batching = "auto"
) -> ServedModel:
    """Return the artifact in folder ``path``, every session of it checked with the golden inputs on this device.

    Batches are run on an accelerator, or anywhere with ``batching='on'``, and only if they give what single runs give.
    Raises ArtifactError when a file is damaged or an answer is off, DeviceError when the device cannot run it.
    """
    artifact = open_artifact(path)
    narrow = Model(artifact, device=device, threads=1, max_pixels=max_pixels)
    wide = narrow
    if narrow.device == "cpu" and cores > 1:
        wide = Model(artifact, device=narrow.device, threads=cores, workers=1, max_pixels=max_pixels)
    for model in {id(narrow): narrow, id(wide): wide}.values():
        check_answers(artifact, model)
    loaded = ServedModel(name=name or artifact.manifest.name, path=path, narrow=narrow, wide=wide)
    if batching == "on" or (batching == "auto" and narrow.device != "cpu"):
        models = dict.fromkeys(BATCH_SIZES, narrow)
        if narrow.fills_batches:
            for size in BATCH_SIZES[1:]:
                models[size] = Model(artifact, device=narrow.device, threads=1, batch=size, max_pixels=max_pixels)
        loaded.batched = models if _agree_together(artifact, models) else {}
    if kind_of(artifact.manifest) != "image" and batching != "off" and not loaded.batched:
        loaded.rows_per_job = _ROWS if _agree_together(artifact, {1: narrow, _ROWS: narrow}) else 1
    return loaded


def _agree_together(artifact: Artifact, models: Mapping[int, Model]) -> bool:
    """Return whether golden inputs score together, as many as each model is for, as they do alone."""
    golden = artifact.manifest.golden
    cases = read_golden(artifact.file(golden.file)).cases
    shapes = {name: array.shape for name, array in cases[0].prepared.items()}
    alike = [case for case in cases if {name: array.shape for name, array in case.prepared.items()} == shapes]
    alone = [models[1].run(case.prepared) for case in alike]
    batched = {output.name for output in artifact.manifest.outputs if output.batched}
    for size, model in models.items():
        rows = [row % len(alike) for row in range(size)]
        together = model.run({name: np.concatenate([alike[row].prepared[name] for row in rows]) for name in shapes})
        for name in batched:
            if not _agree(together[name], [alone[row][name] for row in rows], golden.output_limits[name]):
                return False
    return True


def _agree(together: NDArray[Any], alone: list[NDArray[Any]], limit: float) -> bool:
    expected = np.concatenate(alone)
    if together.shape != expected.shape:
        return False
    if together.dtype.kind not in "fiub":
        return np.array_equal(together, expected)
    difference = np.abs(together.astype(np.float64) - expected.astype(np.float64))
    # A NaN compares false with any limit, and so fails.
    return not difference.size or bool(difference.max() <= limit)
