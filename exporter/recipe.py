"""Options of an export: the only list of them.

The command line, ``truecopy.export``, ``truecopy parity`` and the reference pages are made from these fields. Nothing
here imports PyTorch, so that ``--help`` does not wait for it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from exporter.errors import ExportError
from exporter.options.rules import CLASS_TASKS, DEFAULT_TASK, KINDS_WITH_DEFAULT_TASK, check_use, is_given, option_field
from exporter.options.values import (
    field_value,
    read_colors,
    read_columns,
    read_keyword_arguments,
    read_numbers,
    read_size,
    read_values,
)
from exporter.options.variant import VariantOptions
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
class TaskOptions:
    """What the outputs mean; None and empty: inferred from the network.

    ``target_mean`` and ``target_std`` undo the scaling of a regression's target, with one number per value or one for
    all; ``target_transform`` undoes what came before that: a file, a name, or the inverse steps themselves.
    """

    task: str | None = option_field(
        choices="exporter.outputs.registry:TASKS", panel=OUTPUTS, help="Task of the network. Default: classify."
    )
    values: tuple[Value, ...] = option_field(
        (),
        metavar="NAME=UNIT,...",
        panel=OUTPUTS,
        read=read_values,
        help="Names of the numbers that --task regress predicts; units are optional.",
        tasks=("regress",),
    )
    target_mean: tuple[float, ...] = option_field(
        (),
        metavar="MEAN,...",
        panel=OUTPUTS,
        read=read_numbers,
        help="Mean of the training target; added back.",
        tasks=("regress",),
    )
    target_std: tuple[float, ...] = option_field(
        (),
        metavar="STD,...",
        panel=OUTPUTS,
        read=read_numbers,
        help="Standard deviation of the training target; multiplied back.",
        tasks=("regress",),
    )
    target_transform: str | Path | tuple[InverseStep, ...] | None = option_field(
        metavar="FILE",
        panel=OUTPUTS,
        help="Transform of the training target: fitted, as .skops or .joblib, or log, log1p or sqrt, applied before "
        "--target-mean and --target-std.",
        tasks=("regress",),
    )
    thresholds: tuple[float, ...] = option_field(
        (),
        metavar="THRESHOLD,...",
        panel=OUTPUTS,
        read=read_numbers,
        help="Thresholds of --task multilabel: one per class, or one for all. Default: 0.5.",
        tasks=("multilabel",),
    )
    end_id: int | None = option_field(
        kind=int, metavar="N", panel=OUTPUTS, help="End-of-sequence token id of --task tokens.", tasks=("tokens",)
    )
    colors: tuple[tuple[int, int, int], ...] = option_field(
        (),
        metavar="COLOR,...",
        panel=OUTPUTS,
        read=read_colors,
        help="Colors of --task segment, one per class, such as black,#ff8000, or a file with one per line. Default: "
        "Pascal VOC's.",
        tasks=("segment",),
    )


@dataclass(frozen=True, kw_only=True)
class ExportOptions(VariantOptions):
    """One export, as asked for; None: inferred, and reported.

    ``arch`` is a torchvision name, ``timm:NAME``, ``hf:FOLDER``, ``FILE.py:NAME``, ``package.module:NAME``, a module,
    or a callable that is called with ``arguments``. ``preprocess`` is the evaluation transform, or a reference to it.
    ``inputs`` describe tensors, as ``x=float32[batch,3,28,28]``, or token sequences, as ``x=tokens[batch,length]``.
    ``tokenizer_input`` is the input of the artifact that ``tokenizer`` was read from; it has no option.
    """

    checkpoint: Path
    arch: "str | nn.Module | Callable[..., Any] | None" = option_field(
        metavar="NAME",
        recheck=True,
        help="Architecture: a torchvision name, timm:NAME, hf:FOLDER, FILE.py:NAME, or package.module:NAME. Default: "
        "the only known one that fits.",
    )
    arguments: Mapping[str, Any] = option_field(
        {},
        kind=list[str],
        flag="--arch-arg",
        metavar="KEY=VALUE",
        recheck=True,
        read=read_keyword_arguments,
        help="Argument of the architecture, as JSON; repeat for more.",
    )
    preprocess: str | Callable[..., Any] | None = option_field(
        metavar="FILE.py:NAME",
        recheck=True,
        help="Evaluation transform, timm:NAME, or a transform fitted on columns: FILE.skops, FILE.joblib, statistics "
        "as FILE.json. Default: torchvision's for the architecture.",
        input_kinds=("image", "tabular"),
        excludes=("resize", "crop", "mean", "std", "interpolation", "resize_backend"),
    )
    resize: int | tuple[int, int] | None = option_field(
        metavar="SIZE",
        panel=IMAGES,
        recheck=True,
        read=read_size,
        help="Size of the short side, or HEIGHTxWIDTH; changes that of the assumed transform.",
        input_kinds=("image",),
    )
    crop: int | tuple[int, int] | None = option_field(
        metavar="SIZE",
        panel=IMAGES,
        recheck=True,
        read=read_size,
        help="Size of the center crop, or HEIGHTxWIDTH.",
        input_kinds=("image",),
    )
    mean: tuple[float, ...] | None = option_field(
        metavar="MEAN,MEAN,MEAN",
        panel=IMAGES,
        recheck=True,
        read=read_numbers,
        help="Channel means (pixels scaled to 0-1).",
        input_kinds=("image",),
    )
    std: tuple[float, ...] | None = option_field(
        metavar="STD,STD,STD",
        panel=IMAGES,
        recheck=True,
        read=read_numbers,
        help="Channel standard deviations.",
        input_kinds=("image",),
    )
    interpolation: str | None = option_field(
        choices=INTERPOLATIONS,
        panel=IMAGES,
        recheck=True,
        help="Interpolation of the resize. Default: bilinear, or the assumed transform's.",
        input_kinds=("image",),
    )
    resize_backend: str | None = option_field(
        choices=RESIZE_BACKENDS,
        panel=IMAGES,
        recheck=True,
        help="Library whose resize the training loader used. Default: pillow.",
        input_kinds=("image",),
    )
    exif: bool = option_field(
        False,
        kind=bool,
        panel=IMAGES,
        help="Rotate photos by their EXIF orientation, as the training loader did.",
        input_kinds=("image",),
    )
    pixel_format: str | None = option_field(
        metavar="FORMAT",
        panel=IMAGES,
        help="Input of the transform: RGB, L, uint8[4], uint16[1]. Default: from the network's input.",
        input_kinds=("image",),
    )
    inputs: tuple[str, ...] = option_field(
        (),
        kind=list[str],
        flag="--input",
        metavar="NAME=DTYPE[batch,...]",
        panel=OTHER_INPUTS,
        recheck=True,
        read=tuple,
        help="Array input, or a token sequence NAME=tokens\\[batch,length], instead of a photo; repeat for more.",
        input_kinds=("tensor", "tokens"),
    )
    columns: tuple[str, ...] = option_field(
        (),
        metavar="NAME,...",
        panel=OTHER_INPUTS,
        recheck=True,
        read=read_columns,
        help="Columns of a transform that was fitted without names.",
        input_kinds=("tabular",),
    )
    tokenizer: Path | None = option_field(
        kind=Path,
        metavar="PATH",
        panel=OTHER_INPUTS,
        recheck=True,
        help="Tokenizer: a Hugging Face folder, or a tokenizer.json. Default: the one in hf:FOLDER.",
        input_kinds=("text",),
    )
    text_pairs: bool = option_field(
        False, kind=bool, panel=OTHER_INPUTS, help="The network takes pairs of texts.", input_kinds=("text",)
    )
    vocabulary: Path | None = option_field(
        kind=Path,
        metavar="FILE",
        panel=OTHER_INPUTS,
        recheck=True,
        help="Words of --input NAME=tokens\\[batch,length], one per line.",
        input_kinds=("tokens",),
    )
    max_length: int | None = option_field(
        kind=int,
        metavar="N",
        panel=OTHER_INPUTS,
        recheck=True,
        help="Most tokens of a text or sequence.",
        input_kinds=("text", "tokens"),
    )
    pad_id: int | None = option_field(
        kind=int,
        metavar="N",
        panel=OTHER_INPUTS,
        recheck=True,
        help="Id of the token that pads shorter sequences.",
        input_kinds=("tokens",),
    )
    task_options: TaskOptions = field(default_factory=TaskOptions)
    labels: Path | tuple[str, ...] | None = option_field(
        kind=Path,
        metavar="FILE",
        panel=OUTPUTS,
        recheck=True,
        help="Class names: one per line, a table with their numbers, or JSON.",
        tasks=(*CLASS_TASKS, "tokens"),
    )
    samples: Path | None = option_field(
        kind=Path,
        metavar="PATH",
        panel=PROOF,
        recheck=True,
        help="Photos, a table or a file of inputs to prove with. Default: bundled photos and generated inputs.",
    )
    max_ratio: float = option_field(
        MAX_RATIO,
        kind=float,
        minimum=1,
        metavar="RATIO",
        panel=PROOF,
        recheck=True,
        help="Largest accepted difference, as a multiple of the eager model's own noise.",
    )
    thorough: bool = option_field(
        False,
        input_kinds=("image",),
        kind=bool,
        panel=PROOF,
        recheck=True,
        help="Photos: compare the prepared pixels on more made images, and after each step of the transform; takes "
        "minutes.",
    )
    locate: Path | None = option_field(
        kind=Path,
        metavar="FOLDER",
        panel=PROOF,
        recheck=True,
        help="Find the first faulty node of the network, and write it to this folder as a script that runs.",
    )
    weights: str | None = option_field(
        metavar="NAME", help="State dict in the checkpoint. Default: the best candidate, reported."
    )
    trust: bool = option_field(
        False,
        kind=bool,
        recheck=True,
        help="Run code that the input files bring: of a whole pickled module, or of a Hugging Face folder.",
    )
    imports: tuple[Path, ...] = option_field(
        (),
        kind=list[Path],
        flag="--import",
        metavar="PATH",
        recheck=True,
        read=tuple,
        help="With --trust: a file or folder with the module's code; repeat for more.",
        needs=("trust",),
    )
    name: str | None = option_field(
        metavar="NAME", panel=WRITING, help="Name of the artifact. Default: the checkpoint's."
    )
    out: Path | None = option_field(
        kind=Path, metavar="FOLDER", panel=WRITING, help="Folder to write. Default: artifacts/NAME."
    )
    force: bool = option_field(False, kind=bool, panel=WRITING, help="Replace an existing artifact.")
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
    def given(self) -> tuple[str, ...]:
        """The names of the options that differ from their defaults, those of ``task_options`` among them."""
        return tuple(
            about.name
            for owner in (self, self.task_options)
            for about in fields(owner)
            if "option" in about.metadata and is_given(about, getattr(owner, about.name))
        )

    @property
    def possible_kinds(self) -> tuple[str, ...]:
        """The input kinds that the model may have, as far as the options alone tell."""
        if self.tokenizer is not None:
            return ("text",)
        if any("=tokens" in text for text in self.inputs):
            return ("tokens",)
        described = (("tensor",) if self.inputs else ()) + (("image", "tabular") if self.preprocess is not None else ())
        if described:
            return described
        return ("image",) if self._has_own_network else ("image", "text")

    @property
    def _has_own_network(self) -> bool:
        """Whether the user named the network, and not a Hugging Face folder, whose configuration tells more."""
        return self.arch is not None and not (isinstance(self.arch, str) and self.arch.startswith("hf:"))

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
        keywords = {name: value for name, value in keywords.items() if value is not None}
        given = {name: field_value(own[name], value) for name, value in keywords.items() if name in own}
        of_task = {name: field_value(task[name], value) for name, value in keywords.items() if name in task}
        if of_task:
            given["task_options"] = replace(given.get("task_options", TaskOptions()), **of_task)
        if not isinstance(checkpoint, str | PathLike):
            raise ExportError(
                f"export(): checkpoint: expected the path of a file or folder, got {type(checkpoint).__name__}. Save "
                "the weights with torch.save(model.state_dict(), PATH), and pass the path."
            )
        if not isinstance(keywords.get("task_options", TaskOptions()), TaskOptions):
            raise ExportError(
                f"export(): task_options: expected TaskOptions, got {type(keywords['task_options']).__name__}. Correct "
                "it, or pass its fields by name."
            )
        options = cls(checkpoint=Path(checkpoint), arch=arch, **given)
        options.check()
        return options

    def check_export(self) -> None:
        """Raise ExportError as ``check`` does, for an export: these options are all that tells what the model is."""
        task = self.task_options.task
        if task is None and self._has_own_network and KINDS_WITH_DEFAULT_TASK.issuperset(self.possible_kinds):
            task = DEFAULT_TASK
        self.check(kinds=self.possible_kinds, task=task)

    def check(self, *, kinds: Collection[str] = (), task: str | None = None) -> None:
        """Raise ExportError for an option that would have no effect, or that contradicts another one.

        ``kinds`` are the input kinds that the model may have and ``task`` its task, where they are known.
        """
        options = {about.name: about.metadata["option"] for about in option_fields(type(self))}
        check_use(self.given, options, kinds=kinds, task=task or self.task_options.task)
        target = self.task_options
        named = str(target.target_transform) in TARGET_FUNCTIONS or (
            isinstance(target.target_transform, tuple)
            and all(isinstance(step, InverseFunction) for step in target.target_transform)
        )
        if (target.target_mean or target.target_std) and target.target_transform is not None and not named:
            raise ExportError(
                "--target-transform: a fitted transform cannot be combined with --target-mean and --target-std. Leave "
                "out one or the other."
            )


def option_fields(kind: type[ExportOptions] = ExportOptions) -> Iterator[Field[Any]]:
    """Yield the fields that are options, in the order of the help: those of a variant come last."""
    inherited = {about.name for about in fields(VariantOptions)}
    for about in sorted(fields(kind), key=lambda about: about.name in inherited):
        if about.name == "task_options":
            yield from fields(TaskOptions)
        elif "option" in about.metadata:
            yield about
