"""Proof that an artifact equals the eager model: the untouched network behind the user's own preprocessing."""

from exporter.parity.compare import Asked, compare, judge
from exporter.parity.noise import MAX_RATIO, Measured, measure_noise
from exporter.parity.paths import RUNTIME, ServedPath
from exporter.parity.reference import Answer, Reference

__all__ = [
    "MAX_RATIO",
    "RUNTIME",
    "Answer",
    "Asked",
    "Measured",
    "Reference",
    "ServedPath",
    "compare",
    "judge",
    "measure_noise",
]
