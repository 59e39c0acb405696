"""Errors of an export, by what the user can do about them.

::

    runtime.TruecopyError
    └── ExportError
        ├── CheckpointError       fix the checkpoint
        ├── ArchitectureError     name the right architecture
        ├── PreprocessingError    this transform cannot be folded in
        ├── ConversionError       the model cannot be exported
        └── ParityError           do not ship

Every message reads ``<subject>: <problem>. <fix>.``, with ``expected X, got Y`` where both carry information.
"""

import linecache
import sysconfig
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import TruecopyError, bounded

if TYPE_CHECKING:
    from runtime.evidence import Evidence


class ExportError(TruecopyError):
    """An export stopped; nothing was written."""


class CheckpointError(ExportError):
    """The checkpoint is missing, damaged, or holds something else. The message has at most 2,000 characters."""

    def __init__(self, message: str) -> None:
        super().__init__(bounded(message, 2000))


class ArchitectureError(ExportError):
    """The architecture does not exist, does not build, or does not fit the checkpoint."""


class PreprocessingError(ExportError):
    """The training transform cannot be folded into the graph."""


class ConversionError(ExportError):
    """The network cannot be traced or converted."""


class ParityError(ExportError):
    """The artifact is not equal to the eager model, or the comparison proves nothing; ``report`` is the evidence."""

    def __init__(self, message: str, *, report: "Evidence | None" = None) -> None:
        super().__init__(message)
        self.report = report


# What torch says of a device that is not here.
NO_CUDA = r"no nvidia driver|not compiled with cuda|no cuda gpus|cuda\.is_available|cuda driver"

# Folders of installed packages, Python's own and ours: their lines are not the user's.
INSTALLED = {"site-packages", "dist-packages"}
_NOT_THE_USERS = (Path(__file__).parent, Path(sysconfig.get_path("stdlib")))


def line_of(error: BaseException) -> str:
    """Return the line of the user's own source that raised an error, as ``net.py:12, 'x = x.cuda()'``; empty if none.

    It is the innermost one outside of installed packages.
    """
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        # The text of a notebook's cells is kept under names that are no files.
        has_text = path.is_file() or frame.filename in linecache.cache
        if has_text and not any(map(path.is_relative_to, _NOT_THE_USERS)) and not INSTALLED & set(path.parts):
            return f"{short_path(path)}:{frame.lineno}, '{frame.line}'"
    return ""


def short_path(path: Path) -> str:
    """Return a path from the working directory, or from the folder of installed packages."""
    for index, part in enumerate(path.parts):
        if part in INSTALLED:
            return Path(*path.parts[index + 1 :]).as_posix()
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else path.as_posix()


def first_line(error: BaseException) -> str:
    """Return the first line of another library's message, without a full stop."""
    return str(error).strip().partition("\n")[0].rstrip(".")


def one_line(error: BaseException) -> str:
    """Return the start of another library's message on one line, without a full stop."""
    return " ".join(str(error).split())[:300].rstrip(".")
