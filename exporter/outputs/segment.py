"""Segmentation: a class for every pixel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

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
from exporter.outputs.postprocessing import Activation, check_logits, main_outputs
from exporter.outputs.probabilities import (
    PROBABILITIES,
    ClassPostprocessing,
    are_distributions,
    are_probabilities,
    sorted_labels,
)
from runtime.manifest import Labels, Output, Segment
from runtime.outputs.metrics import Maps
from runtime.outputs.segment import Segmentation


class SegmentReference(ReferenceInterpreter):
    """Gives eager's probabilities their meaning: the best class of each pixel."""

    task: Segment
    unit = "probability"
    inner_unit = "logits"

    def decide(self, actual: NDArray[Any], expected: NDArray[Any]) -> Decision:
        """Return whether the class of each pixel is the same; ``actual`` may be scores, or a map already."""
        got = actual if actual.ndim == expected.ndim - 1 else np.argmax(actual, axis=1)
        best = np.argmax(expected, axis=1)
        return compare_decisions(
            (got == best).ravel(),
            margins_of_best(expected).ravel(),
            describe=lambda pixel: (self.labels[int(best.ravel()[pixel])], self.labels[int(got.ravel()[pixel])]),
        )

    def is_label_map(self, actual: NDArray[Any], expected: NDArray[Any]) -> bool:
        """Return whether ``actual`` is a map [1, height, width] of the size of the scores ``expected``."""
        return actual.shape == (expected.shape[0], *expected.shape[2:])

    def expected_result(self, outputs: Arrays, parts: Arrays = NO_PARTS) -> Arrays:
        """Return the map, and the labels in it, sorted."""
        del parts
        (scores,) = (array[0] for array in outputs.values())
        label_map = np.argmax(scores, axis=0)
        return {"label map": label_map, "labels": to_words(sorted_labels(self.labels, list(np.unique(label_map))))}

    def scores_of(self, result: Segmentation, outputs: Sequence[Output]) -> Arrays:
        """Return the map: it alone is left of the probabilities, and is what is compared."""
        return {outputs[0].name: result.label_map[np.newaxis]}

    def differences(self, scored: Maps, eager: Maps) -> dict[str, float | int]:
        """Return how many pixels have another class."""
        pairs = zip(scored.maps, eager.maps, strict=True)
        return {"pixels with another label": sum(int((got != expected).sum()) for got, expected in pairs)}


@dataclass(frozen=True, kw_only=True)
class SegmentPostprocessing(ClassPostprocessing):
    """Probabilities of classes for each pixel, float32 [batch, classes, height, width]."""

    task: Segment
    interpreter = SegmentReference
    dimension = 1

    @classmethod
    def infer(
        cls, values: Sequence[Any], options: TaskOptions, *, labels_file: str, name: str
    ) -> "SegmentPostprocessing":
        """Return a softmax for logits [batch, classes, height, width], and nothing for probabilities.

        One channel is the logit, or the probability, of the second of two classes.
        """
        logits = main_outputs(
            values,
            dimensions=(4,),
            expected="[batch, classes, height, width]",
            kind="fit for --task segment",
            name=name,
        )
        channels = int(logits[0].shape[1])
        check_logits(logits, name, exclusive=channels > 1)
        count = max(2, channels)
        colors = options.colors or tuple(palette(count))
        if len(colors) != count:
            raise ExportError(f"colors: expected {count}, one per class, got {len(colors)}. Correct --colors.")
        output = Output(name=PROBABILITIES, dtype="float32", shape=("batch", count, "height", "width"))
        return cls(
            task=Segment(labels=Labels(file=labels_file, count=count), colors=colors),
            activation=_activation(logits),
            outputs=(output,),
        )

    @classmethod
    def options_of(cls, task: Segment, value: Any) -> TaskOptions:
        """Return the task with its colors."""
        del value
        return TaskOptions(task="segment", colors=task.colors)

    def with_shapes(self, shapes: Mapping[str, Sequence[int | str]]) -> tuple[Output, ...]:
        """Return the output with the map's height and width."""
        (output,), (inner,) = self.outputs, self.inner_names
        batch, _, *size = shapes[inner]
        return (Output(name=output.name, dtype=output.dtype, shape=(batch, self.task.labels.count, *size)),)


def _activation(logits: Sequence[Tensor]) -> Activation:
    """Return what gives the probabilities of all classes."""
    if logits[0].shape[1] == 1:
        return "complement" if all(map(are_probabilities, logits)) else "binary"
    return "none" if all(are_distributions(tensor, dimension=1) for tensor in logits) else "softmax"


def palette(count: int) -> list[tuple[int, int, int]]:
    """Return colors that differ for ``count`` classes, black first: the map of the Pascal VOC development kit."""
    colors = []
    for index in range(count):
        channels = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                channels[channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
        colors.append((channels[0], channels[1], channels[2]))
    return colors
