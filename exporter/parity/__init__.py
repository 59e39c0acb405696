"""Proof that an artifact equals the eager model: the untouched network behind the user's own preprocessing."""

from exporter.parity.cases import CaseSource, ReferenceOutput, ServedPath
from exporter.parity.compare import compare, judge
from exporter.parity.noise import MAX_RATIO, NoiseMeasurement, measure_noise
from exporter.parity.paths import RUNTIME
from exporter.parity.reference import Reference, ReferenceRun
from exporter.parity.subject import EagerModel, ParityInputs, build_inputs

__all__ = [
    "MAX_RATIO",
    "RUNTIME",
    "CaseSource",
    "EagerModel",
    "NoiseMeasurement",
    "ParityInputs",
    "Reference",
    "ReferenceOutput",
    "ReferenceRun",
    "ServedPath",
    "build_inputs",
    "compare",
    "judge",
    "measure_noise",
]
