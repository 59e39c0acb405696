"""Deferral: which rows of a variant run again in fp32, found on the calibration inputs and measured on the others."""

import statistics
import time
from collections.abc import Collection, Sequence

import msgspec
import numpy as np

from exporter.precision.data import Arrays, PreparedSource
from exporter.precision.scores import compare_scores
from runtime.engine.deferral import DeferralRule
from runtime.inputs.decoder import PreparedInput
from runtime.manifest import LEAST_SPEED, Deferral, Manifest
from runtime.model import Model
from runtime.outputs.registry import open_interpreter

# So many batches show how fast they are.
_BATCHES = 30

# The largest margin of a flip among a hundred inputs is not yet that among all.
_SAFETY_FACTOR = 1.5

# Of so many times the inverse of their number, no more than the share of flips is at 95% where none was seen.
_RULE_OF_THREE = 3.0


class BatchSpeed(msgspec.Struct, frozen=True, kw_only=True):
    """How many times as fast as fp32 a variant is in batches of ``batch``, and with it the ``pair`` of both."""

    batch: int
    own: float
    pair: float


def largest_flipped_margin(full: Sequence[Arrays], own: Sequence[Arrays], manifest: Manifest) -> float:
    """Return the largest margin that a variant has where its label differs from that of fp32.

    It is no smaller than what margins differ by on average: among few inputs, there may be no flip.
    """
    output = manifest.outputs[0].name
    margins_of = open_interpreter(manifest.task).margins
    own_margins, full_margins = (
        np.array([float(margins_of(arrays[output])[0]) for arrays in outputs]) for outputs in (own, full)
    )
    flipped = list(compare_scores(full, own, manifest).flipped)
    return float(max([np.abs(own_margins - full_margins).mean(), *own_margins[flipped]]))


def measure_deferral(
    full: Sequence[Arrays],
    own: Sequence[Arrays],
    manifest: Manifest,
    *,
    largest_margin: float,
    fp32_s: float,
    own_s: float,
) -> tuple[Deferral, float]:
    """Return what deferring comes to on inputs that were not calibrated with, and the seconds of the pair per input.

    ``fp32_s`` and ``own_s`` are the seconds of one input on each network.
    """
    limit = _SAFETY_FACTOR * largest_margin
    deferred = deferred_rows(own, manifest, limit)
    flips = set(compare_scores(full, own, manifest).flipped) - deferred
    pair_s = own_s + fp32_s * len(deferred) / len(own)
    is_worth_it = fp32_s / pair_s >= LEAST_SPEED
    deferral = Deferral(
        limit=limit,
        largest_margin=largest_margin,
        safety_factor=_SAFETY_FACTOR,
        inputs=len(own),
        deferred=len(deferred),
        flips=len(flips),
        risk=min(1.0, _RULE_OF_THREE / len(own)),
        speed=LEAST_SPEED if is_worth_it else 0.0,
    )
    return deferral, pair_s


def deferred_rows(own: Sequence[Arrays], manifest: Manifest, limit: float) -> set[int]:
    """Return the indices of a variant's outputs, each a batch of one, whose margin is under ``limit``."""
    rule = DeferralRule(output=manifest.outputs[0].name, limit=limit, margins=open_interpreter(manifest.task).margins)
    return {index for index, arrays in enumerate(own) if rule.applies(arrays).any()}


def measure_batches(
    full: Model, own: Model, sources: Sequence[PreparedSource], deferred: Collection[int]
) -> BatchSpeed | None:
    """Return how fast a variant is in the batches that a CPU runs, where those with ``deferred`` indices run again.

    The batches run in turns with fp32's. Returns None for kinds of input that run one by one.
    """
    size = min(full.plan.batch, len(sources))
    if size == 1:
        return None
    prepared = [full.prepare(source.source, subject=f"'{source.name}'") for source in sources[: _BATCHES * size]]
    ratios = []
    for start in range(0, len(prepared) - size + 1, size):
        batch = range(start, start + size)
        near = [prepared[index] for index in batch if index in deferred]
        inputs = [prepared[index] for index in batch]
        full_s, own_s = _seconds(full, inputs), _seconds(own, inputs)
        ratios.append((full_s / own_s, full_s / (own_s + (_seconds(full, near) if near else 0.0))))
    own_ratio, pair_ratio = (statistics.median(pair[side] for pair in ratios) for side in (0, 1))
    return BatchSpeed(batch=size, own=own_ratio, pair=pair_ratio)


def _seconds(model: Model, prepared: Sequence[PreparedInput]) -> float:
    start = time.perf_counter()
    model.score(prepared)
    return time.perf_counter() - start
