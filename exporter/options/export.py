"""Options of an export: the only list of them.

The command line, ``truecopy.export``, ``truecopy parity`` and the reference pages are made from these fields. Nothing
here imports PyTorch, so that ``--help`` does not wait for it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from exporter.options.forms import FormOptions
from exporter.options.parts import check_parts, check_several, is_option_of_part, read_parts, values_of_part
from exporter.options.rules import (
    CLASS_TASKS,
    DEFAULT_TASK,
    IMAGES,
    KINDS_WITH_DEFAULT_TASK,
    OTHER_INPUTS,
    OUTPUTS,
    PROOF,
    check_use,
    is_given,
    option_field,
    option_fields,
)
from exporter.options.target import check_target
from exporter.options.task import TaskOptions
from exporter.options.values import (
    checkpoint_path,
    read_columns,
    read_keyword_arguments,
    read_lengths,
    read_numbers,
    read_size,
    values_of,
)
from exporter.options.variant import VariantOptions
from runtime.manifest import TextInput

if TYPE_CHECKING:
    from torch import nn

# How many times the eager model's own noise a copy may differ by. Measured: kernels that add in another order came to
# 3 times.
MAX_RATIO = 10.0

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
CHANNEL_ORDERS = ("rgb", "bgr")
RESIZE_BACKENDS = ("pillow", "torch", "torch-no-antialias", "opencv", "letterbox")

# Suffixes of transforms that were fitted on columns.
_FITTED = {".skops", ".joblib", ".pkl", ".pickle"}


@dataclass(frozen=True, kw_only=True)
class ExportOptions(VariantOptions, FormOptions):
    """One export, as asked for; None: inferred, and reported.

    ``arch`` is a torchvision name, ``timm:NAME``, ``hf:FOLDER``, ``FILE.py:NAME`` or ``FILE.ipynb:NAME``,
    ``package.module:NAME``, a module, or a callable that is called with ``arguments``. ``preprocess`` is the evaluation
    transform, or a reference to it.
    ``inputs`` describe tensors, as ``x=float32[batch,3,28,28]``, or token sequences, as ``x=tokens[batch,length]``.
    ``parts`` have the options of each part of an input, by the names of the parts. ``tokenizer_input`` is the input of
    the artifact that ``tokenizer`` was read from, ``part`` the part that these options are of; they have no option.
    """

    checkpoint: Path
    arch: "str | nn.Module | Callable[..., Any] | None" = option_field(
        metavar="NAME",
        recheck=True,
        help="Architecture: a torchvision name, timm:NAME, hf:FOLDER, FILE.py:NAME, FILE.ipynb:NAME, or "
        "package.module:NAME. Default: the only known one that fits.",
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
        help="Evaluation transform, also of a notebook; timm:NAME, or any callable whose steps the options for images "
        "state; one fitted on columns: FILE.skops, FILE.joblib, statistics as FILE.json; or a function from a text to "
        "token numbers. Default: torchvision's for the architecture.",
        input_kinds=("image", "tabular", "tokens"),
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
        help="Means of the channels, of pixels from 0 to 1; above 1, of gray levels.",
        input_kinds=("image",),
    )
    std: tuple[float, ...] | None = option_field(
        metavar="STD,STD,STD",
        panel=IMAGES,
        recheck=True,
        read=read_numbers,
        help="Standard deviations of the channels.",
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
    channels: str | None = option_field(
        choices=CHANNEL_ORDERS,
        panel=IMAGES,
        recheck=True,
        help="Order of the network's channels, and of --mean and --std: bgr as cv2.imread reads them. Default: rgb.",
        input_kinds=("image",),
    )
    exif: bool | None = option_field(
        kind=bool,
        panel=IMAGES,
        recheck=True,
        help="Rotate photos by their EXIF orientation, as the training loader did.",
        input_kinds=("image",),
    )
    truncated: bool | None = option_field(
        kind=bool,
        panel=IMAGES,
        recheck=True,
        help="Take photos whose file ends too early, as a loader with Pillow's LOAD_TRUNCATED_IMAGES did.",
        input_kinds=("image",),
    )
    pixel_format: str | None = option_field(
        metavar="FORMAT",
        panel=IMAGES,
        recheck=True,
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
        help="Names of the columns, for a transform that was fitted without names.",
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
    text_pairs: bool | None = option_field(
        kind=bool,
        panel=OTHER_INPUTS,
        recheck=True,
        help="The network takes pairs of texts.",
        input_kinds=("text",),
    )
    vocabulary: Path | None = option_field(
        kind=Path,
        metavar="FILE",
        panel=OTHER_INPUTS,
        recheck=True,
        help="Words of --input NAME=tokens\\[batch,length]: one per line, JSON, or a saved dictionary.",
        input_kinds=("tokens",),
    )
    unknown_word: str | None = option_field(
        metavar="WORD",
        panel=OTHER_INPUTS,
        recheck=True,
        help="Word of --vocabulary that stands for all others, '' for none. Default: its own, such as <unk>.",
        input_kinds=("tokens",),
    )
    lowercase: bool | None = option_field(
        kind=bool,
        panel=OTHER_INPUTS,
        recheck=True,
        help="Put words into lower case before they are looked up in --vocabulary.",
        input_kinds=("tokens",),
    )
    max_length: int | None = option_field(
        kind=int,
        metavar="N",
        panel=OTHER_INPUTS,
        recheck=True,
        help="Most tokens of a text or sequence: where training cut them. Default: the model's own limit.",
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
    lengths: Mapping[str, tuple[int, int]] = option_field(
        {},
        input_kinds=("tensor", "tokens"),
        metavar="LOW..HIGH",
        panel=OTHER_INPUTS,
        recheck=True,
        read=read_lengths,
        help="Lengths of dynamic dimensions to compare, and then to accept: LOW..HIGH, or NAME=LOW..HIGH,... Default: "
        "up to 512, for arrays with several of them 96.",
    )
    parts: Mapping[str, Any] = option_field(
        {},
        kind=list[str],
        flag="--part",
        metavar="NAME=TRANSFORM",
        panel=OTHER_INPUTS,
        recheck=True,
        read=read_parts,
        help="One of several parts of an input, named as the forward's parameter; NAME.OPTION=VALUE states any other "
        "option of the part, such as left.resize=64x64. Repeat for each.",
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
        help="Photos: run every form on every input. 'truecopy parity' also compares the prepared pixels on more made "
        "images, and after each step of the transform, which takes minutes.",
    )
    locate: Path | None = option_field(
        kind=Path,
        metavar="FOLDER",
        panel=PROOF,
        recheck=True,
        help="Find the first faulty node of the network, and write it to this folder as a script that runs.",
    )
    ignore_memory: bool = option_field(
        False, kind=bool, panel=PROOF, recheck=True, help="Begin even where memory seems too small for the weights."
    )
    weights: str | None = option_field(
        metavar="NAME", recheck=True, help="State dict in the checkpoint. Default: the best candidate, reported."
    )
    ignore_keys: tuple[str, ...] = option_field(
        (),
        kind=list[str],
        flag="--ignore-keys",
        metavar="PATTERN",
        recheck=True,
        read=tuple,
        help="Keys to leave out: of the checkpoint, such as 'criterion.*', or of buffers that the network's "
        "constructor fills; repeat for more.",
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
    tokenizer_input: TextInput | None = None
    part: str = ""

    @property
    def artifact_name(self) -> str:
        """The artifact's name, which servers offer it under."""
        return self.name or self.checkpoint.stem

    @property
    def artifact_path(self) -> Path:
        """The folder that the artifact is written to."""
        return self.out or Path("artifacts") / self.artifact_name

    @property
    def names_labels(self) -> bool:
        """Whether the user named every class."""
        return self.labels is not None or self.task_options.names_labels

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
        if self.parts:
            return tuple(dict.fromkeys(kind for name in self.parts for kind in self.of_part(name).possible_kinds))
        if self.tokenizer is not None:
            return ("text",)
        if isinstance(self.preprocess, str) and Path(self.preprocess).suffix in _FITTED:
            return ("tabular",)
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
        own, of_task = values_of(keywords, cls, TaskOptions)
        if of_task:
            own["task_options"] = replace(own.get("task_options", TaskOptions()), **of_task)
        abouts = {about.name: about for about in fields(cls) if is_option_of_part(about)}
        own["parts"] = {name: values_of_part(name, part, abouts) for name, part in own.get("parts", {}).items()}
        options = cls(checkpoint=checkpoint_path(checkpoint), arch=arch, **own)
        options.check()
        return options

    def of_part(self, name: str) -> Self:
        """Return the options of one part, as those of an input of its own."""
        return replace(self, parts={}, part=name, **self.parts[name])

    def check_export(self) -> None:
        """Raise ExportError as ``check`` does, for an export: these options are all that tells what the model is."""
        check_several(self.parts)
        task = self.task_options.complete().task
        if task is None and self._has_own_network and KINDS_WITH_DEFAULT_TASK.issuperset(self.possible_kinds):
            task = DEFAULT_TASK
        self.check(kinds=self.possible_kinds, task=task)

    def check(self, *, kinds: Collection[str] = (), task: str | None = None) -> None:
        """Raise ExportError for an option that would have no effect, or that contradicts another one.

        ``kinds`` are the input kinds that the model may have and ``task`` its task, where they are known.
        """
        options = {about.name: about.metadata["option"] for about in option_fields(type(self))}
        check_use(self.given, options, kinds=kinds, task=task or self.task_options.task)
        if self.parts:
            check_parts(self.given, options)
        target = self.task_options
        check_target(target.target_transform, scaled=bool(target.target_mean or target.target_std))
