"""Arguments of a constructor that the checkpoint itself records, as Lightning's do."""

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

_LIGHTNING = "LightningModule"

# What parameters are called that take all settings as one.
_WHOLE = {"hparams", "args", "config", "cfg", "opt", "conf", "params", "hyperparameters"}


def lightning_arguments(build: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that Lightning's own ``load_from_checkpoint`` passes; none for any other class."""
    if not inspect.isclass(build) or all(base.__name__ != _LIGHTNING for base in build.__mro__):
        return {}
    parameters = inspect.signature(build).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return dict(settings)
    return _named(build, settings)


def suggest_arguments(build: Callable[..., Any], arguments: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Return the options that pass what a checkpoint records for a constructor's parameters; empty if nothing new."""
    try:
        recorded = _named(build, settings)
        defaults = {name: parameter.default for name, parameter in inspect.signature(build).parameters.items()}
    except (ValueError, TypeError):  # a builtin without a signature
        return ""
    other = {name: value for name, value in recorded.items() if arguments.get(name, defaults[name]) != value}
    return " ".join(f"--arch-arg '{name}={json.dumps(value)}'" for name, value in other.items())


def _named(build: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings for parameters of their names; one that takes all of them, such as ``hparams``, gets all."""
    parameters = inspect.signature(build).parameters
    recorded = {name: settings[name] for name in parameters if name in settings}
    required = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    if len(required) == 1 and settings and required[0] not in settings and required[0] in _WHOLE:
        recorded[required[0]] = dict(settings)
    return recorded
