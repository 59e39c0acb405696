"""The ``truecopy quantize`` command."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from exporter import check_extra
from exporter.cli.labeled_data import Artifact, Json, LabelColumn, print_failures
from exporter.cli.terminal import TerminalProgress
from exporter.options.variant import MIN_AGREEMENT
from runtime.console import open_console
from runtime.manifest import LEAST_SPEED, Deferral

if TYPE_CHECKING:
    from exporter.precision.variant import VariantReport


# As many flipped labels are printed; --json has all.
_LISTED = 10


def quantize(
    artifact: Artifact,
    precision: Annotated[Literal["int8", "fp16"], typer.Option(help="Precision of the variant.")] = "int8",
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Inputs as the model gets them in use: a folder, a table or a list. Some calibrate, others measure.",
        ),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Column of --calibration, where it is a table, that holds the inputs."),
    ] = None,
    labels_from: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA", help="Labeled data, as for 'truecopy evaluate': the accuracy is measured as well."
        ),
    ] = None,
    label_column: LabelColumn = "label",
    min_agreement: Annotated[
        float, typer.Option(min=0, max=1, help="Least share of labels equal to fp32's; below it, nothing is written.")
    ] = MIN_AGREEMENT,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder to write. Default: the artifact itself.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="HTML page with the flipped labels and their inputs.")
    ] = None,
    json: Json = False,
) -> None:
    """Add a smaller and faster variant to an artifact, measured on your data; write nothing if it disagrees."""
    check_extra()
    from exporter.precision.quantize import quantize as run
    from exporter.precision.variant import VariantRequest
    from runtime.manifest import struct_to_json

    request = VariantRequest(
        precision=precision,
        calibration=calibration,
        column=column,
        labels_from=labels_from,
        label_column=label_column,
        min_agreement=min_agreement,
        html=html,
    )
    with TerminalProgress(open_console(stderr=json, quiet=json)) as terminal:
        report = run(artifact, request, out=out, listener=terminal)
    if json:
        sys.stdout.write(struct_to_json(report).decode())
        return
    print_report(report)


def print_report(report: "VariantReport") -> None:
    """Print what was tried and measured."""
    from rich.markup import escape
    from rich.table import Table

    console = open_console()
    table = Table(
        "ranges", "nodes in fp32", "labels equal", "scores differ", box=None, header_style="bold", pad_edge=False
    )
    chosen = report.approximation.quantization
    for trial in report.trials:
        how = trial.quantization
        mark = "* " if how == chosen else "  "
        table.add_row(
            f"{mark}{trial.ranges}",
            str(len(how.fp32_nodes)),
            f"{trial.agreement:.2%}",
            f"{trial.mean_score_difference:.1e}",
        )
    console.print(table)
    agreement, accuracy = report.approximation.agreement, report.approximation.accuracy
    flipped = (
        "no label flipped"
        if agreement.flipped_margin is None
        else f"largest fp32 margin of a flipped label {agreement.flipped_margin:.3g}"
    )
    shares = f"{agreement.share:.2%}, at 95% between {agreement.low:.2%} and {agreement.high:.2%}"
    times = f"{report.own_ms:.2f} ms, fp32 {report.fp32_ms:.2f} ms"
    lines = [
        f"labels equal on {agreement.equal} of {agreement.inputs} measured inputs: {shares}; {flipped}",
        f"scores differ by {agreement.score_difference:.2g} at most, {agreement.mean_score_difference:.1e} on average",
        f"adds {report.size_bytes / 1e6:.1f} MB to {report.fp32_size_bytes / 1e6:.1f} MB of weights",
        f"network on one thread of the {report.approximation.device} here: {times}: {report.ratio:.2f} times as fast",
    ]
    if report.batches is not None:
        lines.append(f"in batches of {report.batches.batch}: {report.batches.own:.2f} times as fast")
    if report.approximation.deferral is not None:
        lines.append(_describe_deferral(report, report.approximation.deferral))
    if accuracy is not None:
        lines.append(f"accuracy on {accuracy.inputs} labeled inputs: {accuracy.variant:.2%}, fp32 {accuracy.fp32:.2%}")
    if report.label_remark:
        lines.append(f"warning: {report.label_remark}")
    if report.ratio < 1 and report.precision == "int8":
        lines.append("warning: int8 is slower than fp32 on this processor. Use fp32 here, or measure where it runs.")
    lines += [
        f"  {flip.input}: {flip.fp32} in fp32, {flip.variant} here, margin {flip.margin:.3g}"
        for flip in report.flips[:_LISTED]
    ]
    for line in lines:
        console.print(escape(line), highlight=False, soft_wrap=True)
    print_failures(report.failures)
    command = f"truecopy predict {report.artifact} INPUT --precision {report.precision}"
    console.print(f"\n[yellow]approximate[/]: {escape(command)}", highlight=False, soft_wrap=True)


def _describe_deferral(report: "VariantReport", deferral: Deferral) -> str:
    again = f"{deferral.deferred} of {deferral.inputs} inputs run again in fp32 ({deferral.share:.1%})"
    speed = f"{report.pair_ms:.2f} ms, {report.pair_ratio:.2f} times as fast as fp32"
    if report.batches is not None:
        speed += f", {report.batches.pair:.2f} times in batches of {report.batches.batch}"
    if deferral.offered:
        return f"{report.precision}+fp32: {again}; no label flips, at most {deferral.risk:.2%} do at 95%; {speed}"
    problem = f"{deferral.flips} labels flip even so" if deferral.flips else f"expected at least {LEAST_SPEED:g}"
    return f"{report.precision}+fp32 is refused: {again}; {speed}; {problem}"
