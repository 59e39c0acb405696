"""Proof that an artifact equals the eager model: the untouched network behind the user's own preprocessing."""

from exporter.parity.cases import ReferenceOutput, ServedPath
from exporter.parity.compare import ParityInputs, compare, judge
from exporter.parity.noise import MAX_RATIO, NoiseMeasurement, measure_noise
from exporter.parity.paths import RUNTIME
from exporter.parity.reference import Reference

__all__ = [
    "MAX_RATIO",
    "RUNTIME",
    "NoiseMeasurement",
    "ParityInputs",
    "Reference",
    "ReferenceOutput",
    "ServedPath",
    "compare",
    "judge",
    "measure_noise",
]
