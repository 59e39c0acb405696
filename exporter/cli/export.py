"""The ``export`` command, also ``truecopy export``: parse, call, print."""

import json as json_module
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exporter.cli.options import read_arguments, read_colors, read_lengths, read_numbers, read_plain_transform
from exporter.errors import ParityError
from runtime.console import open_console, run_app

if TYPE_CHECKING:
    from rich.console import Console

    from exporter.progress import Step
    from exporter.workflow import ExportResult

_STEP_WIDTH = len("preprocessing")

# The groups of export's options.
_IMAGES = "Images"
_OTHERS = "Rows, arrays, texts and token sequences"
_OUTPUTS = "Outputs"

# What to predict with, by input kind.
_EXAMPLES = {
    "image": "photo.jpg",
    "tensor": "array.npy",
    "tabular": "rows.csv",
    "text": "sentences.txt",
    "tokens": "sequences.jsonl",
    "several": "arrays.npz",
}

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)


Weights = Annotated[
    str | None, typer.Option(metavar="NAME", help="Which weights in the checkpoint. Default: chosen, and said.")
]
Trust = Annotated[bool, typer.Option("--trust", help="Load a whole pickled module, which runs the code that it names.")]
Imports = Annotated[
    list[Path] | None,
    typer.Option("--import", metavar="PATH", help="With --trust: a file or folder with its code; repeat for more."),
]
Locate = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Find the network's first node at fault, and write it there, to be run."),
]
MaxRatio = Annotated[
    float,
    typer.Option("--max-ratio", min=1, help="How many times the eager model's own noise a copy may differ by."),
]


