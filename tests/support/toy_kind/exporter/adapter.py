"""Adapter of points: what the network takes, and the points that an export is proven with."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from support.toy_kind.manifest import PointInput

from exporter.conversion.network_io import Arrays
from exporter.inputs.tensor.adapter import TensorAdapter
from exporter.parity.cases import BATCH_SIZES, GENERATED, Case, PreparedInput
from runtime.manifest import TensorInput


class PointAdapter(TensorAdapter):
    """Points; the graph takes them as an array, and nothing is done to them before the network."""

    noun = "points"

    def __init__(self, name: str) -> None:
        spec = TensorInput(name=name, dtype="float32", shape=("batch", 2))
        super().__init__([spec], samples=None, probe=lambda tensors: tensors)
        self._name = name

    @property
    def inputs(self) -> tuple[Any, ...]:
        """The point."""
        return (PointInput(name=self._name),)

    def describe(self) -> str:
        """Return what was found, for people."""
        return f"points: {self._name}"

    def cases(self) -> tuple[Case, ...]:
        """Return points at random, as files have them."""
        points = np.random.default_rng(0).standard_normal((12, 2)).astype(np.float32)
        return tuple(
            Case(name=f"point {number}", data=to_bytes((float(x), float(y))), group=GENERATED)
            for number, (x, y) in enumerate(points)
        )

    def decoded_batch(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Return any of the cases, over and over."""
        return tuple(cases[row % len(cases)] for row in range(max(BATCH_SIZES)))

    def decode(self, case: Case) -> Arrays:
        """Return a point, read without the runtime."""
        return {self._name: np.array([case.data.decode().split(",")], dtype=np.float32)}

    def prepare(self, case: Case) -> PreparedInput:
        """Return a point as torch has it."""
        arrays = self.decode(case)
        return PreparedInput(
            decoded=arrays, arrays=arrays, tensors={name: torch.from_numpy(array) for name, array in arrays.items()}
        )


def to_bytes(point: Sequence[float]) -> bytes:
    """Return a point as files have it."""
    return ",".join(map(repr, point)).encode()
