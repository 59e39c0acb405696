"""Types of a parity check: cases, prepared inputs, reference outputs, served paths."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from numpy.typing import NDArray

from runtime.evidence import Stage

Arrays: TypeAlias = Mapping[str, NDArray[Any]]

# Batches of these sizes are compared; what an adapter gives as its batch has as many cases as the largest.
BATCH_SIZES = (1, 2, 3, 7)


# Where inputs are from, as the report groups them.
SAMPLES, PHOTOS, GENERATED = "samples", "photos", "generated"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One input that both sides see, in the encoded form that the runtime decodes, and the report's name for it.

    ``group`` says where it is from.
    """

    name: str
    data: bytes
    group: str = GENERATED


@dataclass(frozen=True, kw_only=True)
class PreparedInput:
    """What the user's own preprocessing makes of a case, as a batch of one.

    ``decoded`` are the inputs of the ``model`` graph, none where that takes what is prepared; ``arrays`` are the inputs
    of the ``network`` graph, ``tensors`` those of the network itself, by name.
    """

    decoded: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]]
    tensors: Mapping[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class ReferenceOutput:
    """The reference for one case, as a batch of one: what is prepared, and what comes out.

    ``inner`` are the network's own outputs by their names in the graph, ``outputs`` the artifact's, after the
    postprocessing.
    """

    case: Case
    prepared: PreparedInput
    inner: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]


StageFunction: TypeAlias = Callable[[ReferenceOutput], Arrays]


@dataclass(frozen=True, kw_only=True)
class ServedPath:
    """One way to run the artifact on one device.

    ``stages`` take the reference's answer to a case, of which each uses what the reference gave it, and give what the
    stage makes of that; two paths with the same function have the stage in common. ``run`` goes the whole way from the
    raw input, for cases that may share a batch. All arrays have a batch dimension of one.
    """

    name: str
    device: str = "cpu"
    stages: Mapping[Stage, StageFunction]
    run: Callable[[Sequence[Case]], Sequence[Arrays]]
