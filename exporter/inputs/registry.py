"""Registry of the input kinds that a network can take."""

from pathlib import Path
from typing import Any

from exporter.architectures.rebuild import RebuiltNetwork
from exporter.inputs.adapter import InputPipeline
from exporter.inputs.image import open as image
from exporter.inputs.kind import InputKind
from exporter.inputs.tabular import open as tabular
from exporter.inputs.tensor import open as tensor
from exporter.inputs.text import open as text
from exporter.inputs.tokens import open as tokens
from exporter.options.export import ExportOptions
from runtime.inputs.decoder import read_source
from runtime.manifest import ImageInput, Manifest, TabularInput, TensorInput, TextInput, TokensInput

# By the manifest's type, in order of precedence: the first that matches is the network's. Images match everything.
INPUT_KINDS: dict[type[Any], InputKind] = {
    TextInput: text.KIND,
    TokensInput: tokens.KIND,
    TabularInput: tabular.KIND,
    TensorInput: tensor.KIND,
    ImageInput: image.KIND,
}


def open_adapter(options: ExportOptions, rebuilt: RebuiltNetwork) -> InputPipeline:
    """Return the adapter of the input kind that the user described, or that the network is for; images otherwise.

    Raises ExportError when the options cannot be read, or do not fit the kind.
    """
    tokens.check_described(options, rebuilt)
    spec, kind = next((spec, kind) for spec, kind in INPUT_KINDS.items() if kind.matches(options, rebuilt))
    options.check(kinds=(str(spec.__struct_config__.tag),))
    return kind.open_adapter(options, rebuilt)


def to_bytes(source: Any, manifest: Manifest) -> bytes:
    """Return an input in its encoded form, as a case has it: a path's bytes, bytes as they are, or a value encoded."""
    if isinstance(source, bytes):
        return source
    if isinstance(source, Path):
        return read_source(source, f"'{source}'")
    spec = manifest.inputs[0]
    return INPUT_KINDS[type(spec)].to_bytes(source, spec, manifest.name)
