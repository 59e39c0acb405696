"""Reference outputs of the eager PyTorch model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from exporter.conversion.network_io import call
from exporter.outputs.postprocessing import Postprocessing
from exporter.parity.cases import Case, PreparedInput, ReferenceOutput


@dataclass(frozen=True, kw_only=True)
class ReferenceRun:
    """The cases that the eager network ran on: each one prepared, and the value that its forward returned."""

    cases: tuple[Case, ...]
    prepared: tuple[PreparedInput, ...]
    values: tuple[Any, ...]

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


class Reference:
    """A freshly built eager network behind the user's own preprocessing; nothing of the export has touched either."""

    def __init__(self, network: nn.Module, prepare: Callable[[Case], PreparedInput]) -> None:
        self._network = network
        self._prepare = prepare

    @property
    def network(self) -> nn.Module:
        """The untouched network."""
        return self._network

    def run(self, cases: Sequence[Case]) -> ReferenceRun:
        """Return the eager network's values for cases.

        One case at a time: the reference does not depend on what else is in the batch. Raises ConversionError where the
        forward fails.
        """
        prepared = tuple(self._prepare(case) for case in cases)
        values = tuple(call(self._network, case.tensors) for case in prepared)
        return ReferenceRun(cases=tuple(cases), prepared=prepared, values=values)