@app.command()
def export(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="The checkpoint: a file, or a folder of shards.")
    ],
    arch: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A torchvision name, timm:NAME, hf:FOLDER, FILE.py:NAME, or package.module:NAME. "
            "Default: the one that fits.",
        ),
    ] = None,
    arch_arg: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="An argument for the architecture, as JSON; repeat for more."),
    ] = None,
    preprocess: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:NAME",
            help="The transform used in evaluation, timm:NAME, or one fitted on columns: FILE.skops, FILE.joblib, "
            "statistics as FILE.json. Default: torchvision's for the architecture.",
        ),
    ] = None,
    resize: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Instead of --preprocess: the short side, or HEIGHTxWIDTH.", rich_help_panel=_IMAGES
        ),
    ] = None,
    crop: Annotated[
        str | None, typer.Option(metavar="SIZE", help="The centre crop, or HEIGHTxWIDTH.", rich_help_panel=_IMAGES)
    ] = None,
    mean: Annotated[
        str | None, typer.Option(metavar="M,M,M", help="Subtracted after division by 255.", rich_help_panel=_IMAGES)
    ] = None,
    std: Annotated[
        str | None, typer.Option(metavar="S,S,S", help="Divided by after that.", rich_help_panel=_IMAGES)
    ] = None,
    interpolation: Annotated[
        str, typer.Option(metavar="NAME", help="Of --resize: bilinear, bicubic, ...", rich_help_panel=_IMAGES)
    ] = "bilinear",
    resize_backend: Annotated[
        str,
        typer.Option(
            metavar="WHOSE",
            help="Of --resize: pillow, torch, torch-no-antialias, opencv or letterbox.",
            rich_help_panel=_IMAGES,
        ),
    ] = "pillow",
    input_: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=DTYPE[batch,...]",
            help="A plain array, or a sequence NAME=tokens\\[batch,length], instead of a photo; repeat for more.",
            rich_help_panel=_OTHERS,
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="For texts: a Hugging Face folder, or a tokenizer.json. hf:FOLDER has one.",
            rich_help_panel=_OTHERS,
        ),
    ] = None,
    text_pairs: Annotated[
        bool, typer.Option("--text-pairs", help="The network takes pairs of texts.", rich_help_panel=_OTHERS)
    ] = False,
    vocabulary: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="For --input NAME=tokens\\[batch,length]: the words, one a line.",
            rich_help_panel=_OTHERS,
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="The tokens that a text is cut to, or a sequence has, at most.", rich_help_panel=_OTHERS
        ),
    ] = None,
    pad_id: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="The token that training filled up shorter sequences with.", rich_help_panel=_OTHERS
        ),
    ] = None,
    end_id: Annotated[
        int | None,
        typer.Option(metavar="N", help="Of --task tokens: the token that ends it.", rich_help_panel=_OUTPUTS),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...", help="The columns of a transform that was fitted without names.", rich_help_panel=_OTHERS
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="TASK",
            help="classify, binary, multilabel, regress, segment, tokens or raw. Default: classify.",
            rich_help_panel=_OUTPUTS,
        ),
    ] = None,
    values: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=UNIT,...", help="What --task regress gives; units may be left out.", rich_help_panel=_OUTPUTS
        ),
    ] = None,
    target_mean: Annotated[
        str | None, typer.Option(metavar="M,...", help="Added to what the network gives.", rich_help_panel=_OUTPUTS)
    ] = None,
    target_std: Annotated[
        str | None, typer.Option(metavar="S,...", help="Multiplied with before that.", rich_help_panel=_OUTPUTS)
    ] = None,
    target_transform: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="What the target went through: fitted, as .skops or .joblib, or log, log1p or sqrt, before "
            "--target-mean and --target-std where those are given, too.",
            rich_help_panel=_OUTPUTS,
        ),
    ] = None,
    thresholds: Annotated[
        str | None,
        typer.Option(
            metavar="T,...", help="Of --task multilabel: one a class, or one. Default: 0.5.", rich_help_panel=_OUTPUTS
        ),
    ] = None,
    colors: Annotated[
        str | None,
        typer.Option(
            metavar="C,C,...",
            help="Of --task segment: one a class, such as black,#ff8000, or a file with one a line. Default: "
            "Pascal VOC's.",
            rich_help_panel=_OUTPUTS,
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="A text file with a class name a line.", rich_help_panel=_OUTPUTS)
    ] = None,
    weights: Weights = None,
    trust: Trust = False,
    import_: Imports = None,
    samples: Annotated[
        Path | None,
        typer.Option(help="Photos, or a table or file of inputs of your own, to prove with. Default: some of ours."),
    ] = None,
    max_ratio: MaxRatio = 10.0,
    locate: Locate = None,
    exif: Annotated[
        bool,
        typer.Option(
            "--exif", help="The training loader turned photos by their EXIF orientation.", rich_help_panel=_IMAGES
        ),
    ] = False,
    pixel_format: Annotated[
        str | None,
        typer.Option(
            metavar="MODE",
            help="What the transform gets: RGB, L, uint8[4], uint16[1]. Default: as the network's input.",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The artifact's name. Default: the checkpoint's.")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder to write. Default: artifacts/NAME.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an artifact that is there already.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else.")] = False,
) -> None:
    """Export a checkpoint as an artifact, proven equal to the eager model, or write nothing."""
    arguments = read_arguments(arch_arg or [])
    numbers: dict[str, Any] = {"resize": read_lengths("--resize", resize), "crop": read_lengths("--crop", crop)}
    numbers |= {"mean": read_numbers("--mean", mean), "std": read_numbers("--std", std)}
    if preprocess is not None and any(value is not None for value in numbers.values()):
        raise typer.BadParameter("cannot stand beside --resize, --crop, --mean and --std", param_hint="--preprocess")

    if colors is not None and task != "segment":
        raise typer.BadParameter("is for --task segment", param_hint="--colors")
    numbers_out: dict[str, Any] = {
        "target_mean": tuple(read_numbers("--target-mean", target_mean) or ()),
        "target_std": tuple(read_numbers("--target-std", target_std) or ()),
        "thresholds": tuple(read_numbers("--thresholds", thresholds) or ()),
        "colors": read_colors(colors),
    }

    import exporter

    exporter.check_extra()
    from exporter.outputs.postprocessing import TaskOptions
    from exporter.outputs.registry import TASKS
    from exporter.outputs.target_transform import NAMES, read_target
    from runtime.manifest import Value
    from runtime.reports.table import to_table

    if task is not None and task not in TASKS:
        raise typer.BadParameter(f"expected one of {', '.join(TASKS)}, got '{task}'", param_hint="--task")
    if target_transform is not None:
        if target_transform not in NAMES and (target_mean is not None or target_std is not None):
            raise typer.BadParameter(
                "cannot stand beside --target-mean and --target-std", param_hint="--target-transform"
            )
        numbers_out["target_transform"] = read_target(target_transform, trust=trust)
    named = tuple(
        Value(name=name.strip(), unit=unit.strip())
        for name, _, unit in (part.partition("=") for part in (values.split(",") if values else ()))
    )
    wanted = TaskOptions(task=task, values=named, end_id=end_id, **numbers_out)  # checked above

    console = open_console(stderr=json, quiet=json)
    terminal = _Terminal(console)
    try:
        with terminal:
            exported = exporter.export(
                checkpoint,
                arch,
                arguments=arguments,
                preprocess=preprocess or read_plain_transform(numbers, interpolation, resize_backend),
                labels=labels,
                samples=samples,
                weights=weights,
                trust=trust,
                imports=import_ or (),
                name=name,
                out=out,
                exif=exif,
                pixel_format=pixel_format,
                inputs=input_ or (),
                columns=columns.split(",") if columns else (),
                tokenizer=tokenizer,
                text_pairs=text_pairs,
                vocabulary=vocabulary,
                max_length=max_length,
                pad_id=pad_id,
                wanted=wanted,
                max_ratio=max_ratio,
                locate=locate,
                force=force,
                listener=terminal,
            )
    except ParityError as error:
        if error.report is not None:
            console.print(to_table(error.report), highlight=False)
        raise
    if json:
        sys.stdout.write(json_module.dumps(_summary(exported), indent=2) + "\n")
        return
    console.print()
    console.print(to_table(exported.parity), highlight=False)
    kind = exported.manifest.inputs[0].kind if len(exported.manifest.inputs) == 1 else "several"
    console.print(f"\n[green]proven[/]: truecopy predict {exported.artifact} {_EXAMPLES[kind]}", highlight=False)


