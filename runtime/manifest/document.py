"""The manifest ``truecopy.json``: types, reader and writer."""

from typing import Any, Literal

import msgspec

from runtime.errors import ArtifactError
from runtime.manifest.inputs import Input
from runtime.manifest.parts import Part
from runtime.manifest.tasks import Labels, Task
from runtime.manifest.variants import Variant

FORMAT_VERSION = 2


class Output(Part, frozen=True, kw_only=True):
    """One output of every graph; dimensions are lengths or names such as ``batch``.

    An output whose first dimension is not ``batch`` is the same for every input of a batch.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    @property
    def batched(self) -> bool:
        """Whether the first dimension is ``batch``: one row per input."""
        return self.shape[:1] == ("batch",)


class Golden(Part, frozen=True, kw_only=True):
    """Golden inputs with the eager model's outputs, and the largest differences that a device may have from them.

    ``prepared_limit`` is for what the host prepares, in gray levels for pixels. The others are absolute, by output:
    ``output_limits`` from the prepared inputs on, ``end_to_end_limits`` from the raw inputs on.
    """

    file: str
    prepared_limit: float
    output_limits: dict[str, float]
    end_to_end_limits: dict[str, float]


class KeyTransform(Part, frozen=True, kw_only=True):
    """Changes to the checkpoint's keys and values that were needed to load it; empty where there were none.

    ``dropped`` are wrapper names removed at any position, ``renamed`` legacy keys and heads, old to new, ``replaced``
    modules of another size than the architecture's own, ``tied`` keys that took another key's tensor,
    ``filled_counters`` the number of ``num_batches_tracked`` set to zero, ``cast_from`` dtypes that were converted.
    """

    dropped: tuple[str, ...]
    removed_prefix: str
    added_prefix: str
    renamed: dict[str, str]
    replaced: dict[str, str]
    tied: dict[str, str]
    filled_counters: int
    cast_from: tuple[str, ...]


class Source(Part, frozen=True, kw_only=True):
    """Origin of the network: enough to export it again."""

    architecture: str
    arguments: dict[str, Any]
    checkpoint_sha256: str
    checkpoint_entry: str
    keys: KeyTransform
    onnx_exporter: Literal["dynamo", "legacy"]


class File(Part, frozen=True, kw_only=True):
    """Hash and size of a file of the artifact."""

    sha256: str
    size_bytes: int


class ParitySummary(Part, frozen=True, kw_only=True):
    """The worst figures of ``parity.json``: pixels in gray levels, scores, and the share of labels that agree.

    ``ratio`` is the largest difference of scores as a multiple of the noise floor, ``max_ratio`` the limit of it. A
    figure is None where the artifact has none.
    """

    verdict: Literal["passed"]
    inputs: int
    pixel_difference: int | None
    score_difference: float
    label_agreement: float | None
    ratio: float | None = None
    max_ratio: float | None = None


class Calibration(Part, frozen=True, kw_only=True):
    """Calibration of probabilities on labeled data, by ``truecopy calibrate``.

    Logits are multiplied by ``scales``: one for all classes, the inverse of the temperature, or one per class.
    ``error_before`` and ``error_after`` are the expected calibration error over ``inputs`` of the data in ``file``.
    """

    file: str
    inputs: int
    scales: tuple[float, ...]
    error_before: float
    error_after: float


class Manifest(Part, frozen=True, kw_only=True):
    """All that the runtime knows about an artifact before it opens another file.

    ``parity`` is None only during an export, before its check has passed; the runtime refuses such an artifact.
    """

    format_version: int
    name: str
    task: Task
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    variants: tuple[Variant, ...]
    golden: Golden
    source: Source
    files: dict[str, File]
    tools: dict[str, str]
    parity: ParitySummary | None
    calibration: Calibration | None = None

    @property
    def labels(self) -> Labels | None:
        """The file of the class names, or of the words of token ids; None for tasks without either."""
        return self.task.labels

    def variant(self, precision: str) -> Variant:
        """Return the graphs of a precision. Raises ArtifactError, naming those that there are, where it has none."""
        for variant in self.variants:
            if variant.precision == precision:
                return variant
        known = ", ".join(variant.precision for variant in self.variants)
        raise ArtifactError(
            f"'{self.name}': no precision '{precision}' in this artifact: it has {known}. Name one of these, or add "
            "int8 with 'truecopy quantize'."
        )

    @property
    def batched_outputs(self) -> frozenset[str]:
        """The names of the outputs with one row per input."""
        return frozenset(output.name for output in self.outputs if output.batched)


class FormatVersion(msgspec.Struct):
    """The version of a file's format, which is read before the rest of the file."""

    format_version: int


def struct_to_json(value: msgspec.Struct) -> bytes:
    """Return a struct as indented JSON that ends in a newline; equal structs give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2) + b"\n"


def manifest_from_json(data: bytes, *, subject: str) -> Manifest:
    """Return the manifest in ``data``.

    Raises ArtifactError, with ``subject`` as the file's name, when it is not one of this format version.
    """
    try:
        version = msgspec.json.decode(data, type=FormatVersion).format_version
        if version != FORMAT_VERSION:
            action = (
                "Install a newer truecopy runtime, or export again with this one"
                if version > FORMAT_VERSION
                else "Export again"
            )
            raise ArtifactError(
                f"{subject}: unsupported format version: expected {FORMAT_VERSION}, got {version}. {action}."
            )
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise ArtifactError(
            f"{subject}: not a truecopy manifest: {_sentence(error)}. Export the model again."
        ) from error


def _sentence(error: Exception) -> str:
    return str(error).rstrip(".")
