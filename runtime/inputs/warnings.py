"""Warnings about inputs: counted by kind, and written once for each kind."""

import threading
import warnings
from collections import Counter


class InputWarnings:
    """The warnings of one model's inputs, from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    @property
    def counts(self) -> dict[str, int]:
        """The number of inputs so far with a warning, by its kind."""
        with self._lock:
            return dict(self._counts)

    def add(self, kind: str, subject: str, sentence: str) -> None:
        """Count a warning of this kind, and issue the first one, with ``subject`` as its input's name."""
        with self._lock:
            self._counts[kind] += 1
            first = self._counts[kind] == 1
        if first:
            warnings.warn(f"{subject}: {sentence}", stacklevel=3)
