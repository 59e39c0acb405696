"""truecopy's exporter: a PyTorch checkpoint to an artifact proven equal to the eager model.

>>> import exporter
>>> exported = exporter.export("model.pth", "resnet18")
>>> exported.artifact
PosixPath('artifacts/model')
"""

import sys

# With 'python -m', the current folder comes first on the path of modules: a stranger's file there must not be taken for
# one of this program.
if sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv)] in {__name__, f"-m{__name__}"} and not sys.flags.safe_path:
    del sys.path[0]

from typing import TYPE_CHECKING

from exporter.errors import (
    ArchitectureError,
    CheckpointError,
    ConversionError,
    ExportError,
    ParityError,
    PreprocessingError,
)

if TYPE_CHECKING:
    from exporter.options.export import ExportOptions
    from exporter.options.task import TaskOptions
    from exporter.workflow import ExportResult, export

__all__ = [
    "ArchitectureError",
    "CheckpointError",
    "ConversionError",
    "ExportError",
    "ExportOptions",
    "ExportResult",
    "ParityError",
    "PreprocessingError",
    "TaskOptions",
    "export",
]

_LAZY = {
    "ExportOptions": "exporter.options.export",
    "ExportResult": "exporter.workflow",
    "TaskOptions": "exporter.options.task",
    "export": "exporter.workflow",
}


def __getattr__(name: str) -> object:
    # At first use: the command line reads this package for its help, which must not wait for torch.
    if name not in _LAZY:
        raise AttributeError(f"module 'exporter' has no attribute '{name}'")
    from importlib import import_module

    if _LAZY[name] == "exporter.workflow":
        check_extra()
    return getattr(import_module(_LAZY[name]), name)


def check_extra() -> None:
    """Raise ExportError unless what the exporter needs beyond the runtime is installed."""
    from importlib.util import find_spec

    missing = [
        name for name in ("torch", "torchvision", "onnx", "onnxscript", "onnxruntime") if find_spec(name) is None
    ]
    if missing:
        raise ExportError(
            f"exporting needs {', '.join(missing)}: not installed. Run: pip install 'truecopy[export,cpu]'."
        )
