"""Decoder of several named inputs."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.inputs.decoder import DecodedInput, Decoder
from runtime.inputs.tensor.decoder import DecodedArray, TensorDecoder, read_arrays


@dataclass(frozen=True, kw_only=True)
class DecodedParts(DecodedInput):
    """The decoded inputs, in the manifest's order."""

    parts: tuple[DecodedInput, ...]


class CompositeDecoder(Decoder):
    """Mappings from input names to sources; a prepared input is a tuple of what the inputs' own decoders prepare."""

    def __init__(self, decoders: Mapping[str, Decoder]) -> None:
        self._decoders = decoders
        self.batch_size = min(decoder.batch_size for decoder in decoders.values())
        self.warnings = {key: text for decoder in decoders.values() for key, text in decoder.warnings.items()}

    def decode(self, source: Any, *, subject: str) -> DecodedParts:
        """Return the inputs, each decoded by its own kind.

        ``source`` is a mapping, or a path to an .npz or JSON file with one, or the bytes of such a file.
        """
        sources = read_arrays(source, subject) if isinstance(source, str | PathLike | bytes) else source
        names = ", ".join(f"'{name}'" for name in self._decoders)
        if not isinstance(sources, Mapping):
            raise InputError(
                f"{subject}: one input of several: expected {names} by name, got {type(sources).__name__}. "
                "Pass a dictionary, an .npz file or a JSON object."
            )
        if sources.keys() != self._decoders.keys():
            got = ", ".join(f"'{name}'" for name in sources) or "none"
            raise InputError(f"{subject}: wrong names: expected {names}, got {got}. Rename the inputs.")
        parts = tuple(decoder.decode(sources[name], subject=subject) for name, decoder in self._decoders.items())
        self._check_dimensions(parts, subject)
        return DecodedParts(parts=parts, warning=next((part.warning for part in parts if part.warning), ""))

    def lengths(self, decoded: DecodedParts) -> Mapping[str, int]:
        """Return the lengths of all inputs; those of one name are equal."""
        lengths: dict[str, int] = {}
        for decoder, part in zip(self._decoders.values(), decoded.parts, strict=True):
            lengths |= decoder.lengths(part)
        return lengths

    def prepare(self, decoded: DecodedParts) -> tuple[Any, ...]:
        """Return what each input's kind prepares."""
        return tuple(
            decoder.prepare(part) for decoder, part in zip(self._decoders.values(), decoded.parts, strict=True)
        )

    def bucket(self, prepared: tuple[Any, ...]) -> Hashable:
        """Return all of the inputs' keys."""
        return tuple(decoder.bucket(part) for decoder, part in zip(self._decoders.values(), prepared, strict=True))

    def stack(self, prepared: Sequence[tuple[Any, ...]]) -> dict[str, NDArray[Any]]:
        """Return all of the inputs' arrays."""
        arrays: dict[str, NDArray[Any]] = {}
        for index, decoder in enumerate(self._decoders.values()):
            arrays |= decoder.stack([parts[index] for parts in prepared])
        return arrays

    def raw_arrays(self, decoded: DecodedParts) -> dict[str, NDArray[Any]]:
        """Return all of the inputs' arrays, for a batch of one."""
        arrays: dict[str, NDArray[Any]] = {}
        for decoder, part in zip(self._decoders.values(), decoded.parts, strict=True):
            arrays |= decoder.raw_arrays(part)
        return arrays

    def check_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Raise InputError where one of the inputs' kinds does."""
        for decoder in self._decoders.values():
            decoder.check_arrays(arrays)

    def _check_dimensions(self, parts: tuple[DecodedInput, ...], subject: str) -> None:
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
