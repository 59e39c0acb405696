"""Report files, each written atomically."""

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from runtime.artifact.unfinished import write_whole
from runtime.errors import InputError
from runtime.reports.junit import to_junit
from runtime.reports.page import to_page
from runtime.reports.report import Report
from runtime.reports.sarif import to_sarif


@dataclass(frozen=True, kw_only=True)
class Destinations:
    """The path of each form of the report; None for those that are not requested."""

    junit: Path | None = None
    sarif: Path | None = None
    html: Path | None = None

    def check(self) -> None:
        """Raise InputError where a file cannot be written, before a check that takes minutes."""
        seen: dict[Path, str] = {}
        for option, path in self.requested.items():
            problem = _problem(path)
            if path in seen:
                problem = f"--{seen[path]} writes the same file"
            if problem:
                raise InputError(f"--{option} '{path}': {problem}. Use another file.")
            seen[path] = option

    @property
    def requested(self) -> dict[str, Path]:
        """The requested paths, by the name of the form."""
        return {field.name: getattr(self, field.name) for field in fields(self) if getattr(self, field.name)}


# Every form, by its option.
_FORMS: dict[str, Callable[[Report], bytes]] = {"junit": to_junit, "sarif": to_sarif, "html": to_page}


def write_reports(report: Report, destinations: Destinations) -> None:
    """Write all requested reports, even if one cannot be written; then raise the first OSError."""
    failed: OSError | None = None
    for option, path in destinations.requested.items():
        try:
            write_whole(path.resolve(), _FORMS[option](report))
        except OSError as error:
            failed = failed or error
    if failed is not None:
        raise failed


def _problem(path: Path) -> str:
    if str(path) == "-":
        return "not a file: several forms cannot share standard output"
    path = path.resolve()
    if path.is_dir():
        return "is a folder, not a file"
    if path.exists() and not path.is_file():
        return "is a device, not a file"
    if not path.parent.is_dir():
        return f"there is no folder '{path.parent}'"
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return f"no permission to write in '{path.parent}'"
    return ""
