"""The ``evaluate`` and ``calibrate`` commands: parse, call, print. Without --checkpoint, they need no PyTorch."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from exporter import check_extra
from runtime.console import open_console

if TYPE_CHECKING:
    from runtime.outputs.metrics import Evaluation

Artifact = Annotated[Path, typer.Argument(metavar="ARTIFACT", help="The folder that 'truecopy export' wrote.")]
Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="A folder with a folder a class, or with 'images' and 'masks'; or a table with a column of labels.",
    ),
]
LabelColumn = Annotated[str, typer.Option(metavar="NAME", help="The column of DATA that has the label.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def evaluate(
    artifact: Artifact,
    data: Data,
    label_column: LabelColumn = "label",
    checkpoint: Annotated[Path | None, typer.Option(help="The eager model beside it. Needs PyTorch.")] = None,
    arch: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --checkpoint: where the architecture is now.")
    ] = None,
    preprocess: Annotated[
        str | None, typer.Option(metavar="FILE.py:NAME", help="With --checkpoint: as it was exported.")
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="With --checkpoint: as it was exported.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="A folder for evaluation.json and the confusion matrix as a picture.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure an artifact on labelled data: accuracy, class by class; errors of its numbers; overlap of its maps."""
    from runtime.evaluation.data import read_labelled
    from runtime.evaluation.metrics import evaluate as measure
    from runtime.evaluation.metrics import score
    from runtime.manifest import struct_to_json
    from runtime.model import load

    model = load(artifact, device="cpu")
    labelled = read_labelled(model, data, column=label_column)
    found = score(model, labelled, keep=checkpoint is not None)
    evaluation = measure(model, found, name=str(artifact))
    eager, differences = None, {}
    if checkpoint is not None:
        check_extra()
        from exporter.eager.evaluate import score_eager
        from exporter.outputs.registry import open_reference

        again = read_labelled(model, data, column=label_column)
        beside = score_eager(artifact, model, again, checkpoint, arch=arch, preprocess=preprocess, trust=trust)
        eager = measure(model, beside, name=f"{checkpoint} (eager)")
        differences = open_reference(model.manifest.task, model.labels).differences(found, beside)
    if out is not None:
        _write_report(out, evaluation, model.labels)
    if json:
        sys.stdout.write(
            struct_to_json(msgspec.structs.replace(evaluation, eager=eager, differences=differences)).decode()
        )
        return
    _print_evaluation(evaluation)
    if eager is not None:
        _print_evaluation(eager, short=True)
        for what, number in differences.items():
            of = f" of {len(found.names)}" if what.startswith("inputs") else ""
            sys.stdout.write(f"{what}: {number:.1e}\n" if isinstance(number, float) else f"{what}: {number}{of}\n")


def calibrate(
    artifact: Artifact,
    data: Data,
    label_column: LabelColumn = "label",
    out: Annotated[Path | None, typer.Option(help="Where to write. Default: the artifact itself.")] = None,
    json: Json = False,
) -> None:
    """Fit how sure a classifier should be on labelled data, and put it into its graphs."""
    check_extra()
    from exporter.calibration.fit import calibrate as fit
    from runtime.manifest import struct_to_json

    found = fit(artifact, data, column=label_column, out=out)
    if json:
        sys.stdout.write(struct_to_json(found).decode())
        return
    what = f"temperature {found.temperature:.3f}" if found.temperature else f"{len(found.scales)} scales, one a class"
    sys.stdout.write(
        f"{found.artifact}: {what}, fitted on {found.inputs} inputs\n"
        f"expected calibration error {found.error_before:.2%} before, {found.error_after:.2%} after\n"
        f"verified: within {found.formula_difference:.1e} of eager's scores calibrated by the formula\n"
    )
    sys.stdout.writelines(f"{remark}\n" for remark in found.notes)
    _print_failures(found.failures)


def _print_evaluation(evaluation: "Evaluation", *, short: bool = False) -> None:
    from rich.table import Table

    console = open_console(highlight=False)
    figures = [f"{evaluation.artifact}: {evaluation.inputs} inputs"]
    for name, value in (
        ("accuracy" if evaluation.task != "segment" else "pixel accuracy", evaluation.accuracy),
        ("mean IoU", evaluation.mean_iou),
        ("top 5", evaluation.top5),
        ("calibration error", evaluation.calibration_error),
    ):
        figures += [f"{name} {value:.2%}"] if value is not None else []
    console.print(", ".join(figures), markup=False, soft_wrap=True)
    if evaluation.classes and not short:
        maps = evaluation.task == "segment"
        headings = ["class", "places" if maps else "inputs", "precision", "recall", "F1", *(["IoU"] if maps else [])]
        table = Table(*headings, box=None, header_style="bold", pad_edge=False)
        for one in evaluation.classes:
            shares = (one.precision, one.recall, one.f1, *([one.iou] if maps else []))
            table.add_row(one.label, str(one.count), *map(_share, shares))
        console.print(table)
    for number in evaluation.values:
        r2 = "" if number.r2 is None else f", R2 {number.r2:.4f}"
        unit = f" {number.unit}" if number.unit else ""
        console.print(
            f"{number.name}: mean absolute error {number.mean_absolute_error:g}{unit}, root mean squared error "
            f"{number.root_mean_squared_error:g}{unit}{r2}",
            markup=False,
            soft_wrap=True,
        )
    if not short:
        _print_failures(evaluation.failures)


def _print_failures(failures: dict[str, str]) -> None:
    for reason in list(failures.values())[:10]:
        sys.stderr.write(f"left out: {reason}\n")
    if len(failures) > 10:
        sys.stderr.write(f"left out: {len(failures) - 10} more\n")


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _write_report(out: Path, evaluation: "Evaluation", labels: tuple[str, ...]) -> None:
    from runtime.evaluation.plots import draw_confusion
    from runtime.manifest import struct_to_json

    picture = draw_confusion(evaluation.confusion, labels) if evaluation.confusion else None
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_bytes(struct_to_json(evaluation))
    if picture is not None:
        (out / "confusion.png").write_bytes(picture)
