"""Scores that say which precision of a network computed them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.manifest import FULL_PRECISION


class PreciseScores(np.ndarray[Any, Any]):
    """The scores of one input, an array like others, with the ``precision`` of the network that computed them.

    What is computed from it has none.
    """

    precision: str = ""


def with_precisions(entries: Sequence[Any], precision: str, in_full: NDArray[np.bool_] | None) -> Sequence[Any]:
    """Return the scores of several inputs with their precision: ``precision``, or fp32 where ``in_full``.

    Those of fp32 alone stay as they are.
    """
    if precision == FULL_PRECISION:
        return entries
    precise = []
    in_full = np.zeros(len(entries), dtype=bool) if in_full is None else in_full
    for entry, is_full in zip(entries, in_full, strict=True):
        scores = entry.view(PreciseScores)
        scores.precision = FULL_PRECISION if is_full else precision
        precise.append(scores)
    return precise


def precision_of(scores: Any) -> str:
    """Return the precision that scores were computed in; empty where that is the model's own, fp32."""
    return scores.precision if isinstance(scores, PreciseScores) else ""
