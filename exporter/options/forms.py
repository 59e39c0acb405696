"""Options of what is written: the artifact's folder and forms, and the version of ONNX."""

from dataclasses import dataclass
from pathlib import Path

from exporter.options.rules import WRITING, option_field

# The opsets that graphs can be written in: dynamo gives those from 18 on, the legacy exporter those below.
OPSETS = tuple(range(16, 22))


@dataclass(frozen=True, kw_only=True)
class FormOptions:
    """An artifact's name, folder and forms; None: all forms that can be made, in the opset that torch is best at."""

    name: str | None = option_field(
        metavar="NAME", panel=WRITING, help="Name of the artifact. Default: the checkpoint's."
    )
    out: Path | None = option_field(
        kind=Path, metavar="FOLDER", panel=WRITING, help="Folder to write. Default: artifacts/NAME."
    )
    force: bool = option_field(False, kind=bool, panel=WRITING, help="Replace an existing artifact.")
    forms: str | None = option_field(
        choices=("onnx",),
        panel=WRITING,
        help="Forms to write: onnx leaves TorchScript out. Default: all that can be made.",
    )
    opset: int | None = option_field(
        choices=tuple(map(str, OPSETS)),
        panel=WRITING,
        read=int,
        help="ONNX opset of the graphs, for older runtimes; their IR version is then the lowest that has it. Default: "
        "20.",
    )
    single_file: bool = option_field(
        False,
        kind=bool,
        panel=WRITING,
        help="Keep the weights inside each graph, instead of in one file for all: at most 2 GB.",
    )
