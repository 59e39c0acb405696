"""The ``truecopy evaluate`` command; without --checkpoint it needs no PyTorch."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from exporter import check_extra
from exporter.cli.labeled_data import Artifact, Data, Json, LabelColumn, print_failures
from exporter.cli.options import named, takes_options
from exporter.options.export import ExportOptions
from runtime.console import PRECISION_HELP, open_console

if TYPE_CHECKING:
    from runtime.outputs.metrics import Evaluation


@takes_options(
    named({"arch", "arguments", "parts", "preprocess", "trust"}),
    checkpoint=Annotated[
        Path | None, typer.Option(metavar="FILE", help="Evaluate the eager model as well. Needs PyTorch.")
    ],
    panel="With --checkpoint, as exported",
)
def evaluate(
    artifact: Artifact,
    data: Data,
    label_column: LabelColumn = "label",
    precision: Annotated[str, typer.Option(help=PRECISION_HELP)] = "fp32",
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write evaluation.json and the confusion matrix here.")
    ] = None,
    json: Json = False,
    *,
    options: ExportOptions | None,
) -> None:
    """Evaluate an artifact on labeled data: accuracy per class, errors of numbers, overlap of label maps."""
    from runtime.artifact.open import open_artifact
    from runtime.evaluation.data import read_labeled
    from runtime.evaluation.metrics import evaluate as measure
    from runtime.evaluation.metrics import score
    from runtime.manifest import struct_to_json
    from runtime.model import load

    model = load(artifact, precision=precision, device="cpu")
    labeled = read_labeled(model, data, column=label_column)
    scores = score(model, labeled, keep=options is not None)
    evaluation = measure(model, scores, name=str(artifact))
    eager, differences = None, {}
    if options is not None:
        check_extra()
        from exporter.eager.evaluate import score_eager
        from exporter.outputs.registry import open_reference

        again = read_labeled(model, data, column=label_column)
        eager_scores = score_eager(open_artifact(artifact), model, again, options)
        eager = measure(model, eager_scores, name=f"{options.checkpoint} (eager)")
        differences = open_reference(model.manifest.task, model.labels).differences(scores, eager_scores)
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
            of = f" of {len(scores.names)}" if "inputs with" in what else ""
            sys.stdout.write(f"{what}: {number:.1e}\n" if isinstance(number, float) else f"{what}: {number}{of}\n")


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
        headings = ["class", "pixels" if maps else "inputs", "precision", "recall", "F1", *(["IoU"] if maps else [])]
        table = Table(*headings, box=None, header_style="bold", pad_edge=False)
        for row in evaluation.classes:
            shares = (row.precision, row.recall, row.f1, *([row.iou] if maps else []))
            table.add_row(row.label, str(row.count), *map(_share, shares))
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
    for head in evaluation.heads.values():
        _print_evaluation(msgspec.structs.replace(head, failures={}), short=short)
    if not short:
        print_failures(evaluation.failures)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _write_report(out: Path, evaluation: "Evaluation", labels: tuple[str, ...]) -> None:
    from runtime.evaluation.plots import draw_confusion
    from runtime.manifest import struct_to_json

    pictures = {"confusion.png": draw_confusion(evaluation.confusion, labels)} if evaluation.confusion else {}
    for number, head in enumerate(evaluation.heads.values()):
        if head.confusion:
            pictures[f"confusion_{number}.png"] = draw_confusion(head.confusion, [row.label for row in head.classes])
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_bytes(struct_to_json(evaluation))
    for name, picture in pictures.items():
        (out / name).write_bytes(picture)
