"""Export of PyTorch models to proven artifacts, and their runtime.

>>> import truecopy
>>> exported = truecopy.export("model.pth", "resnet18")
>>> model = truecopy.load("artifacts/model")
>>> model.predict("cat.jpg").label
'tiger cat'

Names are imported at first use: ``import truecopy`` loads neither numpy nor PyTorch. Only ``truecopy.export`` needs the
extra ``export``.
"""

import sys

# With 'python -m', the current folder comes first on the path of modules: a stranger's file there must not be taken for
# one of this program.
# Pythons before 3.11 lack what this reads; the import of the runtime refuses them.
if sys.version_info >= (3, 11) and sys.argv[:1] == ["-m"]:
    if sys.orig_argv[-len(sys.argv)] in {__name__, f"-m{__name__}"} and not sys.flags.safe_path:
        del sys.path[0]

from typing import TYPE_CHECKING

import runtime  # light, and sets what keeps dependencies quiet before they are imported

if TYPE_CHECKING:
    from exporter import (
        ArchitectureError,
        CheckpointError,
        ConversionError,
        ExportError,
        ExportOptions,
        ExportResult,
        ParityError,
        PreprocessingError,
        TaskOptions,
        export,
    )
    from runtime import (
        ArtifactError,
        BusyError,
        DeviceError,
        Estimate,
        Failure,
        HeadResults,
        InputError,
        LabeledWord,
        LabeledWords,
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

__all__ = [
    "ArchitectureError",
    "ArtifactError",
    "BusyError",
    "CheckpointError",
    "ConversionError",
    "DeviceError",
    "Estimate",
    "ExportError",
    "ExportOptions",
    "ExportResult",
    "Failure",
    "HeadResults",
    "InputError",
    "LabelSet",
    "LabeledWord",
    "LabeledWords",
    "Model",
    "ModelError",
    "Outputs",
    "ParityError",
    "Prediction",
    "PreprocessingError",
    "Result",
    "ScoredLabel",
    "Segmentation",
    "TaskOptions",
    "TokenSequence",
    "TruecopyError",
    "__version__",
    "export",
    "load",
    "read_inputs",
]


if not TYPE_CHECKING:
    # A type checker would take any name for one of this module.

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'truecopy' has no attribute '{name}'")
        if name in runtime.__all__:
            return getattr(runtime, name)
        import exporter

        return getattr(exporter, name)


def __dir__() -> list[str]:
    return __all__
