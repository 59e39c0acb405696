"""Deferral: which rows of a variant run again in fp32, found on the calibration inputs and measured on the others."""

from collections.abc import Sequence

import numpy as np

from exporter.precision.data import Arrays
from exporter.precision.scores import compare_scores
from runtime.engine.deferral import DeferralRule
from runtime.manifest import LEAST_SPEED, Deferral, Manifest
from runtime.outputs.registry import open_interpreter

# The largest margin of a flip among a hundred inputs is not yet that among all.
_SAFETY_FACTOR = 1.5

# Of so many times the inverse of their number, no more than the share of flips is at 95% where none was seen.
_RULE_OF_THREE = 3.0


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
    rule = DeferralRule(output=manifest.outputs[0].name, limit=limit, margins=open_interpreter(manifest.task).margins)
    deferred = {index for index, arrays in enumerate(own) if rule.applies(arrays).any()}
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
