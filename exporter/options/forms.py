"""Options of the artifact's forms: which ones are written, and in which version of ONNX."""

from dataclasses import dataclass

from exporter.options.rules import WRITING, option_field

# The opsets that graphs can be written in: dynamo gives those from 18 on, the legacy exporter those below.
OPSETS = tuple(range(16, 22))


@dataclass(frozen=True, kw_only=True)
class FormOptions:
    """The forms of an artifact; None: all that can be made, in the opset that torch's exporter is best at."""

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
