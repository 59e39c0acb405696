"""truecopy's runtime: loads an artifact and runs it, without PyTorch.

>>> import runtime
>>> model = runtime.load("artifacts/resnet18")
>>> print(model.predict("cat.jpg"))
cat.jpg: tiger cat (39.1%)
"""

from importlib import import_module
from typing import TYPE_CHECKING

from runtime.errors import ArtifactError, BusyError, DeviceError, InputError, ModelError, TruecopyError

if TYPE_CHECKING:
    from runtime.jobs.sources import read_inputs
    from runtime.model import Model, load
    from runtime.results import (
        Estimate,
        Failure,
        LabelSet,
        Outputs,
        Prediction,
        Result,
        ScoredLabel,
        Segmentation,
        TokenSequence,
    )

__all__ = [
    "ArtifactError",
    "BusyError",
    "DeviceError",
    "Estimate",
    "Failure",
    "InputError",
    "LabelSet",
    "Model",
    "ModelError",
    "Outputs",
    "Prediction",
    "Result",
    "ScoredLabel",
    "Segmentation",
    "TokenSequence",
    "TruecopyError",
    "load",
    "read_inputs",
]

# Imported at first use, so that 'truecopy --help' waits for neither numpy nor onnxruntime.
_LAZY = {
    "Model": "runtime.model",
    "load": "runtime.model",
    "read_inputs": "runtime.jobs.sources",
    "Estimate": "runtime.results",
    "Failure": "runtime.results",
    "LabelSet": "runtime.results",
    "Outputs": "runtime.results",
    "Prediction": "runtime.results",
    "Result": "runtime.results",
    "ScoredLabel": "runtime.results",
    "Segmentation": "runtime.results",
    "TokenSequence": "runtime.results",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'runtime' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)