def inspect(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="The checkpoint: a file or folder.")],
    weights: Weights = None,
    trust: Trust = False,
    import_: Imports = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Say what a checkpoint is and which architectures fit it; runs nothing that it holds, and needs no PyTorch."""
    from exporter.inspection import inspect_checkpoint

    inspection = inspect_checkpoint(checkpoint, weights=weights, trust=trust, imports=import_ or ())
    if json:
        sys.stdout.write(json_module.dumps(inspection.to_dict(), indent=2) + "\n")
        return
    open_console().print(inspection.to_page())


def main() -> None:
    """Run the ``export`` command."""
    run_app(app)


class _Terminal:
    """Shows the running step with a spinner, and each finished one as a line."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._status = console.status("")

    def __enter__(self) -> None:
        self._status.start()

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def started(self, name: str) -> None:
        self._status.update(name)

    def finished(self, step: "Step") -> None:
        from rich.markup import escape
        from rich.table import Table

        line = Table.grid(padding=(0, 2))
        line.add_column(width=_STEP_WIDTH, style="bold")
        line.add_column(width=len("000.0 s"), justify="right", style="dim")
        line.add_column(overflow="fold")
        line.add_row(step.name, f"{step.seconds:.1f} s", escape(step.finding))
        self._console.print(line)


def _summary(exported: "ExportResult") -> dict[str, Any]:
    import msgspec

    return {
        "artifact": str(exported.artifact),
        "manifest": msgspec.to_builtins(exported.manifest),
        "parity": msgspec.to_builtins(exported.parity),
        "steps": msgspec.to_builtins(exported.steps),
    }
