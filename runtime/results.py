"""Scores to labels: what a prediction looks like, in Python and as a row."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError

UNKNOWN = "unknown"


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """One class with its probability."""

    label: str
    index: int
    probability: float


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for one input: the best class, and the ``top`` classes in falling order.

    Under the threshold, ``label`` is ``"unknown"`` and ``index`` -1; ``probability`` stays that of the best class.
    """

    input: str
    label: str
    index: int
    probability: float
    top: tuple[Scored, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the row: plain dictionaries, lists, strings and numbers."""
        row: dict[str, Any] = msgspec.to_builtins(self)
        return {**row, "top": list(row["top"])}

    def __str__(self) -> str:
        return f"{self.input}: {self.label} ({self.probability:.1%})"


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for an input that has none; the others are not affected.

    Reading a prediction from it raises InputError with its reason, so that it cannot be taken for one.
    """

    input: str
    error: str

    def to_dict(self) -> dict[str, Any]:
        """Return the row: ``input`` and ``error``."""
        return {"input": self.input, "error": self.error}

    def __str__(self) -> str:
        return f"{self.input}: failed: {self.error}"

    @property
    def label(self) -> str:
        """Raise InputError: there is no prediction."""
        raise InputError(self.error)

    index = probability = top = label


Result: TypeAlias = Prediction | Failure


def classify(
    probabilities: NDArray[np.float32], labels: Sequence[str], *, name: str, top_k: int, threshold: float
) -> Prediction:
    """Return the prediction for one row of probabilities, float32 [classes].

    At most ``top_k`` classes are listed; a best probability below ``threshold`` makes the label ``"unknown"``.
    """
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    top = tuple(
        Scored(label=labels[index], index=int(index), probability=float(probabilities[index])) for index in order
    )
    best = top[0]
    known = best.probability >= threshold
    return Prediction(
        input=name,
        label=best.label if known else UNKNOWN,
        index=best.index if known else -1,
        probability=best.probability,
        top=top,
    )
