"""Ray Data and Ray Serve.

>>> from runtime.deploy.ray import Predictor
>>> dataset.map_batches(Predictor, fn_constructor_kwargs={"artifact": path}, num_cpus=2, concurrency=4)

Everything is imported at first use: a job's driver and 'truecopy deploy' need no Ray before they start it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.deploy.artifact_copies import artifact_digest
    from runtime.deploy.ray.application import build_application
    from runtime.deploy.ray.predictor import Predictor

__all__ = ["Predictor", "artifact_digest", "build_application"]

_LAZY = {
    "Predictor": "runtime.deploy.ray.predictor:Predictor",
    "artifact_digest": "runtime.deploy.artifact_copies:artifact_digest",
    "build_application": "runtime.deploy.ray.application:build_application",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'runtime.deploy.ray' has no attribute '{name}'")
    module, _, attribute = _LAZY[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return __all__
