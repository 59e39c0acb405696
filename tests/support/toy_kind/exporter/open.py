"""Point adapter of an export, from ``--input NAME=point``."""

from dataclasses import replace
from typing import Any

from support.toy_kind.exporter.adapter import PointAdapter, to_bytes
from support.toy_kind.manifest import PointInput

from exporter.architectures.rebuild import RebuiltNetwork
from exporter.inputs.kind import InputKind
from exporter.options.export import ExportOptions
from runtime.artifact.open import Artifact


def matches(options: ExportOptions, _rebuilt: RebuiltNetwork) -> bool:
    """Return whether the user described a point."""
    return len(options.inputs) == 1 and options.inputs[0].endswith("=point")


def open_adapter(options: ExportOptions, _rebuilt: RebuiltNetwork) -> PointAdapter:
    """Return the adapter of the described point."""
    return PointAdapter(options.inputs[0].removesuffix("=point"))


def complete_options(options: ExportOptions, spec: PointInput, _artifact: Artifact) -> ExportOptions:
    """Return ``options`` with the description of an artifact's point."""
    return replace(options, inputs=(*options.inputs, f"{spec.name}=point"))


def encode(source: Any, _spec: PointInput, _subject: str) -> bytes:
    """Return a point as files have it."""
    return to_bytes(source)


KIND = InputKind(matches=matches, open_adapter=open_adapter, complete_options=complete_options, to_bytes=encode)
