"""Interface of an input kind of an export."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from exporter.architectures.rebuild import RebuiltNetwork
from exporter.inputs.adapter import InputAdapter
from exporter.recipe import ExportOptions, TaskOptions
from runtime.artifact.open import Artifact


def _keep_task_options(options: TaskOptions, _adapter: Any, _network: nn.Module, _value: Any) -> TaskOptions:
    return options


@dataclass(frozen=True, kw_only=True)
class InputKind:
    """One input kind of an export.

    ``matches`` returns whether the options, or the network itself, asks for this kind. ``open_adapter`` returns its
    adapter; it raises ExportError where the options do not fit the kind. ``complete_options`` fills in what
    the options leave open from an artifact and its input. ``to_bytes`` returns an input as a case has it, given the
    manifest's input and a name for messages. ``infer_task_options`` completes the task options from the adapter, the
    network and what the network's forward returned.
    """

    matches: Callable[[ExportOptions, RebuiltNetwork], bool]
    open_adapter: Callable[[ExportOptions, RebuiltNetwork], InputAdapter]
    complete_options: Callable[[ExportOptions, Any, Artifact], ExportOptions]
    to_bytes: Callable[[Any, Any, str], bytes]
    infer_task_options: Callable[[TaskOptions, Any, nn.Module, Any], TaskOptions] = _keep_task_options
