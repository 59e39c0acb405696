"""Reference outputs of the eager PyTorch model."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from exporter.conversion.network_io import call
from exporter.outputs.postprocessing import Postprocessing
from exporter.parity.cases import Case, PreparedInput, ReferenceOutput


class Reference:
    """A freshly built eager network behind the user's own preprocessing; nothing of the export has touched either."""

    def __init__(self, network: nn.Module, prepare: Callable[[Case], PreparedInput]) -> None:
        self._network = network
        self._prepare = prepare

    @property
    def network(self) -> nn.Module:
        """The untouched network."""
        return self._network

    def call(self, cases: Sequence[Case]) -> tuple[tuple[PreparedInput, ...], tuple[Any, ...]]:
        """Return what is prepared of each case, and what the network's forward returns for it.

        One case at a time: the reference does not depend on what else is in the batch.
        """
        prepared = tuple(self._prepare(case) for case in cases)
        return prepared, tuple(call(self._network, one.tensors) for one in prepared)

    def answer(self, cases: Sequence[Case], postprocessing: Postprocessing) -> tuple[ReferenceOutput, ...]:
        """Return the answers for cases."""
        return self.finish(cases, *self.call(cases), postprocessing)

    def finish(
        self,
        cases: Sequence[Case],
        prepared: Sequence[PreparedInput],
        values: Sequence[Any],
        postprocessing: Postprocessing,
    ) -> tuple[ReferenceOutput, ...]:
        """Return the answers for what ``call`` gave."""
        return tuple(
            ReferenceOutput(
                case=case, prepared=one, inner=postprocessing.expect_inner(value), outputs=postprocessing.expect(value)
            )
            for case, one, value in zip(cases, prepared, values, strict=True)
        )
