"""An architecture's name and a checkpoint to the network they make, every key and shape accounted for."""

import difflib
import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torchvision
from torch import nn

from exporter.checkpoint import Checkpoint
from exporter.errors import ArchitectureError
from exporter.references import is_reference, load_object

# A name, 'FILE.py:NAME', 'package.module:NAME', or the callable itself.
Architecture: TypeAlias = str | Callable[..., nn.Module]

_LISTED = 10


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """A network in eval mode with the checkpoint's weights, and how it was made.

    ``torchvision_name`` is empty for architectures from other sources.
    """

    network: nn.Module
    reference: str
    arguments: Mapping[str, Any]
    torchvision_name: str


def rebuild(architecture: Architecture, arguments: Mapping[str, Any], checkpoint: Checkpoint) -> Rebuilt:
    """Return the network, newly built, with all of the checkpoint's weights and nothing else.

    For torchvision architectures the number of classes is read from the head's weights unless ``arguments`` gives it.
    Raises ArchitectureError when the architecture is unknown, does not build, or differs from the checkpoint in any key
    or shape.
    """
    reference, build, torchvision_name = _resolve(architecture)
    arguments = dict(arguments)
    network = _build(build, arguments, reference)
    if torchvision_name and "num_classes" not in arguments:
        num_classes = _num_classes(network, checkpoint)
        if num_classes is not None:
            arguments["num_classes"] = num_classes
            network = _build(build, arguments, reference)
    _load_strictly(network, checkpoint, reference)
    return Rebuilt(
        network=network.eval().requires_grad_(False),
        reference=reference,
        arguments=arguments,
        torchvision_name=torchvision_name,
    )


def _resolve(architecture: Architecture) -> tuple[str, Callable[..., nn.Module], str]:
    """Return the reference as recorded in the manifest, what builds it, and its torchvision name or an empty one."""
    if not isinstance(architecture, str):
        return f"{architecture.__module__}:{architecture.__qualname__}", architecture, ""
    if is_reference(architecture):
        found = load_object(architecture, error=ArchitectureError)
        if not callable(found):
            raise ArchitectureError(
                f"'{architecture}': not an architecture: expected a class or function that returns a torch.nn.Module, "
                f"got {type(found).__name__}. Name the class."
            )
        return architecture, found, ""
    known = torchvision.models.list_models(module=torchvision.models)
    if architecture not in known:
        near = difflib.get_close_matches(architecture.lower(), known, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(repr(name) for name in near)}? " if near else ""
        raise ArchitectureError(
            f"'{architecture}': unknown architecture: expected a torchvision name, 'FILE.py:NAME' or "
            f"'package.module:NAME'. {hint}For your own network, pass the file that defines it."
        )
    return architecture, torchvision.models.get_model_builder(architecture), architecture


def _build(build: Callable[..., nn.Module], arguments: Mapping[str, Any], reference: str) -> nn.Module:
    try:
        with warnings.catch_warnings():
            # torchvision's googlenet and inception warn that their slow initialisation will change; it is overwritten.
            warnings.filterwarnings("ignore", message="The default weight initialization", category=FutureWarning)
            network = build(**arguments)
    except Exception as error:  # the user's constructor may raise anything
        raise ArchitectureError(
            f"'{reference}': building it failed: {type(error).__name__}: {error}. "
            f"Its arguments are {_signature(build)}; pass them with --arch-arg key=value."
        ) from error
    if not isinstance(network, nn.Module):
        raise ArchitectureError(
            f"'{reference}': not an architecture: expected it to return a torch.nn.Module, "
            f"got {type(network).__name__}. Name the class."
        )
    return network


def _signature(build: Callable[..., nn.Module]) -> str:
    try:
        return str(inspect.signature(build).replace(return_annotation=inspect.Signature.empty))
    except ValueError:  # a builtin without one
        return "unknown"


def _num_classes(network: nn.Module, checkpoint: Checkpoint) -> int | None:
    """Return the number of classes that the head's tensors have, where it is not the built one.

    The head is whatever differs from the checkpoint in its first dimension alone; None unless all agree on one number.
    """
    classes = {
        checkpoint.tensors[key].shape[0]
        for key, tensor in network.state_dict().items()
        if key in checkpoint.tensors
        and tensor.ndim > 0
        and checkpoint.tensors[key].shape != tensor.shape
        and checkpoint.tensors[key].shape[1:] == tensor.shape[1:]
    }
    return classes.pop() if len(classes) == 1 else None


def _load_strictly(network: nn.Module, checkpoint: Checkpoint, reference: str) -> None:
    expected = network.state_dict()
    found = checkpoint.tensors
    shape = {
        key: f"expected {_dimensions(expected[key])}, got {_dimensions(found[key])}"
        for key in expected
        if key in found and expected[key].shape != found[key].shape
    }
    missing = {key: _dimensions(tensor) for key, tensor in expected.items() if key not in found}
    unexpected = {key: _dimensions(tensor) for key, tensor in found.items() if key not in expected}
    lists = [
        f"{name} {len(keys)} ({_listed(keys)})"
        for name, keys in (("missing", missing), ("unexpected", unexpected), ("other shape", shape))
        if keys
    ]
    if lists:
        matched = len(expected) - len(missing) - len(shape)
        raise ArchitectureError(
            f"'{checkpoint.path}': does not fit '{reference}': expected {len(expected)} tensors, {matched} match: "
            f"{'; '.join(lists)}. Name the architecture that was trained, or correct its --arch-arg."
        )
    network.load_state_dict(found, strict=True)


def _listed(keys: Mapping[str, str]) -> str:
    shown = ", ".join(f"'{key}' {text}" for key, text in list(keys.items())[:_LISTED])
    return shown if len(keys) <= _LISTED else f"{shown}, and {len(keys) - _LISTED} more"


def _dimensions(tensor: torch.Tensor) -> str:
    return str(list(tensor.shape))
