"""Runtime of exported artifacts, without PyTorch.

>>> import runtime
>>> model = runtime.load("artifacts/resnet18")
>>> print(model.predict("cat.jpg"))
cat.jpg: tiger cat (39.1%)
"""

import os
import sys

if sys.version_info < (3, 11):  # noqa: UP036 - a checkout runs on whatever Python there is; pip refuses by itself
    raise ImportError(
        "Python %d.%d: too old for truecopy: expected 3.11 or newer. Make an environment with it: "  # noqa: UP031
        "python3.11 -m venv .venv" % sys.version_info[:2]
    )

from importlib import import_module
from typing import TYPE_CHECKING

from runtime.errors import ArtifactError, BusyError, DeviceError, InputError, ModelError, TruecopyError

if TYPE_CHECKING:
    from runtime.jobs.sources import read_inputs
    from runtime.model import Model, load
    from runtime.results import (
        Estimate,
        Failure,
        HeadResults,
        LabeledWord,
        LabeledWords,
        LabelSet,
        Outputs,
        Prediction,
        Result,
        ScoredLabel,
        Segmentation,
        TokenSequence,
    )

    __version__: str

__all__ = [
    "ArtifactError",
    "BusyError",
    "DeviceError",
    "Estimate",
    "Failure",
    "HeadResults",
    "InputError",
    "LabelSet",
    "LabeledWord",
    "LabeledWords",
    "Model",
    "ModelError",
    "Outputs",
    "Prediction",
    "Result",
    "ScoredLabel",
    "Segmentation",
    "TokenSequence",
    "TruecopyError",
    "__version__",
    "load",
    "read_inputs",
]

# What dependencies would send to their makers by themselves, some of them with a file in the user's home: off, unless
# the user set the variable. It counts when they are imported, which is after this module.
for _variable in ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ.setdefault(_variable, "1")

# Imported at first use, so that 'truecopy --help' waits for neither numpy nor onnxruntime.
_OWNERS = {"Model": "runtime.model", "load": "runtime.model", "read_inputs": "runtime.jobs.sources"}


if not TYPE_CHECKING:
    # A type checker would take any name for one of this module.

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from runtime.version import package_version

            return package_version()
        if name not in __all__:
            raise AttributeError(f"module 'runtime' has no attribute '{name}'")
        return getattr(import_module(_OWNERS.get(name, "runtime.results")), name)


def __dir__() -> list[str]:
    return __all__
