"""Drift of a parity check since an earlier one, the baseline."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from runtime.errors import InputError
from runtime.evidence import FORMAT_VERSION, Drift, Evidence, Growth, Row, ToolVersion
from runtime.manifest import LAYOUT, decode_document
from runtime.manifest.document import FormatVersion
from runtime.reports.report import describe_growth, name_of_row

# The factor by which a figure may grow: another version of a library adds in another order, which about doubles the
# rounding.
ALLOWED = 4.0

_NOISE = "times the noise floor"

# Evidence of thousands of rows takes a few megabytes.
_LIMIT_BYTES = 256 * 2**20


def read_baseline(path: Path) -> Evidence:
    """Read the evidence of an earlier check: an artifact's ``parity.json``, or the output of ``parity --json``.

    Raises InputError where it is no such file, of another format version, or of a check that failed.
    """
    fix = "Write it with 'truecopy parity ... --json > FILE' from a check that passed."
    try:
        if path.exists() and (not path.is_file() or path.stat().st_size > _LIMIT_BYTES):  # reading it may never end
            raise InputError(
                f"--baseline '{path}': not a {LAYOUT.parity}: expected a file of at most {_LIMIT_BYTES} bytes. {fix}"
            )
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"--baseline '{path}': cannot be read: {error.strerror}. Pass a {LAYOUT.parity}.") from None
    try:
        version = msgspec.json.decode(data, type=FormatVersion).format_version
        if version != FORMAT_VERSION:
            raise InputError(
                f"--baseline '{path}': unsupported format: expected format_version {FORMAT_VERSION}, got {version}. "
                f"{fix}"
            )
        evidence = decode_document(data, Evidence)
    except msgspec.DecodeError as error:
        raise InputError(f"--baseline '{path}': not the evidence of a parity check: {error}. {fix}") from None
    if not evidence.passed:
        raise InputError(f"--baseline '{path}': unusable: expected the verdict passed, got {evidence.verdict}. {fix}")
    return evidence


def compare_with_baseline(evidence: Evidence, baseline: Evidence, name: str) -> Evidence:
    """Return the evidence with its drift since ``baseline``, the file called ``name``; failed where a figure grew.

    A figure is the largest or the 99th percentile difference of a row, as a multiple of the noise floor, so that larger
    outputs do not count as growth. Figures below the floor count as the floor, as they are rounding. Where there is no
    floor, the difference itself is the figure.
    """
    before = {name_of_row(row): row for row in baseline.rows}
    now = {name_of_row(row): row for row in evidence.rows}
    grown = tuple(
        growth for key, row in now.items() if key in before and row.passed for growth in _growths(before[key], row)
    )
    drift = Drift(
        baseline=name,
        allowed=ALLOWED,
        grown=grown,
        new=tuple(key for key in now if key not in before),
        gone=tuple(key for key in before if key not in now),
        versions=_versions(baseline.tools, evidence.tools),
    )
    if not grown or not evidence.passed:
        return msgspec.structs.replace(evidence, drift=drift)
    worst = max(grown, key=lambda growth: growth.now / growth.before if growth.before else math.inf)
    first = list(now).index(name_of_row(worst))
    return msgspec.structs.replace(
        evidence, drift=drift, verdict="failed", reason=describe_growth(worst, drift), first_fault=first
    )


def _growths(before: Row, now: Row) -> Iterator[Growth]:
    figures: tuple[tuple[Literal["largest", "99th percentile"], float | None, float | None], ...] = (
        ("largest", before.difference, now.difference),
        ("99th percentile", before.difference_p99, now.difference_p99),
    )
    for figure, earlier, later in figures:
        if earlier is None or later is None:
            continue
        unit, first, second = now.unit, earlier, later
        if before.floor and now.floor:
            # A difference below the floor is rounding, and counts as the floor.
            unit, first, second = _NOISE, max(earlier / before.floor, 1.0), later / now.floor
        if second > ALLOWED * first:
            yield Growth(
                path=now.path,
                device=now.device,
                stage=now.stage,
                group=now.group,
                figure=figure,
                unit=unit,
                before=earlier / before.floor if unit == _NOISE and before.floor else earlier,
                now=second,
            )
            return


def _versions(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[ToolVersion, ...]:
    return tuple(
        ToolVersion(name=name, before=before.get(name, ""), now=now.get(name, ""))
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    )
