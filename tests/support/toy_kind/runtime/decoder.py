"""Decoder of points: 'x,y' in a file, two numbers, or the columns x and y of a row."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from support.toy_kind.manifest import PointInput

from runtime.artifact.open import Artifact
from runtime.errors import InputError
from runtime.inputs.decoder import DecodedInput, Decoder


@dataclass(frozen=True, kw_only=True)
class DecodedPoint(DecodedInput):
    """One point, float32 [2]."""

    point: NDArray[np.float32]


class PointDecoder(Decoder):
    """Points; any of them may share a batch."""

    batch_size = 8

    def __init__(self, spec: PointInput, _artifact: Artifact) -> None:
        self._spec = spec

    def is_list(self, inputs: object) -> bool:
        """Return whether it is a list; a tuple is one point."""
        return isinstance(inputs, list)

    def decode(self, source: Any, *, subject: str) -> DecodedPoint:
        """Return the point; raises InputError for anything but two finite numbers."""
        if isinstance(source, PathLike):
            source = Path(source).read_bytes()
        values = source.decode().split(",") if isinstance(source, bytes) else source
        if isinstance(values, Mapping):
            values = (values.get("x"), values.get("y"))
        try:
            point = np.array([float(value) for value in values], dtype=np.float32)
        except (TypeError, ValueError):
            point = np.empty(0, dtype=np.float32)
        if point.shape != (2,) or not np.isfinite(point).all():
            raise InputError(f"{subject}: not a point: expected two numbers, got {source!r:.80}. Correct it.")
        return DecodedPoint(point=point)

    def prepare(self, decoded: DecodedPoint) -> NDArray[np.float32]:
        """Return the point."""
        return decoded.point

    def bucket(self, _prepared: NDArray[np.float32]) -> Hashable:
        """Return one key for all."""
        return None

    def stack(self, prepared: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[Any]]:
        """Return the points, float32 [batch, 2]."""
        return {self._spec.name: np.stack(prepared)}
