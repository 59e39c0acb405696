"""The evidence of a parity check: what ``parity.json`` and ``truecopy parity --json`` hold.

A difference is judged as a multiple of the eager model's own noise: see ``Noise``. Compatibility: ``format_version``
rises when a field changes its meaning; readers ignore fields that they do not know.
"""

import math
from typing import Any, Literal, TypeAlias

import msgspec

from runtime.manifest import ParitySummary

FORMAT_VERSION = 3

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


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of one row that grew too much since the baseline, in ``unit``: mostly ``times the noise floor``."""

    path: str
    device: str
    stage: Stage
    group: str
    figure: Literal["largest", "99th percentile"]
    unit: str
    before: float
    now: float


class ToolVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A tool whose version changed since the baseline; empty where it was not, or is not, there."""

    name: str
    before: str
    now: str


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """What changed since an earlier check, the ``baseline``, by its file's name.

    ``allowed`` is how many times a figure may grow. ``new`` and ``gone`` name the rows that only one of the two has:
    they are told, and fail nothing.
    """

    baseline: str
    allowed: float
    grown: tuple[Growth, ...]
    new: tuple[str, ...]
    gone: tuple[str, ...]
    versions: tuple[ToolVersion, ...]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict, and all that it rests on.

    ``reason`` is one sentence, empty where it passed; ``first_fault`` the index of the row that names the first stage
    at fault. ``batch_sizes`` and ``lengths``, by the name of the dimension, are those that were run and so are
    promised. ``tools`` are versions by name. ``max_ratio`` is the multiple of the noise floor that limits were set at.
    ``not_compared`` says in sentences what a reader might take for compared and was not, such as a device that this
    machine does not have. ``drift`` is there where the check was compared with an earlier one, and may be why
    it failed.
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
    lengths: dict[str, tuple[int, ...]] = {}
    rows: tuple[Row, ...]
    near_ties: tuple[NearTie, ...]
    not_compared: tuple[str, ...] = ()
    tools: dict[str, str]
    drift: Drift | None = None

    @property
    def passed(self) -> bool:
        """Whether the verdict is ``passed``."""
        return self.verdict == "passed"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of all inputs, in the order of the groups."""
        return tuple(name for group in self.groups for name in group.inputs)

    def summary(self) -> ParitySummary:
        """Return the worst figures of evidence that passed."""
        assert self.verdict == "passed", self.reason
        levels = [row.difference for row in self.rows if row.stage == "geometry" and row.difference is not None]
        return ParitySummary(
            verdict="passed",
            inputs=len(self.inputs),
            pixel_difference=int(max(levels)) if levels else None,
            score_difference=max(
                (row.difference or 0.0 for row in self.rows if row.stage == "end to end"), default=0.0
            ),
            ratio=max((row.ratio or 0.0 for row in self.rows if row.limit), default=0.0),
            max_ratio=self.max_ratio,
            label_agreement=min(
                (row.label_agreement for row in self.rows if row.label_agreement is not None), default=None
            ),
        )


def evidence_to_json(evidence: Evidence) -> bytes:
    """Return the evidence as JSON with a line for each row, so that it is small and its changes can be read."""
    parts = []
    for key, value in msgspec.to_builtins(evidence).items():
        if key == "drift" and value is None:
            continue
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines = ",\n".join(f"    {_compact(entry)}" for entry in value)
            parts.append(f'  "{key}": [\n{lines}\n  ]')
        else:
            parts.append(f'  "{key}": {_compact(value)}')
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()


def _compact(value: Any) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()
