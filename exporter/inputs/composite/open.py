"""Adapter of an input of several parts, each opened by its own kind."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeAlias

from exporter.architectures.rebuild import RebuiltNetwork
from exporter.errors import ExportError
from exporter.inputs.adapter import InputPipeline
from exporter.inputs.composite.adapter import CompositeAdapter, Part
from exporter.inputs.composite.part_network import PartNetwork
from exporter.inputs.kind import InputKind
from exporter.options.export import ExportOptions
from exporter.options.parts import is_option_of_part
from runtime.artifact.open import Artifact
from runtime.inputs.registry import open_payload
from runtime.manifest import BATCH, Input

# Opens a single input: its adapter, and the kind that it is of.
OpenPart: TypeAlias = Callable[[ExportOptions, RebuiltNetwork], tuple[InputPipeline, InputKind]]


def open_adapter(options: ExportOptions, rebuilt: RebuiltNetwork, open_part: OpenPart) -> CompositeAdapter:
    """Return the adapter of all parts that the user described.

    Raises ExportError, which names the part, where one cannot be read or is of a kind that no part is.
    """
    parts: list[Part] = []
    for name in options.parts:
        with part_named(name):
            own = options.of_part(name)
            _check_kinds(own)
            view = replace(rebuilt, network=PartNetwork(rebuilt.network, name, lambda: parts))
            adapter, kind = open_part(own, view)
            if len(adapter.inputs) != 1:
                raise ExportError("several inputs: expected one per part. Make each a part of its own.")
            spec = adapter.inputs[0]
            if getattr(spec, "batch_axis", None):
                raise ExportError(
                    "the batch is not its first dimension, as it is in every part. Transpose it in the forward."
                )
            parts.append(Part(name=name, adapter=adapter, to_bytes=_encoder(kind, spec)))
    _check_dimensions(parts)
    return CompositeAdapter(parts)


def complete_options(options: ExportOptions, artifact: Artifact, kinds: Mapping[type[Any], InputKind]) -> ExportOptions:
    """Return ``options`` with what those of each part leave open, filled in from an artifact.

    Raises ExportError for parts of other names than the artifact's.
    """
    inputs = {spec.name: spec for spec in artifact.manifest.inputs}
    unknown = [name for name in options.parts if name not in inputs]
    if unknown:
        raise ExportError(
            f"--part: '{unknown[0]}': no part of '{artifact.manifest.name}': expected "
            f"{', '.join(map(repr, inputs))}. Correct the name."
        )
    abouts = [about for about in fields(type(options)) if is_option_of_part(about) or about.name == "tokenizer_input"]
    parts = {}
    for name, spec in inputs.items():
        with part_named(name):
            own = replace(options, parts={name: options.parts.get(name, {})}).of_part(name)
            completed = kinds[type(spec)].complete_options(own, spec, artifact)
        # The user's own description stands for the artifact's.
        completed = replace(completed, inputs=own.inputs or completed.inputs)
        parts[name] = {about.name: getattr(completed, about.name) for about in abouts}
    return replace(options, parts=parts)


def read_files(source: Any) -> Any:
    """Return an input whose parts are in memory: the bytes of files in the place of their paths."""
    if not isinstance(source, Mapping):
        return source
    return {name: part.read_bytes() if isinstance(part, Path) else part for name, part in source.items()}


@contextmanager
def part_named(name: str) -> Iterator[None]:
    """Name the part in the ExportErrors of the block."""
    try:
        yield
    except ExportError as error:
        raise type(error)(f"part '{name}': {error}") from error


def _check_kinds(options: ExportOptions) -> None:
    """Raise ExportError for a part of a kind that is only the input of a network as a whole."""
    if "tokens" in options.possible_kinds:
        raise ExportError(
            "token sequences are no part of an input. Describe an array of a fixed length, such as "
            f"--part '{options.part}.input=int64[batch,16]'."
        )


def _check_dimensions(parts: list[Part]) -> None:
    """Raise ExportError where two arrays have a length of one name: their cases are drawn apart."""
    owners: dict[str, str] = {}
    for part in parts:
        for dimension in getattr(part.spec, "shape", ()):
            first = owners.setdefault(dimension, part.name) if isinstance(dimension, str) else part.name
            if first != part.name and dimension != BATCH:
                raise ExportError(
                    f"part '{part.name}': dimension '{dimension}' is also one of part '{first}': expected lengths that "
                    "are a part's own. Rename it, or write its only length."
                )


def _encoder(kind: InputKind, spec: Input) -> Callable[[Any, str], bytes]:
    payload = open_payload([spec])

    def to_bytes(value: Any, subject: str) -> bytes:
        source = payload.from_json(value, subject)
        return source if isinstance(source, bytes) else kind.to_bytes(source, spec, subject)

    return to_bytes
