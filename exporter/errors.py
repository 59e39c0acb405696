"""What can go wrong in an export, by what the user can do about it.

::

    runtime.TruecopyError
    └── ExportError
        ├── CheckpointError       fix the checkpoint
        ├── ArchitectureError     name the right architecture
        ├── PreprocessingError    this transform cannot be folded in
        ├── ConversionError       the model cannot be exported
        └── ParityError           do not ship

Every message reads ``<subject>: <what is wrong>: expected X, got Y. <what to do>.``
"""

from typing import TYPE_CHECKING

from runtime.errors import TruecopyError

if TYPE_CHECKING:
    from runtime.evidence import Evidence


class ExportError(TruecopyError):
    """An export stopped; nothing was written."""


class CheckpointError(ExportError):
    """The checkpoint is missing, damaged, or holds something else."""


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
