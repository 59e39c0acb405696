"""Decoder of token sequences: whole numbers, or words of a vocabulary."""

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from runtime.artifact.open import Artifact
from runtime.errors import ArtifactError, InputError
from runtime.inputs.decoder import DecodedInput, Decoder, read_source
from runtime.inputs.encoding import decode_text
from runtime.inputs.json_size import check_json
from runtime.inputs.tensor.decoder import read_arrays
from runtime.inputs.text.decoder import LENGTH, length_band
from runtime.manifest import DerivedInput, TokensInput

TokensSource: TypeAlias = Sequence[int] | Sequence[str] | NDArray[np.integer[Any]] | str | PathLike[str] | bytes

_BATCH = 32

# int64 has 18 digits for certain; int() refuses thousands of them.
_NUMBER = re.compile(r"[+-]?\d{1,18}")
_NUMBERS = re.compile(rf"{_NUMBER.pattern}([\s,]+{_NUMBER.pattern})*")


@dataclass(frozen=True, kw_only=True)
class DecodedTokens(DecodedInput):
    """One sequence, int64 [length]."""

    tokens: NDArray[np.int64]


class TokensDecoder(Decoder):
    """Sequences of token numbers, each from 0 up to the vocabulary's size, exclusive.

    A prepared sequence is int64 [length]. Sequences of like length share a batch, the shorter ones padded at their end,
    where the model's scores do not depend on it; otherwise those of equal length.
    """

    batch_size = _BATCH

    def __init__(self, spec: TokensInput, artifact: Artifact) -> None:
        self.spec = spec
        self._numbers: dict[str, int] = {}
        self._unknown: int | None = None
        if spec.vocabulary:
            words = artifact.read(spec.vocabulary).decode("utf-8").splitlines()
            self._numbers = {word: number for number, word in enumerate(words)}
        if spec.unknown:
            if spec.unknown not in self._numbers:
                raise ArtifactError(
                    f"'{spec.vocabulary}': lacks its own unknown word '{spec.unknown:.80}'. Export the model again."
                )
            self._unknown = self._numbers[spec.unknown]

    def is_list(self, inputs: object) -> bool:
        """Return whether it is a list or tuple of sequences, and not of tokens."""
        if not isinstance(inputs, list | tuple):
            return False
        return not inputs or not all(self._is_token(token) for token in inputs)

    def name(self, source: object, position: int) -> str:
        """Return the name of a sequence in messages and rows: a short text itself, a path, or the position."""
        if isinstance(source, PathLike):
            return str(source)
        return source if isinstance(source, str) and 0 < len(source) <= 80 and source.isprintable() else f"#{position}"

    def decode(self, source: TokensSource, *, subject: str) -> DecodedTokens:
        """Return the sequence, checked.

        ``source`` is a list or one-dimensional array of whole numbers, or of words where there is a vocabulary; a
        string of them, with blanks between; a path to a .npy or .json file, or the bytes of one.
        """
        value: Any = source
        if isinstance(source, PathLike | bytes):
            value = _read(source, subject)
        if isinstance(value, str):
            text = value.strip()
            # With a word for unknown ones, a number in a text is a word like any other.
            numbers = self._unknown is None and _NUMBERS.fullmatch(text)
            value = [int(part) for part in re.split(r"[\s,]+", text)] if numbers else text.split()
        if isinstance(value, list | tuple) and any(isinstance(token, str) for token in value):
            value = [self._to_number(token, position, subject) for position, token in enumerate(value)]
        return DecodedTokens(tokens=self._to_array(value, subject))

    def lengths(self, decoded: DecodedTokens) -> Mapping[str, int]:
        """Return the number of tokens."""
        return {LENGTH: len(decoded.tokens)}

    def prepare(self, decoded: DecodedTokens) -> NDArray[np.int64]:
        """Return the sequence."""
        return decoded.tokens

    def bucket(self, prepared: NDArray[np.int64]) -> Hashable:
        """Return the length, rounded where padding is allowed."""
        return length_band(len(prepared)) if self.spec.pad_id is not None else len(prepared)

    def stack(self, prepared: Sequence[NDArray[np.int64]]) -> dict[str, NDArray[Any]]:
        """Return the sequences as one array, int64 [batch, length]."""
        shape = (len(prepared), max(map(len, prepared)))
        tokens = np.full(shape, self.spec.pad_id or 0, dtype=np.int64)
        for row, sequence in enumerate(prepared):
            tokens[row, : len(sequence)] = sequence
        return {
            self.spec.name: tokens,
            **derived_inputs(self.spec.derived_inputs, [len(sequence) for sequence in prepared]),
        }

    def _is_token(self, value: object) -> bool:
        """Return whether ``value`` is one token: a number, or a word of the vocabulary."""
        if isinstance(value, str):
            return self._find(value) is not None and len(value.split()) == 1
        return isinstance(value, int | float | np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0)

    def _to_number(self, token: object, position: int, subject: str) -> Any:
        """Return a token of a sequence with words as a number; without a vocabulary, words may be written numbers."""
        if not self._numbers:
            if not isinstance(token, str):
                return token
            if _NUMBER.fullmatch(token):
                return int(token)
            raise InputError(
                f"{subject}: not a token: expected whole numbers of at most 18 digits, as this model has no "
                f"vocabulary, got {token!r:.80} at position {position}. Look the words up first."
            )
        number = self._find(token) if isinstance(token, str) else None
        if number is None:
            raise InputError(
                f"{subject}: not a token: expected one of the {len(self._numbers)} words of '{self.spec.vocabulary}', "
                f"got {token!r:.80} at position {position}. Correct it."
            )
        return number

    def _find(self, word: str) -> int | None:
        """Return the number of a word: that of the unknown word where the vocabulary lacks it; None without one."""
        return self._numbers.get(word.lower() if self.spec.lowercase else word, self._unknown)

    def _to_array(self, value: Any, subject: str) -> NDArray[np.int64]:
        try:
            array = np.asarray(value)
        except ValueError:  # rows of different lengths
            array = np.array(None)
        if array.ndim == 2 and len(array) == 1:
            array = array[0]
        if not array.size:
            raise InputError(f"{subject}: empty: expected one token or more, got none. Leave it out.")
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise InputError(
                f"{subject}: not a token sequence: expected whole numbers [length], got {array.dtype} "
                f"{list(array.shape)}. Convert it; pass several sequences as a list."
            )
        longest = self.spec.max_length
        if longest is not None and len(array) > longest:
            raise InputError(
                f"{subject}: too long: expected at most {longest} tokens, got {len(array)}. Shorten it, or split it."
            )
        self._check_vocabulary(array, subject)
        return array.astype(np.int64)

    def check_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Raise InputError for tokens outside the vocabulary: a graph counts negative ones from its end."""
        if self.spec.name in arrays:
            for row in np.atleast_2d(arrays[self.spec.name]):
                self._check_vocabulary(row, "inputs")

    def _check_vocabulary(self, array: NDArray[Any], subject: str) -> None:
        outside = (array < 0) | (array >= self.spec.vocabulary_size)
        if outside.any():
            position = int(np.argmax(outside))
            raise InputError(
                f"{subject}: token outside the vocabulary: expected numbers from 0 to {self.spec.vocabulary_size - 1}, "
                f"got {array[position]} at position {position}. Use the vocabulary of training."
            )


def derived_inputs(kinds: Mapping[str, DerivedInput], lengths: Sequence[int]) -> dict[str, NDArray[Any]]:
    """Return the derived inputs, by name, of sequences of these lengths, of which the longest fills the array."""
    counts = np.array(lengths, dtype=np.int64)
    is_token = np.arange(int(counts.max())) < counts[:, np.newaxis]
    arrays = {"lengths": counts, "mask": is_token.astype(np.int64), "padding": ~is_token}
    return {name: arrays[kind] for name, kind in kinds.items()}


def _read(source: PathLike[str] | bytes, subject: str) -> Any:
    """Return the content of a file, or of its bytes: an array, a JSON list, or else a text."""
    data = read_source(source, subject) if isinstance(source, PathLike) else source
    if data.startswith((b"\x93NUMPY", b"PK")):
        return read_arrays(data, subject)
    text = decode_text(data, subject)
    check_json(text, subject)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    # A text of one word may be JSON as well, such as a number, or null.
    return text if value is None or isinstance(value, int | float) else value
