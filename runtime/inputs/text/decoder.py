"""Decoder of texts and pairs of texts: tokenized, cut and padded as in training."""

import bisect
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from runtime.artifact.open import Artifact
from runtime.errors import ArtifactError, DeviceError, InputError
from runtime.inputs.decoder import DecodedInput, Decoder, read_source
from runtime.inputs.encoding import check_unicode, decode_text
from runtime.inputs.json_size import check_json
from runtime.manifest import TextInput
from runtime.outputs.parts import to_parts

TextSource: TypeAlias = str | bytes | PathLike[str] | Sequence[str]

# The name of the graph's dimension that the tokens are.
LENGTH = "length"

# The warning of a text that is longer than the model allows.
TRUNCATED = "truncated"

# Tokenization takes about a microsecond per character: this is a second's work, and a book's length.
MAX_CHARACTERS = 1_000_000

INPUT_IDS = "input_ids"
ATTENTION_MASK = "attention_mask"
TOKEN_TYPE_IDS = "token_type_ids"  # noqa: S105  # the name of an array

# The number of texts among which the model looks for those of like length.
_BATCH = 32

# A call of the network costs about as much as 8 tokens (measured with MiniLM, 2 threads): texts whose lengths differ by
# an eighth, or by less than that, run faster together, the shorter ones padded.
_BOUNDS = [8, 12, 16, 20, 24, 28, 32]
while _BOUNDS[-1] < 2**17:
    _BOUNDS.append(_BOUNDS[-1] + max(4, _BOUNDS[-1] // 8))


@dataclass(frozen=True, kw_only=True)
class DecodedText(DecodedInput):
    """The tokens of one text: ``ids``, ``type_ids`` and ``mask`` int64 [length], special tokens included.

    ``encoding`` is what the tokenizers library made of ``text``, the first one of a pair.

    The mask is 0 for what the tokenizer itself pads a text with, whatever its batch.
    """

    ids: NDArray[np.int64]
    type_ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    text: str
    encoding: Any


class TextDecoder(Decoder):
    """Texts, tokenized by the tokenizers library on the host; the graph takes their token numbers.

    A prepared text is the decoded one. Texts of like length share a batch, where the model's scores do not depend on
    padding; otherwise those of equal length.
    """

    batch_size = _BATCH
    # Longer texts are cut, to a length that was compared.
    refuses_lengths = False

    def __init__(self, spec: TextInput, artifact: Artifact) -> None:
        self.spec = spec
        self._tokenizer = open_tokenizer(artifact.read(spec.tokenizer), artifact.path / spec.tokenizer)
        self.warnings = {
            TRUNCATED: f"longer than the {spec.max_length} tokens that this model takes, so it is cut there, as in "
            "training. Shorten it, or split it."
        }

    def is_list(self, inputs: object) -> bool:
        """Return whether it is a list or tuple, and not one pair of texts."""
        if not isinstance(inputs, list | tuple):
            return False
        return not (self.spec.pairs and _is_pair(inputs))

    def name(self, source: object, position: int) -> str:
        """Return the name of a text in messages and rows: a short text itself, a path, or the position."""
        text = " | ".join(source) if isinstance(source, list | tuple) and _is_pair(source) else source
        if isinstance(text, PathLike):
            return str(text)
        return text if isinstance(text, str) and 0 < len(text) <= 80 and text.isprintable() else f"#{position}"

    def decode(self, source: TextSource, *, subject: str) -> DecodedText:
        """Return the tokens of a text, or of a pair of texts where the model takes pairs.

        ``source`` is a string, a path to a text file, or the bytes of one; a pair is two strings, or a JSON list
        of two in a file. Raises InputError where it is none of these, is empty, or is longer than ``MAX_CHARACTERS``.
        """
        texts = self._texts(source, subject)
        try:
            encoding = self._tokenizer.encode(*texts)
        except Exception as error:  # the library raises plain Exception, as for a pair of which only one text is cut
            raise InputError(f"{subject}: cannot be tokenized: {error}. Shorten the text.") from error
        return DecodedText(
            ids=np.array(encoding.ids, dtype=np.int64),
            type_ids=np.array(encoding.type_ids, dtype=np.int64),
            mask=np.array(encoding.attention_mask, dtype=np.int64),
            text=texts[0],
            encoding=encoding,
            warning=TRUNCATED if encoding.overflowing else "",
        )

    def prepare(self, decoded: DecodedText) -> DecodedText:
        """Return the tokens."""
        return decoded

    def bucket(self, prepared: DecodedText) -> Hashable:
        """Return the length, rounded where padding is allowed."""
        return length_band(len(prepared.ids)) if self.spec.pad_id is not None else len(prepared.ids)

    def stack(self, prepared: Sequence[DecodedText]) -> dict[str, NDArray[Any]]:
        """Return ``input_ids``, ``attention_mask`` and ``token_type_ids``, those that the graph has.

        Each is int64 [batch, length], padded to the longest text of the batch on the tokenizer's own side.
        """
        lengths = [len(text.ids) for text in prepared]
        shape = (len(prepared), max(lengths))
        arrays = {
            INPUT_IDS: np.full(shape, self.spec.pad_id or 0, dtype=np.int64),
            ATTENTION_MASK: np.zeros(shape, dtype=np.int64),
            TOKEN_TYPE_IDS: np.full(shape, self.spec.pad_type_id, dtype=np.int64),
        }
        for row, (text, length) in enumerate(zip(prepared, lengths, strict=True)):
            columns = slice(0, length) if self.spec.padding_side == "right" else slice(shape[1] - length, None)
            arrays[INPUT_IDS][row, columns] = text.ids
            arrays[ATTENTION_MASK][row, columns] = text.mask
            arrays[TOKEN_TYPE_IDS][row, columns] = text.type_ids
        return {name: arrays[name] for name in self.spec.arrays}

    def check_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Raise InputError for negative numbers, which no tokenizer gives: a graph counts them from the end."""
        for name in self.spec.arrays:
            if name in arrays and (negative := np.argwhere(np.asarray(arrays[name]) < 0)).size:
                position = [int(index) for index in negative[0]]
                raise InputError(
                    f"inputs: no token: expected numbers from 0 on in '{name}', got a negative one at {position}. "
                    "Correct it."
                )

    def parts(self, prepared: DecodedText) -> dict[str, NDArray[Any]]:
        """Return the words of a text as its tokenizer splits it: pieces of one word are one part, by the first."""
        words: dict[int, tuple[int, int, int]] = {}
        encoding, text = prepared.encoding, prepared.text
        for piece, (word, (start, end)) in enumerate(zip(encoding.word_ids, encoding.offsets, strict=True)):
            if word is not None:
                first = words.get(word, (piece, start, end))
                words[word] = (first[0], min(first[1], start), max(first[2], end))
        # Some tokenizers count the blank before a word as a part of it.
        spans = [
            (piece, end - len(text[start:end].lstrip()), start + len(text[start:end].rstrip()))
            for piece, start, end in words.values()
            if text[start:end].strip()
        ]
        return to_parts([text[start:end] for _, start, end in spans], spans)

    def _texts(self, source: TextSource, subject: str) -> tuple[str, ...]:
        expected = "a pair of texts" if self.spec.pairs else "a text"
        value: Any = source
        if isinstance(source, PathLike | bytes | bytearray | memoryview):
            value = _read(source, subject)
            if self.spec.pairs:
                value = _pair_from_json(value, subject)
        texts = tuple(value) if isinstance(value, list | tuple) else (value,)
        if not all(isinstance(text, str) for text in texts):
            other = next(text for text in texts if not isinstance(text, str))
            raise InputError(
                f"{subject}: not {expected}: expected a string, got {type(other).__name__}. Convert it first."
            )
        if len(texts) != (2 if self.spec.pairs else 1):
            raise InputError(
                f"{subject}: not {expected}: expected {'two strings' if self.spec.pairs else 'one string'}, got "
                f"{len(texts)}. {'Pass (first, second)' if self.spec.pairs else 'Pass several texts as a list'}."
            )
        for text in texts:
            _check_text(text, subject)
        return texts


def open_tokenizer(data: bytes, path: Path) -> Any:
    """Return the tokenizer in a ``tokenizer.json``.

    Raises DeviceError where the tokenizers library is missing, ArtifactError where it cannot read the file.
    """
    if find_spec("tokenizers") is None:
        raise DeviceError(
            f"'{path.parent}': takes text, and the tokenizers library is not installed. Run: pip install "
            "'truecopy[text]'."
        )
    tokenizers = import_module("tokenizers")
    try:
        return tokenizers.Tokenizer.from_buffer(data)
    except Exception as error:  # the library raises plain Exception
        raise ArtifactError(
            f"'{path}': tokenizers {tokenizers.__version__} cannot read it: {str(error).rstrip('.')}. Install a newer "
            "one, or export the model again."
        ) from error


def length_band(length: int) -> int:
    """Return the longest length that shares a batch with ``length``: about an eighth more, and a few at least."""
    return _BOUNDS[min(bisect.bisect_left(_BOUNDS, length), len(_BOUNDS) - 1)]


def _is_pair(inputs: Sequence[object]) -> bool:
    return len(inputs) == 2 and all(isinstance(text, str) for text in inputs)


def _check_text(text: str, subject: str) -> None:
    if not text.strip():
        raise InputError(f"{subject}: empty: expected a text, got {len(text)} blank characters. Leave it out.")
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"{subject}: too long: expected at most {MAX_CHARACTERS} characters, got {len(text)}. Split it first."
        )
    check_unicode(text, subject)


def _read(source: PathLike[str] | bytes | bytearray | memoryview, subject: str) -> str:
    return decode_text(read_source(source, subject) if isinstance(source, PathLike) else bytes(source), subject)


def _pair_from_json(text: str, subject: str) -> Any:
    check_json(text, subject)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{subject}: not a pair of texts: expected a JSON list of two strings, got something else ({error}). "
            'Write it as ["first", "second"].'
        ) from error
