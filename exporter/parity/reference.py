"""Reference outputs of the eager PyTorch model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from exporter.conversion.network_io import call, take_apart
from exporter.errors import ConversionError, ExportError, PreprocessingError
from exporter.outputs.postprocessing import Postprocessing
from exporter.parity.cases import SAMPLES, Case, PreparedInput, ReferenceOutput
from exporter.parity.randomness import State, describe_hidden
from exporter.progress import Advance, Count


@dataclass(frozen=True, kw_only=True)
class ReferenceRun:
    """The cases that the eager network ran on: each one prepared, and the value that its forward returned.

    ``dropped`` has a sentence on our own cases that the network does not take, where there are some.
    """

    cases: tuple[Case, ...]
    prepared: tuple[PreparedInput, ...]
    values: tuple[Any, ...]
    dropped: tuple[str, ...] = ()

    def outputs(self, postprocessing: Postprocessing) -> tuple[ReferenceOutput, ...]:
        """Return the reference for each case: the network's own outputs, and those after the postprocessing."""
        return tuple(
            ReferenceOutput(
                case=case,
                prepared=prepared,
                inner=postprocessing.expect_inner(value),
                outputs=postprocessing.expect(value),
            )
            for case, prepared, value in zip(self.cases, self.prepared, self.values, strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class BatchForm:
    """What the eager network does with several inputs at once.

    ``axes`` says which dimension of its outputs is the batch, by the path to a tensor, where it is not the first;
    ``obstacle`` why it takes one input at a time, empty where it takes several.
    """

    axes: Mapping[str, int] = field(default_factory=dict)
    obstacle: str = ""


class Reference:
    """A freshly built eager network behind the user's own preprocessing; nothing of the export has touched either."""

    def __init__(self, network: nn.Module, prepare: Callable[[Case], PreparedInput]) -> None:
        self._network = network
        self._prepare = prepare
        self._state = State(network)

    @property
    def network(self) -> nn.Module:
        """The untouched network."""
        return self._network

    def run(self, cases: Sequence[Case], *, advance: Advance | None = None) -> ReferenceRun:
        """Return the eager network's values for cases.

        One case at a time: the reference does not depend on what else is in the batch. A network may be for inputs of
        one kind: those of our own that it, or its transform, does not take are dropped. Raises ConversionError where
        the forward fails on one of the user's samples, or on all cases, and PreprocessingError where the transform
        does. ``advance`` hears how many are done.
        """
        count = Count(advance, len(cases))
        taken: list[tuple[Case, PreparedInput, Any]] = []
        refusals: dict[str, ExportError] = {}
        for case in cases:
            count.next()
            try:
                prepared = self._prepare(case)
                taken.append((case, prepared, call(self._network, prepared.tensors)))
            except (ConversionError, PreprocessingError) as error:
                if case.group == SAMPLES:
                    raise
                refusals[case.name] = error
        if not taken:
            raise next(iter(refusals.values()))
        kept, inputs, values = zip(*taken, strict=True)
        return ReferenceRun(cases=kept, prepared=inputs, values=values, dropped=_describe(refusals, len(cases)))

    def describe_hidden(self, run: ReferenceRun) -> str:
        """Return in words what else than its inputs the network's outputs may depend on, and what to do; else empty."""
        return describe_hidden(self._network, self._state, run.prepared[0].tensors)

    def batch_form(self, run: ReferenceRun) -> BatchForm:
        """Return what the network does with an input twice, beside what it did with it once."""
        tensors = {name: torch.cat([tensor, tensor]) for name, tensor in run.prepared[0].tensors.items()}
        try:
            twice = take_apart(call(self._network, tensors))[1]
        except ConversionError as error:
            return BatchForm(obstacle=str(error))
        once = take_apart(run.values[0])[1]
        axes = {name: _batch_axis(tensor, twice[name]) for name, tensor in once.items() if name in twice}
        if all(axis is None for axis in axes.values()):
            shapes = ", ".join(f"'{name}' {list(tensor.shape)}" for name, tensor in twice.items())
            return BatchForm(obstacle=f"for two inputs it gives {shapes}")
        return BatchForm(axes={name: axis for name, axis in axes.items() if axis})


def _describe(refusals: Mapping[str, ExportError], count: int) -> tuple[str, ...]:
    if not refusals:
        return ()
    name, error = next(iter(refusals.items()))
    return (f"{len(refusals)} of {count} inputs: the eager model does not take them, such as '{name}': {error}",)


def _batch_axis(once: torch.Tensor, twice: torch.Tensor) -> int | None:
    """Return the dimension that has one index for one input, and two for two; None where there is none."""
    for axis, length in enumerate(once.shape):
        if length == 1 and twice.shape == (*once.shape[:axis], 2, *once.shape[axis + 1 :]):
            return axis
    return None
