"""Settings of training that a checkpoint keeps beside the weights, as plain data."""

from collections.abc import Mapping
from typing import Any

from exporter.checkpoint.unpickler import Opaque

# Under what training scripts keep the arguments of the network; Lightning's own first.
_KEYS = ("hyper_parameters", "hparams", "args", "config", "cfg", "opt", "model_args", "model_config")

# Levels of settings inside of settings.
_DEEPEST = 6


def find_settings(root: object) -> dict[str, Any]:
    """Return what a checkpoint says of its network's arguments, by name: those values that are plain data.

    They are in a dictionary, a namespace of argparse, or a configuration of OmegaConf.
    """
    for key in _KEYS if isinstance(root, Mapping) else ():
        values = _plain(root.get(key), _DEEPEST) if isinstance(root, Mapping) else None
        if isinstance(values, dict):
            return values
    return {}


def _plain(value: object, levels: int) -> Any:
    """Return a value without the entries that are no plain data; None for an object that is none."""
    if isinstance(value, Opaque) and isinstance(value.state, Mapping):
        state = value.state
        # OmegaConf has values in nodes; a namespace has them as attributes.
        value = next((state[key] for key in ("_val", "_content") if key in state), state)
    if isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, list | tuple) and levels:
        return [_plain(item, levels - 1) for item in value]
    if isinstance(value, Mapping) and levels:
        plain = {str(key): _plain(item, levels - 1) for key, item in value.items()}
        return {key: item for key, item in plain.items() if item is not None}
    return None
