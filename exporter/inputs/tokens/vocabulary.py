"""Vocabularies of token sequences: their words, and what becomes of words that they lack."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from exporter.errors import ExportError, PreprocessingError, one_line
from exporter.object_path import load_object
from exporter.outputs.labels import PADDING_WORDS, UNKNOWN_WORDS, read_vocabulary

# No language has it.
_NO_WORD = "zqxjkvwz"

# How many words a text has that the user's function shows, and how many words of a vocabulary are in such texts.
_WORDS = 9
_MOST_WORDS = 900


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The words, in the order of their token numbers.

    ``unknown`` is its word for those that it lacks, None without one; ``lowercase`` says that words are put into
    lower case before they are looked up; ``padding`` is the number of its padding word. ``encode`` is the user's own
    function from a text to token numbers, which proves all this; ``assumptions`` are sentences on what is not proven.
    """

    words: Sequence[str] = ()
    unknown: str | None = None
    lowercase: bool = False
    padding: int | None = None
    encode: Callable[[str], list[int]] | None = None
    assumptions: tuple[str, ...] = ()

    @property
    def plain(self) -> list[str]:
        """The words that stand for themselves; all of them where there is no such one."""
        special = {*UNKNOWN_WORDS, *PADDING_WORDS, self.unknown}
        return [word for word in self.words if word not in special] or list(self.words)

    def texts(self, shortest: int, longest: int) -> tuple[str, ...]:
        """Return texts of such numbers of words, which the user's function shows the use of; none without a function.

        They have the first words of the vocabulary, and where there is an unknown word also what no vocabulary has,
        other cases and punctuation: a function that splits or drops that gives other tokens.
        """
        if self.encode is None:
            return ()
        words = self.plain
        count = min(max(_WORDS, shortest), longest)
        rows = [words[start : start + count] for start in range(0, min(len(words), _MOST_WORDS), count)]
        rows += [words[:1], words[-1:], list(reversed(words[:count]))]
        if self.unknown is not None:
            rows += [[_NO_WORD], [words[0], _NO_WORD, words[-1]], [words[0].title()], [words[-1].upper()]]
            rows += [[f"{words[0]},", f"{words[-1]}."], [f"{words[0]}-{words[-1]}", f"{words[-1]}'s", "7", "1,984.5"]]
        if self.unknown is not None or self.lowercase:
            rows += [[word.upper() for word in words[:count]], [word.title() for word in words[:count]]]
        texts = [" ".join([*row, *words[:1] * (shortest - len(row))][:longest]) for row in rows]
        texts.append(f"  {texts[0]}\t\n")
        return tuple(dict.fromkeys(texts))


def read_words(
    path: Path | None, *, unknown: str | None, lowercase: bool | None, preprocess: str | Callable[..., Any] | None
) -> Vocabulary:
    """Return the vocabulary in a file, and what the options, the file or the user's function say about its use.

    Raises ExportError for a file that cannot be read, and where none of them tells.
    """
    if path is None:
        if preprocess is not None:
            raise ExportError("--preprocess: of texts needs their words. Pass --vocabulary FILE as well.")
        # Not by the table of options: an artifact that is checked again brings its vocabulary.
        for flag, value in (("--unknown-word", unknown), ("--lowercase", lowercase)):
            if value is not None:
                raise ExportError(f"{flag}: has no effect without --vocabulary. Pass that as well, or leave this out.")
        return Vocabulary()
    words = read_vocabulary(path)
    chosen = _unknown_in(words, path) if unknown is None else unknown or None
    if chosen is not None and chosen not in words:
        raise ExportError(f"--unknown-word: '{chosen}' is not in '{path}'. Name a word of it, such as '{words[0]}'.")
    read = Vocabulary(
        words=words,
        unknown=chosen,
        padding=next((number for number, word in enumerate(words) if word in PADDING_WORDS), None),
    )
    if preprocess is not None:
        read = replace(read, encode=_as_encoder(preprocess, read.plain[0]))
    read = replace(read, lowercase=_lowercase_in(read, path) if lowercase is None else lowercase)
    return read if read.encode is not None else replace(read, assumptions=tuple(_assumed(read, path, unknown)))


def _assumed(vocabulary: Vocabulary, path: Path, stated: str | None) -> Iterator[str]:
    if stated is None and vocabulary.unknown is not None:
        yield f"that words outside of '{path.name}' become its word '{vocabulary.unknown}': assumed, see --unknown-word"
    if vocabulary.lowercase:
        yield "that words are put into lower case: stated by options, not compared with training code"


def _unknown_in(words: Sequence[str], path: Path) -> str | None:
    found = [word for word in words if word in UNKNOWN_WORDS]
    if len(found) > 1:
        raise ExportError(
            f"'{path}': has several words for unknown ones: {', '.join(map(repr, found))}. Name the one of training "
            "with --unknown-word."
        )
    return found[0] if found else None


def _lowercase_in(vocabulary: Vocabulary, path: Path) -> bool:
    """Return whether words are put into lower case: as the user's function does; no, where no word shows it.

    Without an unknown word, another case is an error that is seen. With one it would silently be no word.
    """
    letters = [word for word in vocabulary.plain if word.lower() != word.upper()]
    if not letters or any(word != word.lower() for word in letters):
        return False
    if vocabulary.encode is not None:
        try:
            return vocabulary.encode(letters[0].upper()) == vocabulary.encode(letters[0])
        except PreprocessingError:  # such as a KeyError: it takes words as they are
            return False
    if vocabulary.unknown is None:
        return False
    raise ExportError(
        f"'{path}': whether texts are put into lower case first is unknown: all of its words are in lower case, and "
        f"others become '{vocabulary.unknown}'. Pass --lowercase or --no-lowercase, as in training."
    )


def _as_encoder(preprocess: str | Callable[..., Any], word: str) -> Callable[[str], list[int]]:
    """Return the user's function as one from a text to a list of token numbers; ``word`` is one that it knows."""
    function: Any = preprocess
    if isinstance(preprocess, str):
        function = load_object(preprocess, error=PreprocessingError)
    name = preprocess if isinstance(preprocess, str) else getattr(preprocess, "__qualname__", "--preprocess")

    def encode(text: str) -> list[int]:
        try:
            numbers = np.asarray(function(text))
        except Exception as error:  # the user's function may raise anything
            raise PreprocessingError(
                f"'{name}': fails on the text {text!r:.60}: {type(error).__name__}: {one_line(error)}. Name the "
                "function from a text to its token numbers."
            ) from error
        numbers = numbers[0] if numbers.ndim == 2 and len(numbers) == 1 else numbers
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
            raise PreprocessingError(
                f"'{name}': gives no token numbers for {text!r:.60}: expected whole numbers [length], got "
                f"{numbers.dtype} {list(numbers.shape)}. Return a list of numbers."
            )
        return [int(number) for number in numbers]

    alone = encode(word)
    if len(alone) == len(encode(f"{word} {word} {word}")) > 3:
        raise PreprocessingError(
            f"'{name}': pads every text to {len(alone)} tokens, which a network may depend on. Write a tokenizer of "
            "the tokenizers library that pads so, and pass --tokenizer tokenizer.json; or leave the padding out."
        )
    return encode
