"""Reports as files: all that were asked for, each whole or not there."""

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from runtime.errors import InputError
from runtime.reports.junit import to_junit
from runtime.reports.page import to_page
from runtime.reports.report import Report
from runtime.reports.sarif import to_sarif


@dataclass(frozen=True, kw_only=True)
class Destinations:
    """Where each form of the report goes; None for those that nobody asked for."""

    junit: Path | None = None
    sarif: Path | None = None
    html: Path | None = None

    def check(self) -> None:
        """Raise InputError in one sentence where one cannot be written: before a check that takes minutes."""
        seen: dict[Path, str] = {}
        for option, path in self.asked.items():
            problem = _problem(path)
            if path in seen:
                problem = f"is what --{seen[path]} writes, too: expected a file each"
            if problem:
                raise InputError(f"--{option} '{path}': {problem}. Name another file.")
            seen[path] = option

    @property
    def asked(self) -> dict[str, Path]:
        """The paths that were given, by the name of the form."""
        return {field.name: getattr(self, field.name) for field in fields(self) if getattr(self, field.name)}


# Every form, by the option that asks for it.
_FORMS: dict[str, Callable[[Report], bytes]] = {"junit": to_junit, "sarif": to_sarif, "html": to_page}


def write_reports(outcome: Report, destinations: Destinations) -> None:
    """Write all reports that were asked for; one that cannot be written costs no other. Raises the first OSError."""
    failed: OSError | None = None
    for option, path in destinations.asked.items():
        try:
            _write(path, _FORMS[option](outcome))
        except OSError as error:
            failed = failed or error
    if failed is not None:
        raise failed


def _problem(path: Path) -> str:
    if str(path) == "-":
        return "is no file: expected a path, as several forms cannot share standard output"
    path = path.resolve()
    if path.is_dir():
        return "is a folder: expected a file"
    if path.exists() and not path.is_file():
        return "is a device: expected a file"
    if not path.parent.is_dir():
        return f"cannot be written: expected the folder '{path.parent}', got none"
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return f"cannot be written: expected a folder that you may write to, got '{path.parent}'"
    return ""


def _write(path: Path, data: bytes) -> None:
    """Write beside the file and then rename: readers see the old one or the new one."""
    path = path.resolve()
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
