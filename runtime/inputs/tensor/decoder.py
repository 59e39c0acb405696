"""Decoder of arrays: numpy arrays, numbers, .npy, .npz and JSON files."""

import io
import json
import zipfile
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from runtime.artifact.open import Artifact
from runtime.errors import InputError
from runtime.inputs.decoder import DecodedInput, Decoder, read_source
from runtime.inputs.json_size import check_json
from runtime.manifest import TensorInput

ArraySource: TypeAlias = NDArray[Any] | str | PathLike[str] | bytes | float

_BATCH = 32

# A compressed .npz may unpack to any size: more than this is not one input.
_LIMIT_BYTES = 2**30

# Reading many small arrays takes far longer than their bytes; no model has as many inputs.
_MAX_ARRAYS = 1000
_ZIP_ENTRY = b"PK\x01\x02"


@dataclass(frozen=True, kw_only=True)
class DecodedArray(DecodedInput):
    """One input as the graph takes it, without the batch dimension."""

    array: NDArray[Any]


class TensorDecoder(Decoder):
    """One array per input; arrays of one shape may share a batch.

    A prepared input is the array without its batch dimension, in the manifest's dtype.
    """

    batch_size = _BATCH

    def __init__(self, spec: TensorInput, _artifact: Artifact | None = None) -> None:
        self.spec = spec

    def decode(self, source: ArraySource, *, subject: str) -> DecodedArray:
        """Return the array, checked.

        ``source`` is an array, with or without a batch dimension of 1; a number, for inputs without dimensions; a path
        to an .npy, .npz or .json file; or the bytes of one. An .npz holds this input under its name, or nothing else.
        """
        value = read_arrays(source, subject) if isinstance(source, str | PathLike | bytes) else source
        if isinstance(value, Mapping):
            value = self._choose(value, subject)
        return DecodedArray(array=self._to_array(value, subject))

    def lengths(self, decoded: DecodedArray) -> Mapping[str, int]:
        """Return the lengths of the named dimensions."""
        sizes = zip(self.spec.shape[1:], decoded.array.shape, strict=True)
        return {name: length for name, length in sizes if isinstance(name, str)}

    def prepare(self, decoded: DecodedArray) -> NDArray[Any]:
        """Return the array."""
        return decoded.array

    def bucket(self, prepared: NDArray[Any]) -> Hashable:
        """Return its shape."""
        return prepared.shape

    def stack(self, prepared: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the arrays in one batch, [batch, ...]."""
        return {self.spec.name: np.stack(prepared)}

    def check_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Raise InputError for NaN, infinity and negative indices in this input's batch, where they are rejected."""
        if self.spec.name in arrays:
            self._check_values(np.asarray(arrays[self.spec.name]), "inputs")

    def _choose(self, arrays: Mapping[str, Any], subject: str) -> Any:
        if self.spec.name in arrays:
            return arrays[self.spec.name]
        if len(arrays) == 1:
            return next(iter(arrays.values()))
        raise InputError(
            f"{subject}: several arrays: expected one called '{self.spec.name}', got "
            f"{', '.join(repr(str(name)) for name in arrays) or 'none'}. Name the array '{self.spec.name}'."
        )

    def _to_array(self, source: Any, subject: str) -> NDArray[Any]:
        shape = self.spec.shape[1:]
        if isinstance(source, np.ndarray | np.generic):
            # Files of other processors may have the bytes of each number in reverse.
            array = np.asarray(source, dtype=source.dtype.newbyteorder("="))
            if array.dtype != self.spec.dtype:
                raise InputError(self._wrong(subject, array))
        else:
            array = from_numbers(source, np.dtype(self.spec.dtype), subject, self.spec.name)
        if array.ndim == len(shape) + 1 and len(array) == 1:
            array = array[0]
        fits = array.ndim == len(shape) and all(
            size == length if isinstance(length, int) else size > 0
            for size, length in zip(array.shape, shape, strict=True)
        )
        if not fits:
            raise InputError(self._wrong(subject, array))
        self._check_values(array, subject)
        return np.asarray(array, order="C")

    def _check_values(self, array: NDArray[Any], subject: str) -> None:
        if self.spec.finite and array.dtype.kind == "f" and not np.isfinite(array).all():
            position = [int(index) for index in np.argwhere(~np.isfinite(array))[0]]
            raise InputError(
                f"{subject}: not a number: expected finite values in '{self.spec.name}', got {array[tuple(position)]} "
                f"at {position}. Replace it."
            )
        if not isinstance(self.spec.not_negative, tuple):
            return
        values = np.atleast_1d(array)
        negative = np.argwhere((values <= -1) & np.array(self.spec.not_negative))
        if len(negative):
            position = [int(index) for index in negative[0]]
            raise InputError(
                f"{subject}: out of range: expected no negative number in '{self.spec.name}', as it is an index, got "
                f"{values[tuple(position)]} at {position}. Correct it."
            )

    def _wrong(self, subject: str, array: NDArray[Any]) -> str:
        shape = "[" + ", ".join(str(length) for length in self.spec.shape[1:]) + "]"
        return (
            f"{subject}: wrong array for '{self.spec.name}': expected {self.spec.dtype} {shape}, got {array.dtype} "
            f"{list(array.shape)}. Convert it; pass several inputs as a list."
        )


def read_arrays(source: str | PathLike[str] | bytes, subject: str) -> Any:
    """Return the content of an .npy, .npz or JSON file, or of its bytes: an array, arrays by name, or plain numbers.

    Raises InputError when it is none of these, or unpacks to more than a gigabyte.
    """
    data = source if isinstance(source, bytes) else read_source(source, subject)
    try:
        if data.startswith(b"\x93NUMPY"):
            return np.load(io.BytesIO(data), allow_pickle=False)
        if data.startswith(b"PK"):
            if (count := data.count(_ZIP_ENTRY)) > _MAX_ARRAYS:
                raise InputError(
                    f"{subject}: too many arrays: expected at most {_MAX_ARRAYS}, got {count}. Keep those of the model."
                )
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                size = sum(member.file_size for member in archive.infolist())
            if size > _LIMIT_BYTES:
                raise InputError(
                    f"{subject}: unpacks to too much: expected at most {_LIMIT_BYTES} bytes, got {size}. Split it."
                )
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        check_json(data, subject)
        return json.loads(data)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # damage surfaces as whatever the bytes lead a reader to do
        raise InputError(
            f"{subject}: not an array: expected .npy, .npz or JSON, got something else ({error}). Convert it first."
        ) from error


def from_numbers(source: Any, dtype: np.dtype[Any], subject: str, name: str) -> NDArray[Any]:
    """Return plain numbers, nested as JSON has them, as an array, if they are numbers that ``dtype`` has."""
    if hasattr(source, "detach"):  # a tensor of PyTorch, which needs not be installed
        source = source.detach().cpu()
    try:
        array = np.array(source)
    except ValueError:  # rows of different lengths
        array = np.array(None)
    if array.size and array.dtype.kind not in ("b" if dtype.kind == "b" else "iu" if dtype.kind in "iu" else "fiu"):
        what = f"{type(source).__name__}" if array.dtype.kind == "O" and not array.ndim else f"{array.dtype} values"
        raise InputError(
            f"{subject}: wrong values for '{name}': expected {dtype} numbers in rows of one length, got {what}. "
            "Convert them first."
        )
    with np.errstate(over="ignore"):
        converted = array.astype(dtype)
    changed = converted != array
    if dtype.kind in "iu" and changed.any():
        raise InputError(
            f"{subject}: out of range for '{name}': expected values that {dtype} has, got {array[changed][0]}. "
            "Correct it."
        )
    return converted
