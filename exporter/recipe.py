"""Options of an export: the only list of them.

The command line, ``truecopy.export``, ``truecopy parity`` and the reference pages are made from these fields. Nothing
here imports PyTorch, so that ``--help`` does not wait for it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from exporter.errors import ExportError
from exporter.option_values import (
    read_colors,
    read_columns,
    read_keyword_arguments,
    read_numbers,
    read_size,
    read_values,
)
from runtime.manifest import InverseFunction, InverseFunctionName, InverseStep, TextInput, Value

if TYPE_CHECKING:
    from torch import nn

# How many times the eager model's own noise a copy may differ by. Measured: kernels that add in another order came to
# 3 times.
MAX_RATIO = 10.0

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
# Transforms of a target by name, and what undoes them.
TARGET_FUNCTIONS: Mapping[str, InverseFunctionName] = {"log": "exp", "log1p": "expm1", "sqrt": "square"}
RESIZE_BACKENDS = ("pillow", "torch", "torch-no-antialias", "opencv", "letterbox")

# Panels of the help.
IMAGES = "Images"
OTHER_INPUTS = "Rows, arrays, texts and token sequences"
OUTPUTS = "Outputs"
PROOF = "Proof"
WRITING = "Writing"


@dataclass(frozen=True, kw_only=True)
class Option:
    """How a field is given on the command line.

    ``kind`` is the type of the command line's value, which ``read`` turns into the field's; it raises ValueError with
    the reason where it cannot. ``flag`` differs from the field's name where that reads better. ``choices`` may name a
    registry, as 'module:NAME', whose keys they are. ``recheck`` says that ``truecopy parity`` takes the option too,
    because an artifact does not hold all of it.
    """

    help: str
    kind: Any = str
    flag: str = ""
    metavar: str | None = None
    panel: str | None = None
    choices: tuple[str, ...] | str = ()
    minimum: float | None = None
    read: Callable[[Any], Any] | None = None
    recheck: bool = False


def _option(default: Any = None, **about: Any) -> Any:
    metadata = {"option": Option(**about)}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What the outputs mean; None and empty: inferred from the network.

    ``target_mean`` and ``target_std`` undo the scaling of a regression's target, with one number per value or one for
    all; ``target_transform`` undoes what came before that: a file, a name, or the inverse steps themselves.
    """

    task: str | None = _option(
        choices="exporter.outputs.registry:TASKS",
        panel=OUTPUTS,
        recheck=True,
        help="Task of the network. Default: classify.",
    )
    values: tuple[Value, ...] = _option(
        (),
        metavar="NAME=UNIT,...",
        panel=OUTPUTS,
        recheck=True,
        read=read_values,
        help="Names of the numbers that --task regress predicts; units are optional.",
    )
    target_mean: tuple[float, ...] = _option(
        (),
        metavar="MEAN,...",
        panel=OUTPUTS,
        recheck=True,
        read=read_numbers,
        help="Mean of the training target; added back.",
    )
    target_std: tuple[float, ...] = _option(
        (),
        metavar="STD,...",
        panel=OUTPUTS,
        recheck=True,
        read=read_numbers,
        help="Standard deviation of the training target; multiplied back.",
    )
    target_transform: str | Path | tuple[InverseStep, ...] | None = _option(
        metavar="FILE",
        panel=OUTPUTS,
        recheck=True,
        help="Transform of the training target: fitted, as .skops or .joblib, or log, log1p or sqrt, applied before "
        "--target-mean and --target-std.",
    )
    thresholds: tuple[float, ...] = _option(
        (),
        metavar="THRESHOLD,...",
        panel=OUTPUTS,
        recheck=True,
        read=read_numbers,
        help="Thresholds of --task multilabel: one per class, or one for all. Default: 0.5.",
    )
    end_id: int | None = _option(
        kind=int, metavar="N", panel=OUTPUTS, recheck=True, help="End-of-sequence token id of --task tokens."
    )
    colors: tuple[tuple[int, int, int], ...] = _option(
        (),
        metavar="COLOR,...",
        panel=OUTPUTS,
        recheck=True,
        read=read_colors,
        help="Colors of --task segment, one per class, such as black,#ff8000, or a file with one per line. Default: "
        "Pascal VOC's.",
    )


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """One export, as asked for; None: inferred, and reported.

    ``arch`` is a torchvision name, ``timm:NAME``, ``hf:FOLDER``, ``FILE.py:NAME``, ``package.module:NAME``, a module,
    or a callable that is called with ``arguments``. ``preprocess`` is the evaluation transform, or a reference to it.
    ``inputs`` describe tensors, as ``x=float32[batch,3,28,28]``, or token sequences, as ``x=tokens[batch,length]``.
    ``tokenizer_input`` is the input of the artifact that ``tokenizer`` was read from; it has no option.
    """

    checkpoint: Path
    arch: "str | nn.Module | Callable[..., Any] | None" = _option(
        metavar="NAME",
        recheck=True,
        help="Architecture: a torchvision name, timm:NAME, hf:FOLDER, FILE.py:NAME, or package.module:NAME. Default: "
        "the only known one that fits.",
    )
    arguments: Mapping[str, Any] = _option(
        {},
        kind=list[str],
        flag="--arch-arg",
        metavar="KEY=VALUE",
        recheck=True,
        read=read_keyword_arguments,
        help="Argument of the architecture, as JSON; repeat for more.",
    )
    preprocess: str | Callable[..., Any] | None = _option(
        metavar="FILE.py:NAME",
        recheck=True,
        help="Evaluation transform, timm:NAME, or a transform fitted on columns: FILE.skops, FILE.joblib, statistics "
        "as FILE.json. Default: torchvision's for the architecture.",
    )
    resize: int | tuple[int, int] | None = _option(
        metavar="SIZE",
        panel=IMAGES,
        recheck=True,
        read=read_size,
        help="Size of the short side, or HEIGHTxWIDTH; instead of --preprocess.",
    )
    crop: int | tuple[int, int] | None = _option(
        metavar="SIZE", panel=IMAGES, recheck=True, read=read_size, help="Size of the center crop, or HEIGHTxWIDTH."
    )
    mean: tuple[float, ...] | None = _option(
        metavar="MEAN,MEAN,MEAN",
        panel=IMAGES,
        recheck=True,
        read=read_numbers,
        help="Channel means (pixels scaled to 0-1).",
    )
    std: tuple[float, ...] | None = _option(
        metavar="STD,STD,STD", panel=IMAGES, recheck=True, read=read_numbers, help="Channel standard deviations."
    )
    interpolation: str = _option(
        "bilinear",
        choices=INTERPOLATIONS,
        panel=IMAGES,
        recheck=True,
        help="Interpolation of --resize.",
    )
    resize_backend: str = _option(
        "pillow",
        choices=RESIZE_BACKENDS,
        panel=IMAGES,
        recheck=True,
        help="Library whose resize the training loader used.",
    )
    exif: bool | None = _option(
        kind=bool,
        panel=IMAGES,
        recheck=True,
        help="Rotate photos by their EXIF orientation, as the training loader did.",
    )
    pixel_format: str | None = _option(
        metavar="FORMAT",
        panel=IMAGES,
        recheck=True,
        help="Input of the transform: RGB, L, uint8[4], uint16[1]. Default: from the network's input.",
    )
    inputs: tuple[str, ...] = _option(
        (),
        kind=list[str],
        flag="--input",
        metavar="NAME=DTYPE[batch,...]",
        panel=OTHER_INPUTS,
        recheck=True,
        read=tuple,
        help="Array input, or a token sequence NAME=tokens\\[batch,length], instead of a photo; repeat for more.",
    )
    columns: tuple[str, ...] = _option(
        (),
        metavar="NAME,...",
        panel=OTHER_INPUTS,
        recheck=True,
        read=read_columns,
        help="Columns of a transform that was fitted without names.",
    )
    tokenizer: Path | None = _option(
        kind=Path,
        metavar="PATH",
        panel=OTHER_INPUTS,
        recheck=True,
        help="Tokenizer: a Hugging Face folder, or a tokenizer.json. Default: the one in hf:FOLDER.",
    )
    text_pairs: bool | None = _option(
        kind=bool, panel=OTHER_INPUTS, recheck=True, help="The network takes pairs of texts."
    )
    vocabulary: Path | None = _option(
        kind=Path,
        metavar="FILE",
        panel=OTHER_INPUTS,
        recheck=True,
        help="Words of --input NAME=tokens\\[batch,length], one per line.",
    )
    max_length: int | None = _option(
        kind=int, metavar="N", panel=OTHER_INPUTS, recheck=True, help="Most tokens of a text or sequence."
    )
    pad_id: int | None = _option(
        kind=int, metavar="N", panel=OTHER_INPUTS, recheck=True, help="Id of the token that pads shorter sequences."
    )
    task_options: TaskOptions = field(default_factory=TaskOptions)
    labels: Path | None = _option(
        kind=Path, metavar="FILE", panel=OUTPUTS, recheck=True, help="Class names, one per line."
    )
    samples: Path | None = _option(
        kind=Path,
        metavar="PATH",
        panel=PROOF,
        recheck=True,
        help="Photos, a table or a file of inputs to prove with. Default: bundled photos and generated inputs.",
    )
    max_ratio: float = _option(
        MAX_RATIO,
        kind=float,
        minimum=1,
        metavar="RATIO",
        panel=PROOF,
        recheck=True,
        help="Largest accepted difference, as a multiple of the eager model's own noise.",
    )
    locate: Path | None = _option(
        kind=Path,
        metavar="FOLDER",
        panel=PROOF,
        recheck=True,
        help="Find the first faulty node of the network, and write it to this folder as a script that runs.",
    )
    weights: str | None = _option(
        metavar="NAME", recheck=True, help="State dict in the checkpoint. Default: the best candidate, reported."
    )
    trust: bool = _option(
        False, kind=bool, recheck=True, help="Load a whole pickled module, which runs the code that it names."
    )
    imports: tuple[Path, ...] = _option(
        (),
        kind=list[Path],
        flag="--import",
        metavar="PATH",
        recheck=True,
        read=tuple,
        help="With --trust: a file or folder with the module's code; repeat for more.",
    )
    name: str | None = _option(metavar="NAME", panel=WRITING, help="Name of the artifact. Default: the checkpoint's.")
    out: Path | None = _option(
        kind=Path, metavar="FOLDER", panel=WRITING, help="Folder to write. Default: artifacts/NAME."
    )
    force: bool = _option(False, kind=bool, panel=WRITING, help="Replace an existing artifact.")
    tokenizer_input: TextInput | None = None

    @property
    def artifact_name(self) -> str:
        """The artifact's name, which servers offer it under."""
        return self.name or self.checkpoint.stem

    @property
    def artifact_path(self) -> Path:
        """The folder that the artifact is written to."""
        return self.out or Path("artifacts") / self.artifact_name

    @property
    def spells_out_transform(self) -> bool:
        """Whether numbers take the place of a transform."""
        return any(value is not None for value in (self.resize, self.crop, self.mean, self.std))

    @classmethod
    def from_keywords(cls, checkpoint: str | Path, arch: Any = None, **keywords: Any) -> Self:
        """Return the options that keyword arguments name, those of TaskOptions among them.

        Paths may be strings, sequences lists, and values texts as on the command line. Raises ExportError for an
        unknown name and for options that contradict each other.
        """
        own = {about.name: about for about in fields(cls)}
        task = {about.name: about for about in fields(TaskOptions)}
        for name in keywords:
            if name not in own and name not in task:
                close = get_close_matches(name, [*own, *task], n=1)
                advice = f"Did you mean '{close[0]}'?" if close else "See help(truecopy.ExportOptions)."
                raise ExportError(f"export(): unknown option '{name}'. {advice}")
        given = {name: _convert(own[name], value) for name, value in keywords.items() if name in own}
        of_task = {name: _convert(task[name], value) for name, value in keywords.items() if name in task}
        if of_task:
            given["task_options"] = replace(given.get("task_options", TaskOptions()), **of_task)
        options = cls(checkpoint=Path(checkpoint), arch=arch, **given)
        options.check()
        return options

    def check(self) -> None:
        """Raise ExportError where options contradict each other."""
        task = self.task_options
        if self.preprocess is not None and self.spells_out_transform:
            raise ExportError(
                "--preprocess: cannot be combined with --resize, --crop, --mean and --std. Leave out one or the other."
            )
        scaled = bool(task.target_mean or task.target_std)
        target = task.target_transform
        named = str(target) in TARGET_FUNCTIONS or (
            isinstance(target, tuple) and all(isinstance(step, InverseFunction) for step in target)
        )
        if scaled and target is not None and not named:
            raise ExportError(
                "--target-transform: a fitted transform cannot be combined with --target-mean and --target-std. Leave "
                "out one or the other."
            )
        if task.colors and task.task != "segment":
            raise ExportError("--colors: is for --task segment. Leave it out, or name the task.")


def _convert(about: Any, value: Any) -> Any:
    """Return a value of a Python caller as its field has it."""
    option: Option | None = about.metadata.get("option")
    if option is None or value is None:
        return value
    if option.kind is Path and isinstance(value, str):
        return Path(value)
    if option.kind is str and option.read is not None and isinstance(value, str):
        try:
            return option.read(value)
        except ValueError as error:
            raise ExportError(f"export(): {about.name}: {error}") from None
    if option.kind == list[Path]:
        return tuple(map(Path, value))
    return tuple(value) if isinstance(value, list) else value
