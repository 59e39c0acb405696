"""Evidence of a parity check: the types of ``parity.json``.

A difference is judged as a multiple of the eager model's own noise: see ``Noise``. ``format_version`` rises when a
field changes its meaning; readers ignore fields that they do not know.
"""

import math
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, get_args

import msgspec

from runtime.manifest import BATCH, LengthRange, ParitySummary

FORMAT_VERSION = 3

Stage: TypeAlias = Literal[
    "decode", "geometry", "tokens", "arithmetic", "network", "activation", "labels", "end to end"
]

# In the order in which an input passes through them: the first at fault is reported.
STAGES: tuple[Stage, ...] = get_args(Stage)

# Kinds of faults; all but ``value`` and ``label`` fail regardless of the noise.
Fault: TypeAlias = Literal["value", "label", "non-finite", "shape", "dtype", "names", "error"]

Verdict: TypeAlias = Literal["passed", "failed", "inconclusive"]


class Noise(msgspec.Struct, frozen=True, kw_only=True):
    """The eager model's own noise in one tensor, and the limit that follows from it; absolute, in the tensor's unit.

    ``precision`` is the difference between float32 and float64, ``threads`` between numbers of threads, ``batch``
    between batch sizes; None where it could not be measured, with the reason in ``note``. ``size`` is the largest
    absolute value of the tensor, ``signal`` its variation over the inputs. ``floor`` is the largest of the three
    differences, end to end also of what one rounding of the input moves, and at least a few roundings of ``size``;
    ``limit`` is ``max_ratio`` times the floor.
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
    """An input whose label differs while the eager model's own margin is within its noise; not a failure."""

    path: str
    input: str
    expected: str
    got: str
    margin: float


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of one path on one device, over one group of inputs, compared with the eager model.

    Each stage but ``end to end`` gets the eager model's own input to it. ``path`` is a form of the artifact or
    ``runtime``, ``group`` one of ``groups`` or ``batches``. ``fault`` is null where the row passed, and ``finding`` the
    sentence about it. ``worst_input`` is the input with the largest difference. ``difference`` is the largest absolute
    difference in ``unit``, ``difference_p99`` the 99th percentile, and ``share`` the share of values that differ at
    all; ``floor`` and ``limit`` are in the same unit. Outputs with different limits are scaled to the largest limit.
    Figures are None where a stage has none. ``histogram`` counts values by their ratio to the floor: equal values, then
    one entry per value of HISTOGRAM_EDGES, then those above all of them. ``end to end`` rows also have the agreement of
    the labels. ``inputs`` is the number of inputs that were compared, of ``planned`` ones.
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
        """Whether the row has no fault."""
        return self.fault is None

    @property
    def ratio(self) -> float | None:
        """The difference as a multiple of the noise floor; zero where there is no difference."""
        if self.difference is None or self.floor is None:
            return None
        if not self.difference:
            return 0.0
        return self.difference / self.floor if self.floor else math.inf


