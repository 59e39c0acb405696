"""Proof that an artifact equals the eager model: the untouched network behind the user's own transform."""

from exporter.parity.comparison import compare
from exporter.parity.inputs import Case, read_cases
from exporter.parity.paths import ServedPath, open_paths
from exporter.parity.reference import Answers, Reference
from exporter.parity.report import Report, Row

__all__ = ["Answers", "Case", "Reference", "Report", "Row", "ServedPath", "compare", "open_paths", "read_cases"]
