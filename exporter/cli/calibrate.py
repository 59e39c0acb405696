"""The ``truecopy calibrate`` command."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from exporter import check_extra
from exporter.cli.labeled_data import Artifact, Data, Json, LabelColumn, print_failures


def calibrate(
    artifact: Artifact,
    data: Data,
    label_column: LabelColumn = "label",
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder to write. Default: the artifact itself.")
    ] = None,
    json: Json = False,
) -> None:
    """Calibrate the probabilities of a classifier on labeled data, and write the scales into its graphs."""
    check_extra()
    from exporter.calibration.fit import calibrate as fit
    from runtime.manifest import struct_to_json

    result = fit(artifact, data, column=label_column, out=out)
    if json:
        sys.stdout.write(struct_to_json(result).decode())
        return
    what = (
        f"temperature {result.temperature:.3f}" if result.temperature else f"{len(result.scales)} scales, one per class"
    )
    sys.stdout.write(
        f"{result.artifact}: {what}, fitted on {result.inputs} inputs\n"
        f"expected calibration error {result.error_before:.2%} before, {result.error_after:.2%} after\n"
        f"verified: within {result.formula_difference:.1e} of eager's scores calibrated by the formula\n"
    )
    sys.stdout.writelines(f"{note}\n" for note in result.notes)
    print_failures(result.failures)
