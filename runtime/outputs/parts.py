"""Parts of an input that rows of its scores belong to, such as the words of a text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The parts as strings, object [parts]; and for each the row of scores that decides its class, and its first and last
# character in the input, the last exclusive: int64 [parts, 3].
TEXTS, SPANS = "texts", "spans"


def to_parts(texts: Sequence[str], spans: Sequence[tuple[int, int, int]]) -> dict[str, NDArray[Any]]:
    """Return parts of an input as arrays."""
    return {
        TEXTS: np.array(texts, dtype=object),
        SPANS: np.array(spans, dtype=np.int64).reshape(-1, 3),
    }
