"""'truecopy quantize': a variant for an artifact that was exported before."""

from pathlib import Path

import msgspec

from exporter.bundle import staging
from exporter.errors import ExportError
from exporter.precision.data import check_data
from exporter.precision.scores import check_task
from exporter.precision.variant import (
    VariantReport,
    VariantRequest,
    add_variant,
    check_inputs,
    check_request,
    check_written,
)
from exporter.progress import Progress, ProgressListener, megabytes
from runtime.artifact.open import open_artifact


def quantize(
    artifact: str | Path,
    request: VariantRequest,
    *,
    out: str | Path | None = None,
    listener: ProgressListener | None = None,
) -> VariantReport:
    """Write the artifact with a variant to ``out``, by default over the artifact itself; or write nothing.

    A variant that it has already is replaced. ``listener`` hears of each step. Raises ExportError for a task without
    labels and for data that is missing or too little, ParityError where the labels agree less than requested.
    """
    progress = Progress(listener)
    opened = open_artifact(artifact)
    manifest = opened.manifest
    check_request(request)
    check_inputs(manifest)
    check_task(manifest.task, manifest.name)
    if request.calibration is not None:
        check_data(request.calibration, manifest.inputs, request.min_agreement, column=request.column)
    replaced = {
        name for variant in manifest.variants if variant.precision == request.precision for name in variant.files
    }
    # Only the artifact itself is replaced, never another one that happens to have the name.
    target = Path(out or artifact)
    if target.exists() and not target.samefile(artifact):
        raise ExportError(f"'{target}': exists already. Pass another folder with --out, or remove it.")
    with staging(target, force=True) as stage:
        for name in manifest.files:
            if name not in replaced:
                stage.write(name, opened.read(name))
        written, report = add_variant(opened, stage, request, progress)
        with progress.step("write") as step:
            stage.finish(written)
            check_written(stage, manifest.name, request.precision)
            step.finding = f"{out or artifact}, {megabytes(report.size_bytes)} more"
    return msgspec.structs.replace(report, artifact=str(out or artifact))
