"""What the user asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporter.architectures.registry import Architecture
from exporter.outputs.postprocessing import TaskOptions
from exporter.parity.noise import MAX_RATIO
from runtime.manifest import TextInput


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One export, as asked for; None means: find out, and say what was assumed.

    ``weights`` names the entry of the checkpoint to take; ``trust`` allows a whole pickled module, whose source is
    found in ``imports``. ``out`` defaults to ``artifacts/<name>``, and ``name`` to the checkpoint's file name without
    its postprocessing. ``pixel_format`` is what the transform gets: RGB, L, or arrays such as ``uint16[4]``. ``inputs``
    describe tensors, as ``x=float32[batch,3,28,28]``; ``columns`` name those of a transform of rows that was fitted
    without names; ``carried`` is the input of the artifact whose ``tokenizer`` it is; ``wanted`` is what is to come
    out; ``max_ratio`` is how many times eager's own noise is allowed.
    """

    checkpoint: Path
    arch: Architecture | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    preprocess: str | Callable[..., Any] | None = None
    labels: Path | None = None
    samples: Path | None = None
    weights: str | None = None
    trust: bool = False
    imports: tuple[Path, ...] = ()
    name: str | None = None
    out: Path | None = None
    exif: bool = False
    pixel_format: str | None = None
    inputs: tuple[str, ...] = ()
    tokenizer: Path | None = None
    carried: TextInput | None = None
    vocabulary: Path | None = None
    max_length: int | None = None
    pad_id: int | None = None
    text_pairs: bool = False
    columns: tuple[str, ...] = ()
    wanted: TaskOptions = field(default_factory=TaskOptions)
    max_ratio: float = MAX_RATIO
    locate: Path | None = None
    force: bool = False

    @property
    def artifact_name(self) -> str:
        """The artifact's name, which servers offer it under."""
        return self.name or self.checkpoint.stem

    @property
    def artifact_path(self) -> Path:
        """The folder that the artifact is written to."""
        return self.out or Path("artifacts") / self.artifact_name
