"""Results of predictions, one type per task, and failures."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeAlias, get_args

import msgspec
from numpy.typing import NDArray

from runtime.engine.arguments import check_is_number, check_number
from runtime.errors import InputError
from runtime.manifest import DEFERRING, FULL_PRECISION, Task
from runtime.outputs.classify import Prediction
from runtime.outputs.heads import HeadResults
from runtime.outputs.interpreter import ScoredLabel, words_to_array
from runtime.outputs.multilabel import LabelSet
from runtime.outputs.precision import precision_of
from runtime.outputs.raw import Outputs
from runtime.outputs.registry import open_interpreter
from runtime.outputs.regress import Estimate
from runtime.outputs.segment import Segmentation
from runtime.outputs.shown import ShownResult
from runtime.outputs.tokens import TokenSequence, until_end
from runtime.outputs.words import LabeledWord, LabeledWords

__all__ = [
    "Answer",
    "Estimate",
    "Failure",
    "HeadResults",
    "InputScores",
    "LabelSet",
    "LabeledWord",
    "LabeledWords",
    "Outputs",
    "Prediction",
    "Result",
    "ScoredLabel",
    "Segmentation",
    "TokenSequence",
    "interpret",
    "non_finite_message",
    "split",
    "until_end",
]

Answer: TypeAlias = (
    Prediction | LabelSet | Estimate | Segmentation | TokenSequence | LabeledWords | HeadResults | Outputs
)

# What only results of a prediction have.
_FIELDS = frozenset(field for result in get_args(Answer) for field in result.__struct_fields__) - {"input"}


class Failure(ShownResult, frozen=True, kw_only=True):
    """The result for an input that cannot be used; the others are not affected.

    Reading a prediction from it raises InputError with its reason, so that it cannot be taken for one.
    """

    input: str
    error: str

    def to_dict(self) -> dict[str, Any]:
        """Return the row: ``input`` and ``error``."""
        return {"input": self.input, "error": self.error}

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the reason as an array."""
        return {"error": words_to_array([self.error])}

    def __str__(self) -> str:
        return f"{self.input}: failed: {self.error}"

    def __getattr__(self, name: str) -> NoReturn:
        """Raise InputError for the fields of predictions: there is none."""
        if name in _FIELDS:
            raise InputError(self.error)
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")


Result: TypeAlias = Answer | Failure

# The outputs for one input: an array such as float32 [classes], or for raw tasks all outputs by name.
InputScores: TypeAlias = "NDArray[Any] | Mapping[str, NDArray[Any]]"


def split(task: Task, outputs: Mapping[str, NDArray[Any]], *, batched: frozenset[str], count: int) -> Sequence[Any]:
    """Return a graph's outputs for a batch of ``count`` inputs as one entry per input, which ``interpret`` takes.

    ``batched`` are the outputs with a batch dimension; raw tasks share the others between all inputs.
    """
    return open_interpreter(task).split(outputs, batched=batched, count=count)


def interpret(
    task: Task, scores: Any, labels: Sequence[str], *, name: str, top_k: int, threshold: float | None
) -> Result:
    """Return what one entry of ``split`` means for the input ``name``.

    ``threshold`` replaces the manifest's own unless it is None; ``top_k`` bounds the classes that are listed. NaN and
    infinity are no probabilities and no values: an input that comes to them has a Failure.
    """
    interpreter = open_interpreter(task, labels)
    if interpreter.must_be_finite and not interpreter.is_finite(scores):
        return Failure(input=name, error=non_finite_message(name))
    result: Result = interpreter.interpret(scores, name=name, top_k=top_k, threshold=threshold)
    precision = precision_of(scores)
    return msgspec.structs.replace(result, precision=precision) if precision else result


def non_finite_message(name: str) -> str:
    """Return the error of an input whose scores are not finite."""
    return (
        f"'{name}': no result: expected finite scores, got NaN or infinity. The input lies outside what the model, or "
        "the transform before it, was made for, such as a logarithm of a negative number: correct it."
    )


def check_options(top_k: int, threshold: float | None, precision: str = FULL_PRECISION) -> None:
    """Raise InputError unless ``top_k`` is at least 1, and ``threshold`` a probability or None.

    A pair of precisions has no other thresholds than those it was measured with.
    """
    check_number("top_k", top_k)
    if threshold is not None:
        check_is_number("threshold", threshold)
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise InputError(f"threshold: expected a probability from 0 to 1, got {threshold}. Use one in that range.")
    if threshold is not None and precision.endswith(DEFERRING):
        raise InputError(
            f"threshold: expected none with precision '{precision}', got {threshold}: which rows run again was "
            f"measured with the artifact's own. Leave it out, or use precision {FULL_PRECISION}."
        )
