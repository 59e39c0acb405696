"""Token classification: a class for each word of a text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.conversion.network_io import Arrays
from exporter.errors import ExportError
from exporter.options.task import TaskOptions
from exporter.outputs.interpreter import (
    NO_PARTS,
    Decision,
    ReferenceInterpreter,
    compare_decisions,
    margins_of_best,
    to_words,
)
from exporter.outputs.postprocessing import check_logits, main_outputs
from exporter.outputs.probabilities import PROBABILITIES, ClassPostprocessing, are_distributions
from runtime.manifest import Labels, Output, Words
from runtime.outputs.parts import SPANS, TEXTS
from runtime.outputs.words import LabeledWords


class WordsReference(ReferenceInterpreter):
    """Gives eager's probabilities of each token their meaning: the best class of each word's first token."""

    task: Words
    unit = "probability"
    inner_unit = "logits"

    def decide(self, actual: NDArray[Any], expected: NDArray[Any]) -> Decision:
        """Return whether the class of each token is the same."""
        got, best = np.argmax(actual, axis=-1).ravel(), np.argmax(expected, axis=-1).ravel()
        return compare_decisions(
            got == best,
            margins_of_best(np.moveaxis(expected, -1, 1)).ravel(),
            describe=lambda token: (self.labels[int(best[token])], self.labels[int(got[token])]),
        )

    def expected_result(self, outputs: Arrays, parts: Arrays = NO_PARTS) -> Arrays:
        """Return the words, the label of each, and their characters."""
        if not parts:
            raise ExportError("--task words: is for texts: expected a tokenizer, got none. Pass --tokenizer FOLDER.")
        (scores,) = (array[0] for array in outputs.values())
        best = scores.argmax(axis=-1)
        return {
            "words": parts[TEXTS],
            "labels": to_words([self.labels[int(best[token])] for token in parts[SPANS][:, 0]]),
            "spans": parts[SPANS][:, 1:],
        }

    def scores_of(self, result: LabeledWords, outputs: Sequence[Output]) -> Arrays:
        """Return the probabilities of all tokens."""
        return {outputs[0].name: result.scores[np.newaxis]}


@dataclass(frozen=True, kw_only=True)
class WordsPostprocessing(ClassPostprocessing):
    """Probabilities of classes for each token, float32 [batch, length, classes]."""

    task: Words
    interpreter = WordsReference

    @classmethod
    def infer(
        cls, values: Sequence[Any], options: TaskOptions, *, labels_file: str, name: str
    ) -> "WordsPostprocessing":
        """Return a softmax for logits [batch, length, classes], and nothing for probabilities."""
        del options
        expected, kind = "[batch, length, classes]", "fit for --task words"
        logits = main_outputs(values, dimensions=(3,), expected=expected, kind=kind, name=name)
        check_logits([tensor.transpose(1, 2) for tensor in logits], name, exclusive=True)
        count = int(logits[0].shape[-1])
        return cls(
            task=Words(labels=Labels(file=labels_file, count=count)),
            activation="none" if all(are_distributions(tensor, dimension=-1) for tensor in logits) else "softmax",
            outputs=(Output(name=PROBABILITIES, dtype="float32", shape=("batch", "length", count)),),
        )

    @classmethod
    def options_of(cls, task: Words, value: Any) -> TaskOptions:
        """Return the task."""
        del task, value
        return TaskOptions(task="words")

    def with_shapes(self, shapes: Mapping[str, Sequence[int | str]]) -> tuple[Output, ...]:
        """Return the output with the length that the network gives."""
        (output,), (inner,) = self.outputs, self.inner_names
        return (Output(name=output.name, dtype=output.dtype, shape=tuple(shapes[inner])),)
