"""Options of a task: what the outputs mean."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from exporter.options.heads import FORM, HeadOptions, read_heads
from exporter.options.rules import OUTPUTS, option_field
from exporter.options.values import read_colors, read_numbers, read_values
from runtime.manifest import InverseStep, Value


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What the outputs mean; None and empty: inferred from the network.

    ``target_mean`` and ``target_std`` undo the scaling of a regression's target, with one number per value or one for
    all; ``target_transform`` undoes what came before that: a file, a name, or the inverse steps themselves.
    """

    task: str | None = option_field(
        choices="exporter.outputs.registry:TASKS",
        panel=OUTPUTS,
        recheck=True,
        help="Task of the network. Default: classify.",
    )
    values: tuple[Value, ...] = option_field(
        (),
        metavar="NAME=UNIT,...",
        panel=OUTPUTS,
        recheck=True,
        read=read_values,
        help="Names of the numbers that --task regress predicts; units are optional.",
        tasks=("regress",),
    )
    target_mean: tuple[float, ...] = option_field(
        (),
        metavar="MEAN,...",
        panel=OUTPUTS,
        recheck=True,
        read=read_numbers,
        help="Mean of the training target; added back.",
        tasks=("regress",),
    )
    target_std: tuple[float, ...] = option_field(
        (),
        metavar="STD,...",
        panel=OUTPUTS,
        recheck=True,
        read=read_numbers,
        help="Standard deviation of the training target; multiplied back.",
        tasks=("regress",),
    )
    target_transform: str | Path | tuple[InverseStep, ...] | None = option_field(
        metavar="FILE",
        panel=OUTPUTS,
        recheck=True,
        help="Transform of the training target: fitted, as .skops or .joblib, or log, log1p or sqrt, applied before "
        "--target-mean and --target-std.",
        tasks=("regress",),
    )
    thresholds: tuple[float, ...] = option_field(
        (),
        metavar="THRESHOLD,...",
        panel=OUTPUTS,
        recheck=True,
        read=read_numbers,
        help="Thresholds of --task multilabel: one per class, or one for all. Default: 0.5.",
        tasks=("multilabel",),
    )
    end_id: int | None = option_field(
        kind=int,
        metavar="N",
        panel=OUTPUTS,
        recheck=True,
        help="End-of-sequence token id of --task tokens.",
        tasks=("tokens",),
    )
    colors: tuple[tuple[int, int, int], ...] = option_field(
        (),
        metavar="COLOR,...",
        panel=OUTPUTS,
        recheck=True,
        read=read_colors,
        help="Colors of --task segment, one per class, such as black,#ff8000, or a file with one per line. Default: "
        "Pascal VOC's.",
        tasks=("segment",),
    )
    heads: tuple[HeadOptions, ...] = option_field(
        (),
        metavar=FORM,
        panel=OUTPUTS,
        recheck=True,
        read=read_heads,
        help="Heads with a result each, such as race=0:7@race.txt,age:regress=7:8, or race@race.txt for an output of "
        "that name. Default of --task heads: each output.",
        tasks=("heads",),
    )

    @property
    def names_labels(self) -> bool:
        """Whether every head with classes has its file of labels."""
        return bool(self.heads) and all(head.labels for head in self.heads if head.task != "regress")

    def complete(self) -> Self:
        """Return the options with the task that the others imply."""
        return replace(self, task="heads") if self.heads and self.task is None else self
