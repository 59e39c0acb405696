"""Options of token inputs: their names and kinds, and the vocabulary."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from exporter.errors import ExportError
from exporter.inputs.tokens.vocabulary import Vocabulary
from runtime.manifest import DerivedInput

_SPEC = re.compile(
    r"(?P<name>[^\s=]+)=(?P<kind>(tokens|mask|padding)(?=\[\s*batch\s*,\s*length\s*\])|lengths(?=\[\s*batch\s*\]))\[.*\]"
)


@dataclass(frozen=True, kw_only=True)
class TokenInputs:
    """The tokens' name, and what the network takes besides them, by name."""

    name: str
    derived_inputs: Mapping[str, DerivedInput] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TokenOptions:
    """What the user knows of the sequences; None means: find out.

    ``vocabulary`` is what becomes of words; ``lengths`` are the shortest and the longest sequence to compare,
    ``samples`` a file of sequences to prove with.
    """

    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    pad_id: int | None = None
    max_length: int | None = None
    lengths: tuple[int, int] | None = None
    samples: Path | None = None


def is_tokens(text: str) -> bool:
    """Return whether ``text`` describes token sequences: ``NAME=tokens[batch,length]``."""
    return "=tokens" in text


def read_token_inputs(texts: Sequence[str]) -> TokenInputs:
    """Return the inputs that ``NAME=tokens[batch,length]`` and further descriptions stand for.

    Raises ExportError for any other text.
    """
    kinds: dict[str, str] = {}
    for text in texts:
        match = _SPEC.fullmatch(text.strip())
        if not match:
            raise ExportError(
                f"--input '{text}': not token sequences: expected NAME=tokens[batch,length], and beside it "
                "NAME=lengths[batch], NAME=mask[batch,length] or NAME=padding[batch,length], which are made of the "
                "tokens. Correct it, or describe all of them as int64 arrays."
            )
        kinds[match["name"]] = match["kind"]
    name = next(iter(kinds))
    if len(kinds) < len(texts) or kinds.pop(name) != "tokens" or "tokens" in kinds.values():
        raise ExportError(
            "--input: expected one NAME=tokens[batch,length], the first of them, and other names for what comes beside "
            f"it, got {', '.join(texts)}. Describe several sequences as int64 arrays."
        )
    return TokenInputs(name=name, derived_inputs=kinds)  # type: ignore[arg-type]  # the expression knows the kinds
