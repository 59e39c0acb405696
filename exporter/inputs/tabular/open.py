"""Row adapter of an export, from the fitted transform in --preprocess."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from exporter.architectures.rebuild import RebuiltNetwork
from exporter.errors import ExportError
from exporter.inputs.kind import InputKind
from exporter.inputs.tabular import is_table_transform, read_table_transform
from exporter.inputs.tabular.adapter import TabularAdapter, cell_of
from exporter.options.export import ExportOptions
from runtime.artifact.open import Artifact
from runtime.manifest import TabularInput


def matches(options: ExportOptions, _rebuilt: RebuiltNetwork) -> bool:
    """Return whether the user's transform was fitted on the columns of a table."""
    return is_table_transform(options.preprocess)


def open_adapter(options: ExportOptions, _rebuilt: RebuiltNetwork) -> TabularAdapter:
    """Return the adapter of the user's transform; raises ExportError where it cannot be read."""
    transform = read_table_transform(options.preprocess, columns=options.columns, trust=options.trust)
    return TabularAdapter(transform, samples=options.samples)


def complete_options(options: ExportOptions, spec: TabularInput, artifact: Artifact) -> ExportOptions:
    """Return ``options`` with the names of an artifact's columns.

    Raises ExportError where the options has no transform: the artifact has it as a graph alone, which cannot be its own
    reference.
    """
    if options.preprocess is None:
        raise ExportError(
            f"'{artifact.path}': takes rows: expected the transform that was fitted on them, which the "
            "artifact has as a graph alone, got none. Give it with --preprocess."
        )
    return replace(options, columns=options.columns or tuple(column.name for column in spec.columns))


def to_bytes(source: Mapping[str, Any], spec: TabularInput, subject: str) -> bytes:
    """Return a row as a JSON object, with the cells that the transform was fitted on."""
    row = {column.name: cell_of(column, source[column.name], subject) for column in spec.columns}
    return json.dumps(row).encode()


KIND = InputKind(
    matches=matches,
    open_adapter=open_adapter,
    complete_options=complete_options,
    to_bytes=to_bytes,
)
