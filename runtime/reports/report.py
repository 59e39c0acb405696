"""What every report is made of: the evidence, where the artifact's manifest is, and pictures of the worst inputs."""

from collections.abc import Sequence
from dataclasses import dataclass

from runtime.evidence import Drift, Evidence, Growth, Row, Stage


@dataclass(frozen=True, kw_only=True)
class Image:
    """One image of a picture, encoded as PNG, and what it shows."""

    label: str
    png: bytes


@dataclass(frozen=True, kw_only=True)
class Score:
    """One output of an input by its name: eager's, and the artifact's."""

    label: str
    expected: float
    got: float


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An input that differs most at a stage: images side by side, such as the expected, the found, the difference.

    ``scores`` are the likeliest classes by eager, where there are any.
    """

    title: str
    caption: str
    images: tuple[Image, ...]
    scores: tuple[Score, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """A check's evidence, to be reported; ``manifest`` is the path of the artifact's manifest as the user named it."""

    evidence: Evidence
    manifest: str
    pictures: tuple[Picture, ...] = ()


def unfinished(artifact: str, reason: str, *, max_ratio: float, tools: dict[str, str]) -> Evidence:
    """Return the evidence of a check that could not be made, so that a CI shows why and not the lack of a report."""
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


def name_of_row(row: Row | Growth) -> str:
    """Return a row's name, unique in its evidence: ``model.onnx on cpu, network, photos``."""
    return f"{row.path} on {row.device}, {row.stage}, {row.group}"


def say_figure(row: Row) -> str:
    """Return the largest difference of a row in words: in its unit, and as a multiple of the noise floor."""
    if row.difference is None:
        return "" if row.fault is None else row.fault
    if not row.difference:
        return "equal"
    ratio = say_ratio(row)
    return f"{row.difference:.3g} {row.unit}" + (f", {ratio} times the noise floor" if ratio else "")


def say_ratio(row: Row) -> str:
    """Return a row's multiple of the noise floor as text; empty where the floor is zero or there is no figure."""
    if row.ratio is None or not row.floor:
        return ""
    return f"{row.ratio:,.0f}" if row.ratio >= 10 else f"{row.ratio:.2g}"


def say_share(share: float | None) -> str:
    """Return a share in percent; exactly 100% and 0% only where it is all or nothing."""
    if share is None:
        return ""
    if share in (0.0, 1.0):
        return f"{share:.0%}"
    return f"{min(max(share, 1e-4), 1 - 1e-4):.2%}"


def worst_rows(rows: Sequence[Row]) -> list[Row]:
    """Return, for each path, device and stage in their order, the group's row that fails, or is largest."""
    found: dict[tuple[str, str, Stage], Row] = {}
    for row in rows:
        key = (row.path, row.device, row.stage)
        if key not in found or _badness(row) > _badness(found[key]):
            found[key] = row
    return list(found.values())


def _badness(row: Row) -> tuple[bool, float, float]:
    return row.fault is not None, row.ratio or 0.0, row.difference or 0.0


def say_growth(growth: Growth, drift: Drift) -> str:
    """Return in a sentence which figure grew, and what changed since."""
    changed = ", ".join(f"{one.name} {one.before or 'none'} -> {one.now or 'none'}" for one in drift.versions)
    return (
        f"{name_of_row(growth)}: the {growth.figure} difference grew since '{drift.baseline}': "
        f"expected at most {drift.allowed:g} times as much, got {growth.now:.2g} {growth.unit}, "
        f"then {growth.before:.2g}. " + (f"Versions that changed: {changed}" if changed else "No version changed")
    )
