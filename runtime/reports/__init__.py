"""What a parity check found, in the forms that other programs and people read.

Here and not beside the check, as none of it needs PyTorch: the runtime owns the evidence's types.
"""

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
