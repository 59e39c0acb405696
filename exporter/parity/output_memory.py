"""Memory of what paths gave: a second judgment of the same inputs computes nothing again."""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from exporter.conversion.network_io import Arrays
from exporter.parity.cases import Case, ReferenceOutput, ServedPath, ServedStage
from runtime.evidence import Stage

# Outputs beyond this are computed again: maps of labels for every pixel are large.
_MOST_BYTES = 32 << 20

T = TypeVar("T")


class OutputMemory:
    """The outputs of paths and stages by their inputs, up to a number of bytes, until it is closed.

    Inputs are distinguished by identity, and are to live as long as the memory. Failures are not kept.
    """

    def __init__(self) -> None:
        self._outputs: dict[Hashable, Any] = {}
        self._bytes_left = _MOST_BYTES
        self._of_batches: dict[Hashable, Arrays] = {}

    def __enter__(self) -> "OutputMemory":
        return self

    def __exit__(self, *_: object) -> None:
        self._outputs.clear()
        self._of_batches.clear()

    def remember(self, path: ServedPath, *, without: Collection[Stage] = ()) -> ServedPath:
        """Return the path with its outputs, and those of its stages but for ``without``, remembered."""
        name = (path.name, path.device)

        def run(cases: Sequence[Case]) -> Sequence[Arrays]:
            key = (name, *map(id, cases))
            outputs = self._recall(key, lambda: path.run(cases), _size_of_all)
            if len(cases) > 1 and key in self._outputs:
                self._of_batches.update(zip(((name, id(case)) for case in cases), outputs, strict=True))
            return outputs

        stages = {stage: served if stage in without else self._stage(served) for stage, served in path.stages.items()}
        return replace(path, run=run, stages=stages)

    def as_in_batches(self, path: ServedPath) -> ServedPath:
        """Return the path, which gives for a single case what it gave for it in a batch, where that is remembered."""

        def run(cases: Sequence[Case]) -> Sequence[Arrays]:
            known = self._of_batches.get(((path.name, path.device), id(cases[0]))) if len(cases) == 1 else None
            return path.run(cases) if known is None else [known]

        return replace(path, run=run)

    def _stage(self, stage: ServedStage) -> ServedStage:
        def run(reference: ReferenceOutput) -> Arrays:
            return self._recall((stage.id, id(reference)), lambda: stage.run(reference), _size_of)

        return replace(stage, run=run)

    def _recall(self, key: Hashable, compute: Callable[[], T], size_of: Callable[[T], int]) -> T:
        if key in self._outputs:
            known: T = self._outputs[key]
            return known
        outputs = compute()
        size = size_of(outputs)
        if size <= self._bytes_left:
            self._bytes_left -= size
            self._outputs[key] = outputs
        return outputs


def _size_of(arrays: Mapping[str, Any]) -> int:
    return sum(array.nbytes for array in arrays.values())


def _size_of_all(outputs: Sequence[Arrays]) -> int:
    return sum(map(_size_of, outputs))
