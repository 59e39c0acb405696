"""Decoder of inputs of several parts, each of a kind of its own."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.inputs.composite.naming import (
    dimension_name,
    name_tensors,
    own_tensors,
    part_errors,
    part_subject,
    tensor_name,
)
from runtime.inputs.composite.payload import is_object
from runtime.inputs.composite.source import sources_of
from runtime.inputs.decoder import DecodedInput, Decoder, input_border, read_source, read_stream
from runtime.inputs.encoding import decode_text
from runtime.inputs.json_size import json_reason
from runtime.inputs.payload import Payload
from runtime.inputs.source import SourceFormat
from runtime.inputs.tensor.decoder import DecodedArray, TensorDecoder, read_arrays
from runtime.manifest import BATCH


@dataclass(frozen=True, kw_only=True)
class DecodedParts(DecodedInput):
    """The decoded parts, in the manifest's order."""

    parts: tuple[DecodedInput, ...]


class CompositeDecoder(Decoder):
    """Mappings from the names of parts to sources; a prepared input is a tuple of what the parts' decoders prepare.

    ``payload`` says what the parts are in JSON, ``formats`` what each is in a file.
    """

    def __init__(self, decoders: Mapping[str, Decoder], payload: Payload, formats: Mapping[str, SourceFormat]) -> None:
        self._decoders = decoders
        self._payload = payload
        self._formats = formats
        self.batch_size = min(decoder.batch_size for decoder in decoders.values())
        self.warnings = {key: text for decoder in decoders.values() for key, text in decoder.warnings.items()}
        self.refuses_lengths = any(decoder.refuses_lengths for decoder in decoders.values())
        self.raw_names = frozenset(
            tensor_name(part, name) for part, decoder in decoders.items() for name in decoder.raw_names
        )
        # Dimensions of arrays have the user's own names, and those of one name are one over all parts.
        self._refused = {
            dimension
            for decoder in decoders.values()
            if isinstance(decoder, TensorDecoder)
            for dimension in decoder.spec.shape
            if isinstance(dimension, str)
        }

    def decode(self, source: Any, *, subject: str) -> DecodedParts:
        """Return the parts, each decoded by its own kind.

        ``source`` is a mapping, in which files are paths; a path of a JSON file with one, whose paths are relative to
        its folder, or of an .npz file; or the bytes of an .npz file, or of a JSON object as requests have it.
        """
        sources = self._read(source, subject) if isinstance(source, str | PathLike | bytes) else source
        names = ", ".join(f"'{name}'" for name in self._decoders)
        if not isinstance(sources, Mapping):
            raise InputError(
                f"{subject}: one input of several parts: expected {names} by name, got {type(sources).__name__}. "
                "Pass a dictionary or a JSON object."
            )
        for name in self._decoders:
            if name not in sources:
                got = ", ".join(f"'{name}'" for name in sources) or "none"
                raise InputError(f"{part_subject(subject, name)}: missing: expected {names}, got {got:.200}. Add it.")
        for name in sources:
            if name not in self._decoders:
                raise InputError(
                    f"{subject}: part '{str(name)[:80]}': unknown: expected {names}. Rename it, or leave it out."
                )
        parts = []
        for name, decoder in self._decoders.items():
            named = part_subject(subject, name)
            with input_border(named):
                if isinstance(sources[name], InputError):
                    raise sources[name]
                parts.append(decoder.decode(read_stream(sources[name], named), subject=named))
        self._check_dimensions(parts, subject)
        return DecodedParts(parts=tuple(parts), warning=next((part.warning for part in parts if part.warning), ""))

    def lengths(self, decoded: DecodedParts) -> Mapping[str, int]:
        """Return the lengths of all parts; those of arrays that have one name are equal."""
        lengths: dict[str, int] = {}
        for (name, decoder), part in zip(self._decoders.items(), decoded.parts, strict=True):
            own = decoder.lengths(part)
            shared = isinstance(decoder, TensorDecoder)
            lengths |= {key if shared else dimension_name(name, key): length for key, length in own.items()}
        return lengths

    def refuses_length(self, dimension: str) -> bool:
        """Return whether the part that the dimension is of refuses lengths that were not compared."""
        if dimension == BATCH or dimension in self._refused:
            return self.refuses_lengths
        return any(
            decoder.refuses_lengths
            for name, decoder in self._decoders.items()
            if dimension.startswith(dimension_name(name, ""))
        )

    def prepare(self, decoded: DecodedParts) -> tuple[Any, ...]:
        """Return what each part's kind prepares."""
        return tuple(
            decoder.prepare(part) for decoder, part in zip(self._decoders.values(), decoded.parts, strict=True)
        )

    def bucket(self, prepared: tuple[Any, ...]) -> Hashable:
        """Return all of the parts' keys."""
        return tuple(decoder.bucket(part) for decoder, part in zip(self._decoders.values(), prepared, strict=True))

    def stack(self, prepared: Sequence[tuple[Any, ...]]) -> dict[str, NDArray[Any]]:
        """Return all of the parts' arrays."""
        arrays: dict[str, NDArray[Any]] = {}
        for index, (name, decoder) in enumerate(self._decoders.items()):
            arrays |= name_tensors(name, decoder.stack([parts[index] for parts in prepared]))
        return arrays

    def raw_arrays(self, decoded: DecodedParts) -> dict[str, NDArray[Any]]:
        """Return all of the parts' arrays, for a batch of one."""
        arrays: dict[str, NDArray[Any]] = {}
        for (name, decoder), part in zip(self._decoders.items(), decoded.parts, strict=True):
            arrays |= name_tensors(name, decoder.raw_arrays(part))
        return arrays

    def check_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Raise InputError where one of the parts' kinds does."""
        for name, decoder in self._decoders.items():
            with part_errors(name):
                decoder.check_arrays(own_tensors(name, arrays))

    def _read(self, source: str | PathLike[str] | bytes, subject: str) -> Any:
        """Return the parts that a file has, or its bytes: these are as requests have them, without paths."""
        data = source if isinstance(source, bytes) else read_source(source, subject)
        if not is_object(data):
            return read_arrays(data, subject)
        if isinstance(source, bytes):
            return self._payload.from_file(data, subject)
        return sources_of(_read_object(data, subject), self._formats, folder=Path(source).parent)

    def _check_dimensions(self, parts: Sequence[DecodedInput], subject: str) -> None:
        """Raise InputError where dimensions of one name have different lengths."""
        lengths: dict[str, tuple[int, str]] = {}
        for (name, decoder), part in zip(self._decoders.items(), parts, strict=True):
            if not isinstance(decoder, TensorDecoder) or not isinstance(part, DecodedArray):
                continue
            for dimension, length in zip(decoder.spec.shape[1:], part.array.shape, strict=True):
                if not isinstance(dimension, str):
                    continue
                first_length, first_name = lengths.setdefault(dimension, (length, name))
                if first_length != length:
                    raise InputError(
                        f"{subject}: dimension '{dimension}' has two lengths: expected the {first_length} of "
                        f"'{first_name}' in '{name}', got {length}. Make them agree."
                    )


def _read_object(data: bytes, subject: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(decode_text(data, subject), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        reason = json_reason(error, data)
        raise InputError(f"{subject}: not a JSON object with the parts by name: {reason}. Write it again.") from None