class WholeCheck(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was compared whole and exactly, and not by what it does to inputs.

    ``subject`` says what: the labels, the tokenizer, the weights. ``path`` is the artifact's file that has it,
    ``count`` how many parts of it were compared, such as labels. A fault is also a row, of the stage ``stage``.
    """

    subject: str
    path: str
    stage: Stage
    count: int
    fault: Fault | None = None
    finding: str = ""


# Multiples of the noise floor, for histograms.
HISTOGRAM_EDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1e3, 1e4, 1e5)


class GoldenInput(msgspec.Struct, frozen=True, kw_only=True):
    """An input that travels with the artifact: its name in ``groups``, and the SHA-256 of its encoded bytes."""

    name: str
    sha256: str


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The names of inputs of one origin: the user's samples, photos, generated inputs, batches."""

    name: str
    inputs: tuple[str, ...]


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of one row that grew too much since the baseline, in ``unit``: usually ``times the noise floor``."""

    path: str
    device: str
    stage: Stage
    group: str
    figure: Literal["largest", "99th percentile"]
    unit: str
    before: float
    now: float


class ToolVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A tool whose version changed since the baseline; a version is empty where the tool is absent."""

    name: str
    before: str
    now: str


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """Changes since an earlier check; ``baseline`` is the name of its file.

    ``allowed`` is the factor by which a figure may grow. ``new`` and ``gone`` name the rows that only one of the checks
    has; they fail nothing.
    """

    baseline: str
    allowed: float
    grown: tuple[Growth, ...]
    new: tuple[str, ...]
    gone: tuple[str, ...]
    versions: tuple[ToolVersion, ...]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict of a parity check, and all that it rests on.

    ``artifact`` is its name. ``verdict`` is ``passed``, ``failed``, or ``inconclusive``, which is no pass. ``noise``
    has one entry for each tensor, ``rows`` one for each path, stage and group of inputs. ``groups`` are the inputs by
    their origin, ``near_ties`` those whose label the eager model itself is unsure of. ``reason`` is one sentence, empty
    for a pass; ``first_fault`` is the index of the row of the first stage at fault. ``batch_sizes``, and ``lengths`` by
    the name of the dimension, are those that were run. ``tools`` are versions by name. ``max_ratio`` is the limit as a
    multiple of the noise floor. ``whole`` are the things that were compared whole. ``not_proven`` has one sentence for
    each thing that is not proven: what was assumed, what the user stated without code of training to compare with, and
    what could not be compared, such as a device that the machine lacks. ``fallbacks`` has one for each part of the
    artifact that was not converted as usual, with the reason where it is known; it is compared like every other.
    ``golden`` are the inputs of golden.npz, in its order, in the evidence of an artifact. ``drift`` is present where
    the check was compared with a baseline, and may be the reason of a failure.
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
    whole: tuple[WholeCheck, ...] = ()
    not_proven: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()
    tools: dict[str, str]
    golden: tuple[GoldenInput, ...] = ()
    drift: Drift | None = None

    def __repr__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        return f"<Evidence on '{self.artifact}', {len(self.inputs)} inputs: {self.verdict}{reason}>"

    def _repr_html_(self) -> str:
        """Return the verdict and the rows as HTML, for notebooks."""
        cells = ((row.path, row.stage, row.group, row.inputs, _figure(row), row.fault or "passed") for row in self.rows)
        heads = ("path", "stage", "group", "inputs", "largest difference", "verdict")
        lines = [_html_row("th", heads), *(_html_row("td", line) for line in cells)]
        from html import escape

        sentences = "".join(f"<li>not proven: {escape(sentence)}</li>" for sentence in self.not_proven)
        return f"<p>{escape(repr(self)[1:-1])}</p><table>{''.join(lines)}</table><ul>{sentences}</ul>"

    @property
    def passed(self) -> bool:
        """Whether the verdict is ``passed``."""
        return self.verdict == "passed"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of all inputs, in the order of the groups."""
        return tuple(name for group in self.groups for name in group.inputs)

    def compared(self) -> dict[str, LengthRange]:
        """Return the range of lengths that were run, by the name of each dynamic dimension."""
        lengths = {**self.lengths, BATCH: self.batch_sizes}
        return {
            name: LengthRange(lowest=min(values), highest=max(values)) for name, values in lengths.items() if values
        }

    def summary(self) -> ParitySummary:
        """Return the worst figures; the verdict has to be ``passed``."""
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
    """Return the evidence as JSON with one line per row, so that it is small and a diff of it is readable."""
    parts = []
    for key, value in msgspec.to_builtins(evidence).items():
        if (key == "drift" and value is None) or (key in ("fallbacks", "golden") and not value):
            continue
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines = ",\n".join(f"    {_compact(entry)}" for entry in value)
            parts.append(f'  "{key}": [\n{lines}\n  ]')
        else:
            parts.append(f'  "{key}": {_compact(value)}')
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()


def _figure(row: Row) -> str:
    if not row.difference:
        return "" if row.difference is None else "equal"
    ratio = "" if row.ratio is None else f", {row.ratio:.2g} times the noise floor"
    return f"{row.difference:.1e} {row.unit}{ratio}"


def _html_row(tag: str, cells: Iterable[Any]) -> str:
    from html import escape

    return f"<tr>{''.join(f'<{tag}>{escape(str(cell))}</{tag}>' for cell in cells)}</tr>"


def _compact(value: Any) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()
