"""Reports of a parity check, for programs and people; none of them needs PyTorch."""

from runtime.reports.baseline import compare_with_baseline, read_baseline
from runtime.reports.report import Image, Picture, Report, Score, unfinished
from runtime.reports.write import Destinations, write_reports

__all__ = [
    "Destinations",
    "Image",
    "Picture",
    "Report",
    "Score",
    "compare_with_baseline",
    "read_baseline",
    "unfinished",
    "write_reports",
]
