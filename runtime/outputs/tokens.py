"""Token sequences: the tokens before the end token, and their words."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.manifest import Tokens
from runtime.outputs.interpreter import Interpreter, words_to_array
from runtime.outputs.shown import ShownResult


class TokenSequence(ShownResult, frozen=True, kw_only=True):
    """The result of ``tokens``: the token numbers before the end token, and their words where there is a vocabulary.

    ``text`` is the words as one string where the vocabulary is one of characters.
    """

    input: str
    tokens: tuple[int, ...]
    words: tuple[str, ...] | None = None
    text: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the row: plain dictionaries, lists, strings and numbers."""
        row: dict[str, Any] = {"input": self.input, "tokens": list(self.tokens)}
        if self.words is not None:
            row["words"] = list(self.words)
        return row if self.text is None else {**row, "text": self.text}

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return tokens and words as arrays."""
        return {"tokens": np.array(self.tokens, dtype=np.int64), "words": words_to_array(list(self.words or ()))}

    def __str__(self) -> str:
        shown = self.tokens if self.words is None else self.words
        return f"{self.input}: {self.text or ' '.join(map(str, shown))}"


class TokensInterpreter(Interpreter):
    """Gives token numbers, int64 [steps], their words: a TokenSequence."""

    task: Tokens
    result_type = TokenSequence

    def trim(self, outputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the sequence up to its own end token: the longest of a batch gives the number of steps."""
        return {name: until_end(array[0], self.task.end_id)[np.newaxis] for name, array in outputs.items()}

    def interpret(self, scores: Any, *, name: str, top_k: int, threshold: float | None) -> TokenSequence:
        """Return the tokens before the end token, spelled where there is a vocabulary."""
        del top_k, threshold
        tokens = until_end(scores, self.task.end_id).tolist()
        labels = self.labels
        words = tuple(labels[token] if 0 <= token < len(labels) else f"#{token}" for token in tokens)
        text = "".join(words) if labels and all(len(label) == 1 for label in labels) else None
        return TokenSequence(input=name, tokens=tuple(tokens), words=words if labels else None, text=text)


def until_end(tokens: NDArray[np.int64], end_id: int | None) -> NDArray[np.int64]:
    """Return token numbers, int64 [steps], before the first ``end_id``: what follows in a batch is padding."""
    if end_id is None:
        return tokens
    ends = np.flatnonzero(tokens == end_id)
    return tokens[: ends[0]] if len(ends) else tokens
