"""Options of a variant that an export adds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from exporter.options.rules import option_field

_PANEL = "Precision"

# The least share of labels equal to fp32's.
MIN_AGREEMENT = 0.99


@dataclass(frozen=True, kw_only=True)
class VariantOptions:
    """A variant beside fp32, measured on the user's data, or fp16 on the golden inputs; None: no variant."""

    precision: Literal["int8", "fp16"] | None = option_field(
        choices=("int8", "fp16"),
        panel=_PANEL,
        help="Precision of a variant to add beside fp32, which is measured: int8 on --calibration.",
    )
    calibration: Path | None = option_field(
        kind=Path,
        metavar="PATH",
        panel=_PANEL,
        help="Inputs as the model gets them in use: a folder, a table or a list. Some calibrate, others measure.",
        needs=("precision",),
    )
    column: str | None = option_field(
        kind=str,
        metavar="NAME",
        panel=_PANEL,
        help="Column of --calibration, where it is a table, that holds the inputs.",
        needs=("calibration",),
    )
    min_agreement: float = option_field(
        MIN_AGREEMENT,
        kind=float,
        minimum=0,
        metavar="SHARE",
        panel=_PANEL,
        help="Least share of labels equal to fp32's; below it, nothing is written.",
        needs=("precision",),
    )
