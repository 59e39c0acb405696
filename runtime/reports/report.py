"""Contents of a parity report, and its figures in words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runtime.evidence import Drift, Evidence, Growth, Row, Stage


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image of a picture, encoded as PNG, with a label."""

    label: str
    png: bytes


@dataclass(frozen=True, kw_only=True)
class Score:
    """One output for an input, by name: the eager model's and the artifact's."""

    label: str
    expected: float
    got: float


@dataclass(frozen=True, kw_only=True)
class Picture:
    """The input that differs most at a stage: images side by side, such as expected, actual and difference.

    ``scores`` are the eager model's likeliest classes, where there are any.
    """

    title: str
    caption: str
    images: tuple[Image, ...]
    scores: tuple[Score, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """A check's evidence and pictures; ``manifest`` is the path of the artifact's manifest as the user gave it.

    ``origin`` says what was checked, and how: names and values, such as the architecture and the command.
    """

    evidence: Evidence
    manifest: str
    pictures: tuple[Picture, ...] = ()
    origin: tuple[tuple[str, str], ...] = ()


def unfinished(artifact: str, reason: str, *, max_ratio: float, tools: dict[str, str]) -> Evidence:
    """Return the evidence of a check that could not run, so that a CI shows the reason instead of a missing report."""
    return Evidence(
        artifact=artifact,
        verdict="inconclusive",
        reason=reason,
        first_fault=None,
        max_ratio=max_ratio,
        noise=(),
        groups=(),
        batch_sizes=(),
        rows=(),
        near_ties=(),
        tools=tools,
    )


def describe_whole(evidence: Evidence) -> str:
    """Return in words what was compared whole and is equal, file by file; empty where nothing was."""
    files: dict[str, list[str]] = {}
    for check in evidence.whole:
        if check.fault is None and check.count:
            files.setdefault(check.path, []).append(f"{check.subject} ({check.count})")
    return "; ".join(f"{path}: {', '.join(subjects)}" for path, subjects in files.items())


def name_of_row(row: Row | Growth) -> str:
    """Return a row's name, unique in its evidence: ``model.onnx on cpu, network, photos``."""
    return f"{row.path} on {row.device}, {row.stage}, {row.group}"


def problems_of(evidence: Evidence) -> Iterator[tuple[Row | Growth | None, str]]:
    """Yield what keeps a check from passing, with a message: rows at fault, the first fault first, and growths.

    None stands for the check itself, where it is inconclusive.
    """
    rows = [row for row in evidence.rows if row.fault is not None]
    first = evidence.rows[evidence.first_fault] if evidence.first_fault is not None else None
    for row in sorted(rows, key=lambda row: row is not first):
        yield row, f"{name_of_row(row)}, on {row.worst_input}: {row.finding}"
    if evidence.verdict == "inconclusive":
        yield None, evidence.reason
    if evidence.drift is not None:
        for growth in evidence.drift.grown:
            yield growth, describe_growth(growth, evidence.drift)


def format_difference(row: Row) -> str:
    """Return the largest difference of a row as text, in its unit; the kind of its fault where there is none."""
    if row.difference is None:
        return "" if row.fault is None else row.fault
    return f"{row.difference:.3g} {row.unit}" if row.difference else "equal"


def format_figure(row: Row) -> str:
    """Return the largest difference of a row as text: in its unit, and as a multiple of the noise floor."""
    ratio = format_ratio(row) if row.difference else ""
    return format_difference(row) + (f", {ratio} times the noise floor" if ratio else "")


def format_ratio(row: Row) -> str:
    """Return a row's multiple of the noise floor as text; empty where the floor is zero or there is no figure."""
    if row.ratio is None or not row.floor:
        return ""
    return f"{row.ratio:,.0f}" if row.ratio >= 10 else f"{row.ratio:.2g}"


def format_share(share: float | None) -> str:
    """Return a share in percent: 100% and 0% only where it is exactly 1 or 0."""
    if share is None:
        return ""
    if share in (0.0, 1.0):
        return f"{share:.0%}"
    return f"{min(max(share, 1e-4), 1 - 1e-4):.2%}"


def worst_rows(rows: Sequence[Row]) -> list[Row]:
    """Return one row per path, device and stage, in order: of the group that fails, or differs most."""
    worst: dict[tuple[str, str, Stage], Row] = {}
    for row in rows:
        key = (row.path, row.device, row.stage)
        if key not in worst or _badness(row) > _badness(worst[key]):
            worst[key] = row
    return list(worst.values())


def _badness(row: Row) -> tuple[bool, float, float]:
    return row.fault is not None, row.ratio or 0.0, row.difference or 0.0


def describe_growth(growth: Growth, drift: Drift) -> str:
    """Return in a sentence which figure grew since the baseline, and which versions changed."""
    changes = ", ".join(f"{tool.name} {tool.before or 'none'} -> {tool.now or 'none'}" for tool in drift.versions)
    return (
        f"{name_of_row(growth)}: the {growth.figure} difference grew more than {drift.allowed:g} times since "
        f"'{drift.baseline}': it is now {growth.now:.2g} {growth.unit}, and was {growth.before:.2g}. "
        + (f"Versions that changed: {changes}" if changes else "No version changed")
    )
