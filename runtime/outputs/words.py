"""Token classification: a class for each word of a text."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from runtime.manifest import Words
from runtime.outputs.interpreter import Interpreter, stack_rows, words_to_array
from runtime.outputs.parts import SPANS, TEXTS
from runtime.outputs.shown import ShownResult

_SCORES = "scores"


class LabeledWord(msgspec.Struct, frozen=True, kw_only=True):
    """A word with its class; ``start`` and ``end`` are the characters of the text that it is, the end exclusive."""

    word: str
    label: str
    index: int
    probability: float
    start: int
    end: int


class LabeledWords(ShownResult, frozen=True, kw_only=True):
    """The result of ``words``: the words of a text, each with its class; special tokens and padding are none.

    Its first piece decides the class of a word that the tokenizer splits. ``scores`` are the probabilities of all
    pieces, special tokens among them, float32 [length, classes]; rows do not have them.
    """

    input: str
    words: tuple[LabeledWord, ...]
    scores: Annotated[NDArray[np.float32], Meta(extra_json_schema={"writeOnly": True})]

    def to_dict(self) -> dict[str, Any]:
        """Return the row: plain dictionaries, lists, strings and numbers."""
        return {"input": self.input, "words": [msgspec.structs.asdict(word) for word in self.words]}

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return words, labels and characters as arrays."""
        return {
            "words": words_to_array([word.word for word in self.words]),
            "labels": words_to_array([word.label for word in self.words]),
            "spans": np.array([(word.start, word.end) for word in self.words], dtype=np.int64).reshape(-1, 2),
        }

    def __str__(self) -> str:
        return f"{self.input}: " + " ".join(f"{word.word}/{word.label}" for word in self.words)


class WordsInterpreter(Interpreter):
    """Gives probabilities, float32 [length, classes], and the words of the text their meaning: LabeledWords."""

    task: Words
    result_type = LabeledWords
    must_be_finite = True
    names_parts = True

    def split(
        self, outputs: Mapping[str, NDArray[Any]], *, batched: frozenset[str], count: int
    ) -> Sequence[dict[str, NDArray[Any]]]:
        """Return one dictionary per input, with its scores."""
        return [{_SCORES: rows} for rows in super().split(outputs, batched=batched, count=count)]

    def join(
        self, entries: Sequence[Mapping[str, NDArray[Any]]], *, names: Sequence[str], batched: frozenset[str]
    ) -> dict[str, NDArray[Any]]:
        """Return the scores under the output's name."""
        del batched
        (name,) = names
        return {name: stack_rows(name, [entry[_SCORES] for entry in entries])}

    def is_finite(self, scores: Mapping[str, NDArray[Any]]) -> bool:
        """Return whether all scores are finite."""
        return bool(np.isfinite(scores[_SCORES]).all())

    def interpret(self, scores: Any, *, name: str, top_k: int, threshold: float | None) -> LabeledWords:
        """Return the likeliest class of each word's first piece."""
        del top_k, threshold
        rows = scores[_SCORES]
        words = []
        for word, (piece, start, end) in zip(scores[TEXTS], scores[SPANS].tolist(), strict=True):
            index = int(np.argmax(rows[piece]))
            words.append(
                LabeledWord(
                    word=word,
                    label=self.labels[index],
                    index=index,
                    probability=float(rows[piece, index]),
                    start=start,
                    end=end,
                )
            )
        return LabeledWords(input=name, words=tuple(words), scores=rows)
