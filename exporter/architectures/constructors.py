"""Constructors of networks: downloads that are left out, and why they fail."""

import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import _IncompatibleKeys
from torchvision.models import WeightsEnum

from exporter.errors import NO_CUDA, line_of
from exporter.object_path import failures_of

# What messages of a failed constructor say of the cause, and what to do about it.
_CAUSES = (
    (
        r"unparsedflag",
        "its flags are not parsed, as absl.app.run does it",
        "Let it take their values as parameters with defaults, or parse none at the top of its file: FLAGS(['train']).",
    ),
    (
        NO_CUDA,
        "it asks for a CUDA device, which is not here",
        "Leave .cuda() and .to('cuda') out of its constructor: the export puts it where it belongs.",
    ),
    (
        r"urlopen|connectionerror|connect to|your connection|name resolution|not known|offline mode|max retries",
        "it downloads something, which failed",
        (
            "Build it without pretrained weights, as with weights=None, pretrained=False or transformers' "
            "AutoModel.from_config(config): the checkpoint's are loaded."
        ),
    ),
    (
        r"no such file|cannot find the file",
        "it reads a file that is not here",
        "Run from the folder that holds it; or leave it out of the constructor where the checkpoint has the weights.",
    ),
)


class _Overwritten(dict[str, Any]):
    """In place of a state dict that would be downloaded: every network takes it, and keeps its own values."""


@contextmanager
def without_downloads() -> Iterator[None]:
    """Leave out what constructors download of pretrained weights by torch.hub, torchvision and timm.

    The checkpoint's weights take the place of all of them.
    """
    load = nn.Module.load_state_dict

    def load_unless_overwritten(network: nn.Module, state_dict: Any, *more: Any, **named: Any) -> Any:
        if isinstance(state_dict, _Overwritten):
            return _IncompatibleKeys([], [])
        return load(network, state_dict, *more, **named)

    def nothing(*_arguments: Any, **_named: Any) -> _Overwritten:
        return _Overwritten()

    with ExitStack() as stack:
        stack.enter_context(_replaced(nn.Module, "load_state_dict", load_unless_overwritten))
        stack.enter_context(_replaced(torch.hub, "load_state_dict_from_url", nothing))
        stack.enter_context(_replaced(WeightsEnum, "get_state_dict", nothing))
        builder = sys.modules.get("timm.models._builder")
        if builder is not None:
            stack.enter_context(_replaced(builder, "load_pretrained", nothing))
        yield


def describe_failure(error: Exception, signature: str) -> str:
    """Return why a constructor with the parameters ``signature`` failed, and what to do, as two sentences."""
    message, line = f"{type(error).__name__}: {str(error).rstrip('.')}", line_of(error)
    where = f" ({line})" if line else ""
    failure = _failure_before(error)
    if failure:
        return (
            f"{message}{where}: {failure}. Let it take that as a parameter, and pass this with --arch-arg NAME=VALUE."
        )
    if _is_in_hub(error):
        return (
            f"torch.hub fetches the source of a network, which failed: {message}{where}. Build it from an installed "
            "package, such as torchvision.models or timm, or from a copy: torch.hub.load(FOLDER, ..., source='local')."
        )
    for pattern, cause, remedy in _CAUSES:
        if re.search(pattern, message, re.IGNORECASE):
            return f"{cause}: {message}{where}. {remedy}"
    return (
        f"{message}{where}. Its arguments are {signature}; pass each as JSON with --arch-arg NAME=VALUE, such as "
        """width=64 or 'cfg={"width": 64}'."""
    )


def _failure_before(error: Exception) -> str:
    """Return what failed in the source of a function that misses a name; empty where nothing did."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)] if isinstance(error, NameError) else []
    failures = failures_of(frames[-1].f_globals) if frames else ()
    return f"{failures[0]} when its file was run" if failures else ""


def _is_in_hub(error: Exception) -> bool:
    """Return whether an error is of ``torch.hub.load``, which downloads source."""
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    return torch.hub.load.__code__ in codes


@contextmanager
def _replaced(owner: Any, name: str, value: Callable[..., Any]) -> Iterator[None]:
    own = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, own)
