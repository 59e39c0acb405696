"""truecopy: PyTorch checkpoints to artifacts proven equal to the eager model, and their runtime.

>>> import truecopy
>>> exported = truecopy.export("model.pth", "resnet18")
>>> model = truecopy.load("artifacts/model")
>>> model.predict("cat.jpg").label
'tiger cat'

Everything is imported at first use: ``import truecopy`` loads neither numpy nor PyTorch, and ``truecopy.export`` alone
needs the extra ``export``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter import (
        ArchitectureError,
        CheckpointError,
        ConversionError,
        ExportError,
        ExportResult,
        ParityError,
        PreprocessingError,
        export,
    )
    from runtime import (
        ArtifactError,
        BusyError,
        DeviceError,
        Estimate,
        Failure,
        InputError,
        LabelSet,
        Model,
        ModelError,
        Outputs,
        Prediction,
        Result,
        ScoredLabel,
        Segmentation,
        TokenSequence,
        TruecopyError,
        load,
        read_inputs,
    )

    __version__: str

_EXPORTER = (
    *("ArchitectureError", "CheckpointError", "ConversionError", "ExportError", "ExportResult", "ParityError"),
    *("PreprocessingError", "export"),
)
_RUNTIME = (
    *("ArtifactError", "BusyError", "DeviceError", "Estimate", "Failure", "InputError", "LabelSet", "Model"),
    *("ModelError", "Outputs", "Prediction", "Result", "ScoredLabel", "Segmentation", "TokenSequence", "TruecopyError"),
    *("load", "read_inputs"),
)
_OWNERS = dict.fromkeys(_EXPORTER, "exporter") | dict.fromkeys(_RUNTIME, "runtime")

__all__ = [
    "ArchitectureError",
    "ArtifactError",
    "BusyError",
    "CheckpointError",
    "ConversionError",
    "DeviceError",
    "Estimate",
    "ExportError",
    "ExportResult",
    "Failure",
    "InputError",
    "LabelSet",
    "Model",
    "ModelError",
    "Outputs",
    "ParityError",
    "Prediction",
    "PreprocessingError",
    "Result",
    "ScoredLabel",
    "Segmentation",
    "TokenSequence",
    "TruecopyError",
    "__version__",
    "export",
    "load",
    "read_inputs",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("truecopy")
    if name not in _OWNERS:
        raise AttributeError(f"module 'truecopy' has no attribute '{name}'")
    return getattr(import_module(_OWNERS[name]), name)


def __dir__() -> list[str]:
    return __all__
