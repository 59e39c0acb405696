"""Proof that an artifact equals the eager model: the untouched network behind the user's own preprocessing."""

from exporter.parity.cases import ServedPath
from exporter.parity.compare import compare
from exporter.parity.noise import NoiseMeasurement
from exporter.parity.paths import RUNTIME
from exporter.parity.reference import BatchForm, Reference, ReferenceRun
from exporter.parity.subject import LEGACY_EXPORTER, EagerModel, ParityInputs, Remarks, build_inputs
from exporter.parity.verdict import judge

__all__ = [
    "LEGACY_EXPORTER",
    "RUNTIME",
    "BatchForm",
    "EagerModel",
    "NoiseMeasurement",
    "ParityInputs",
    "Reference",
    "ReferenceRun",
    "Remarks",
    "ServedPath",
    "build_inputs",
    "compare",
    "judge",
]
