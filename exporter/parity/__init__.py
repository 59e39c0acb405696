"""Proof that an artifact equals the eager model: the untouched network behind the user's own preprocessing."""

from exporter.parity.comparison import compare, scales
from exporter.parity.paths import ServedPath
from exporter.parity.reference import Answer, Reference
from exporter.parity.report import Report, Row

__all__ = ["Answer", "Reference", "Report", "Row", "ServedPath", "compare", "scales"]
