"""Interface of an input kind of an export."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from exporter.architectures.rebuild import RebuiltNetwork
from exporter.inputs.adapter import InputPipeline
from exporter.options.export import ExportOptions
from runtime.artifact.open import Artifact


@dataclass(frozen=True, kw_only=True)
class InputKind:
    """One input kind of an export.

    ``matches`` returns whether the options, or the network itself, asks for this kind. ``open_adapter`` returns its
    adapter; it raises ExportError where the options do not fit the kind. ``complete_options`` fills in what
    the options leave open from an artifact and its input. ``to_bytes`` returns an input as a case has it, given the
    manifest's input and a name for messages. ``takes_several`` kinds are described with one option for all inputs.
    """

    matches: Callable[[ExportOptions, RebuiltNetwork], bool]
    open_adapter: Callable[[ExportOptions, RebuiltNetwork], InputPipeline]
    complete_options: Callable[[ExportOptions, Any, Artifact], ExportOptions]
    to_bytes: Callable[[Any, Any, str], bytes]
    takes_several: bool = False
