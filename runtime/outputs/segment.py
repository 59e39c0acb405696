"""Segmentation: a class for every pixel."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.manifest import Segment
from runtime.outputs.interpreter import Interpreter, words_to_array
from runtime.outputs.shown import ShownResult

if TYPE_CHECKING:
    from runtime.outputs.metrics import Evaluation, Maps, Scores


class Segmentation(ShownResult, frozen=True, kw_only=True):
    """The result of ``segment``: ``label_map`` is int64 [height, width], class indices at the network's resolution.

    ``shares`` are the classes in the map, by label, with their share of its pixels, in falling order.
    """

    input: str
    label_map: NDArray[np.int64]
    shares: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the row, the map as nested lists."""
        return {"input": self.input, "shares": dict(self.shares), "label_map": self.label_map.tolist()}

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the map, and the labels in it, sorted, as arrays."""
        return {"label map": np.asarray(self.label_map), "labels": words_to_array(sorted(self.shares))}

    def __str__(self) -> str:
        return f"{self.input}: " + ", ".join(f"{label} {share:.1%}" for label, share in self.shares.items())


class SegmentInterpreter(Interpreter):
    """Gives probabilities, float32 [classes, height, width], their meaning: a Segmentation."""

    task: Segment
    result_type = Segmentation
    gives_maps = True
    is_evaluated = True

    def interpret(self, scores: Any, *, name: str, top_k: int, threshold: float | None) -> Segmentation:
        """Return the map of the likeliest classes."""
        del top_k, threshold
        label_map = np.argmax(scores, axis=0)
        indices, counts = np.unique(label_map, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return Segmentation(
            input=name,
            label_map=label_map,
            shares={self.labels[indices[row]]: float(counts[row] / label_map.size) for row in order},
        )

    def draw(self, result: Segmentation) -> NDArray[np.uint8]:
        """Return the map in the colors of its classes."""
        picture: NDArray[np.uint8] = np.array(self.task.colors, dtype=np.uint8)[result.label_map]
        return picture

    def read_truth(self, cells: Mapping[str, Any], *, name: str, folder: Path) -> Path:
        """Return the path of the true map that the only cell names."""
        del name
        return folder / str(*cells.values())

    def evaluate(self, scored: "Scores | Maps", *, name: str) -> "Evaluation":
        """Return pixel accuracy, the overlap of each class (IoU) and its mean, and the confusion matrix of pixels."""
        from runtime.outputs.metrics import Evaluation, Maps, class_figures

        assert isinstance(scored, Maps)
        confusion = scored.confusion
        true, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
        hits = confusion.diagonal()
        union = true + predicted - hits
        overlaps = [float(hits[row] / union[row]) if union[row] else None for row in range(len(confusion))]
        known = [overlap for overlap in overlaps if overlap is not None]
        return Evaluation(
            artifact=name,
            task=self.task.kind,
            inputs=len(scored.names),
            failures=dict(scored.failures),
            accuracy=float(hits.sum() / true.sum()) if true.sum() else None,
            mean_iou=float(np.mean(known)) if known else None,
            classes=tuple(
                msgspec.structs.replace(class_figures(label, hits[row], predicted[row], true[row]), iou=overlaps[row])
                for row, label in enumerate(self.labels)
            ),
            confusion=tuple(tuple(map(int, row)) for row in confusion),
        )
