"""The evidence of a parity check: what ``parity.json`` and ``truecopy parity --json`` hold.

A difference is judged as a multiple of the eager model's own noise: see ``Noise``. Compatibility: ``format_version``
rises when a field changes its meaning; readers ignore fields that they do not know.
"""

import math
from typing import Literal, TypeAlias

import msgspec

FORMAT_VERSION = 2

Stage: TypeAlias = Literal[
    "decode", "geometry", "tokens", "arithmetic", "network", "activation", "labels", "end to end"
]

# The order in which an input goes through them: the first at fault is named.
STAGES: tuple[Stage, ...] = (
    "decode",
    "geometry",
    "tokens",
    "arithmetic",
    "network",
    "activation",
    "labels",
    "end to end",
)

# What kind of thing is wrong; all but ``value`` and ``label`` fail whatever the noise is.
Fault: TypeAlias = Literal["value", "label", "non-finite", "shape", "dtype", "names", "error"]

Verdict: TypeAlias = Literal["passed", "failed", "inconclusive"]


class Noise(msgspec.Struct, frozen=True, kw_only=True):
    """How far the eager model is from itself in one tensor, and the limit that follows: absolute, in its own unit.

    ``precision`` is float32 against float64, ``threads`` against other numbers of threads, ``batch`` against other
    batch sizes; None where it could not be measured, with the reason in ``note``. ``floor`` is their largest, or a few
    roundings of the tensor's ``size``, whichever is more; ``limit`` is the stated multiple of it. ``signal`` is how
    much the tensor varies over the inputs.
    """

    tensor: str
    stage: Stage
    size: float
    signal: float
    precision: float | None
    threads: float | None
    batch: float | None
    floor: float
    limit: float
    note: str = ""


class NearTie(msgspec.Struct, frozen=True, kw_only=True):
    """An input whose label flipped although eager's own margin is within the noise: told, not failed."""

    path: str
    input: str
    expected: str
    got: str
    margin: float


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of one path on one device, over one group of inputs, compared with the reference.

    All stages but ``end to end`` are given the reference's own input to them. ``difference`` is the largest and
    ``difference_p99`` the 99th percentile of all values, absolute, in ``unit``; ``share`` is the share of values that
    differ at all; ``floor`` and ``limit`` are in the same unit. Outputs with limits of their own are brought to the one
    of the largest. None where a stage has no such figure. ``histogram`` counts values by ratio to the floor: the first
    entry those that are equal, then one for each of HISTOGRAM_EDGES, the last those above all edges. ``end to end``
    rows also have the agreement of the labels. ``planned`` may be more than ``inputs``: the check says so.
    """

    path: str
    device: str
    stage: Stage
    group: str
    planned: int
    inputs: int
    fault: Fault | None
    finding: str
    worst_input: str
    unit: str
    difference: float | None
    difference_p99: float | None
    share: float | None
    floor: float | None
    limit: float | None
    histogram: tuple[int, ...] = ()
    label_agreement: float | None = None
    top_k_agreement: float | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong with it."""
        return self.fault is None

    @property
    def ratio(self) -> float | None:
        """The difference as a multiple of the noise floor; zero where there is none, whatever the floor."""
        if self.difference is None or self.floor is None:
            return None
        if not self.difference:
            return 0.0
        return self.difference / self.floor if self.floor else math.inf


# Multiples of the noise floor, for histograms.
HISTOGRAM_EDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1e3, 1e4, 1e5)


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs of one origin: the user's samples, real photos, made ones, batches; by name."""

    name: str
    inputs: tuple[str, ...]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict, and all that it rests on.

    ``reason`` is one sentence, empty where it passed; ``first_fault`` the index of the row that names the first stage
    at fault. ``batch_sizes`` and ``lengths`` are those that were run and so are promised. ``tools`` are versions by
    name. ``max_ratio`` is the multiple of the noise floor that limits were set at.
    """

    format_version: int = FORMAT_VERSION
    artifact: str
    verdict: Verdict
    reason: str
    first_fault: int | None
    max_ratio: float
    noise: tuple[Noise, ...]
    groups: tuple[Group, ...]
    batch_sizes: tuple[int, ...]
    rows: tuple[Row, ...]
    near_ties: tuple[NearTie, ...]
    tools: dict[str, str]
