"""The manifest ``truecopy.json``: types, reader and writer."""

import hashlib
import json
from collections import Counter
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from runtime.errors import ArtifactError
from runtime.manifest.inputs import Input
from runtime.manifest.parts import Digest, Dimensions, FileName, Length, Limit, Name, Part, Share, Size
from runtime.manifest.tasks import Labels, Task
from runtime.manifest.variants import ADDED_PRECISIONS, DEFERRING, FULL_PRECISION, LEAST_SPEED, Deferral, Variant

FORMAT_VERSION = 2

_Document = TypeVar("_Document", bound=msgspec.Struct)

# The name of the dimension that every input has first.
BATCH = "batch"


class Output(Part, frozen=True, kw_only=True):
    """One output of every graph; dimensions are lengths or names such as ``batch``.

    An output whose first dimension is not ``batch`` is the same for every input of a batch.
    """

    name: Name
    dtype: Annotated[str, Meta(max_length=32)]
    shape: Dimensions

    @property
    def batched(self) -> bool:
        """Whether the first dimension is ``batch``: one row per input."""
        return self.shape[:1] == (BATCH,)


class Golden(Part, frozen=True, kw_only=True):
    """Golden inputs with the eager model's outputs, and the largest differences that a device may have from them.

    ``prepared_limit`` is for what the host prepares, in gray levels for pixels. The others are absolute, by output:
    ``output_limits`` from the prepared inputs on, ``end_to_end_limits`` from the raw inputs on.
    """

    file: FileName
    prepared_limit: Share
    output_limits: dict[str, Limit]
    end_to_end_limits: dict[str, Limit]


class KeyTransform(Part, frozen=True, kw_only=True, omit_defaults=True):
    """Changes to the checkpoint's keys and values that were needed to load it; empty where there were none.

    ``dropped`` are wrapper names removed at any position, ``renamed`` legacy keys and heads, old to new, ``replaced``
    modules of another size than the architecture's own, ``tied`` keys that took another key's tensor,
    ``filled_counters`` the number of ``num_batches_tracked`` set to zero, ``cast_from`` dtypes that were converted.
    ``converted`` are keys that the network's own code turned into others while it loaded them. ``ignored`` are keys
    that the user left out, of the checkpoint, or of buffers that the network's constructor fills.
    """

    dropped: tuple[str, ...]
    removed_prefix: str
    added_prefix: str
    renamed: dict[str, str]
    replaced: dict[str, str]
    tied: dict[str, str]
    filled_counters: Size
    cast_from: tuple[str, ...]
    converted: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


class Source(Part, frozen=True, kw_only=True):
    """Origin of the network: enough to export it again.

    ``architecture`` is the reference that ``--arch`` takes, ``arguments`` those of its call. ``checkpoint_sha256`` is
    that of the file, ``checkpoint_entry`` the state dict in it, empty for the file itself. ``keys`` are the changes
    that loading needed, ``onnx_exporter`` is the exporter of torch that converted the network.
    """

    architecture: str
    arguments: dict[str, Any]
    checkpoint_sha256: str
    checkpoint_entry: str
    keys: KeyTransform
    onnx_exporter: Literal["dynamo", "legacy"]


class File(Part, frozen=True, kw_only=True):
    """Hash and size of a file of the artifact."""

    sha256: Digest
    size_bytes: Size


class ParitySummary(Part, frozen=True, kw_only=True):
    """The worst figures of ``parity.json``: pixels in gray levels, scores, and the share of labels that agree.

    ``inputs`` is the number of inputs that were run, without batches. ``ratio`` is the largest difference of scores as
    a multiple of the noise floor, ``max_ratio`` the limit of it. A figure is None where the artifact has none.
    """

    verdict: Literal["passed"]
    inputs: Size
    pixel_difference: Size | None
    score_difference: Limit
    label_agreement: Share | None
    ratio: Limit | None = None
    max_ratio: Limit | None = None


class OnnxVersions(Part, frozen=True, kw_only=True):
    """Versions of the graphs: of ONNX's standard operators, and of its file format.

    ``oldest_onnxruntime`` is the first release of onnxruntime that implements both, empty where it is not known.
    """

    opset: Length
    ir_version: Length
    oldest_onnxruntime: Annotated[str, Meta(max_length=32)]

    def describe(self) -> str:
        """Return the versions in words."""
        runtime = f", onnxruntime {self.oldest_onnxruntime} or newer" if self.oldest_onnxruntime else ""
        return f"opset {self.opset}, IR {self.ir_version}{runtime}"


class LengthRange(Part, frozen=True, kw_only=True):
    """The shortest and the longest length of a dimension that were compared with the eager model."""

    lowest: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    highest: Length


class Calibration(Part, frozen=True, kw_only=True):
    """Calibration of probabilities on labeled data, by ``truecopy calibrate``.

    Logits are multiplied by ``scales``: one for all classes, the inverse of the temperature, or one per class.
    ``error_before`` and ``error_after`` are the expected calibration error over ``inputs`` of the data in ``file``.
    """

    file: FileName
    inputs: Length
    scales: Annotated[tuple[float, ...], Meta(min_length=1, max_length=1_000_000)]
    error_before: Share
    error_after: Share


class Manifest(Part, frozen=True, kw_only=True):
    """All that the runtime knows about an artifact before it opens another file.

    ``name`` is what servers offer it under. ``task`` says what the outputs mean, ``inputs`` how an input is decoded and
    prepared, and ``outputs`` what every graph gives. ``variants`` are the graphs by precision, fp32 first. ``golden``
    is what ``truecopy verify`` compares, ``source`` where the network is from. ``files`` are all other files by name,
    ``tools`` the versions that made them. ``calibration`` is present after ``truecopy calibrate``.

    ``parity`` is None only during an export, before its check has passed; the runtime refuses such an artifact.
    ``compared`` is what was compared, by the name of each dynamic dimension: ``batch``, ``length``, and those that the
    user named. The runtime refuses other lengths, and runs larger batches in parts. Where it lacks one that the
    evidence has, ``truecopy verify`` and servers refuse the artifact. ``onnx`` are the versions of the fp32 graphs;
    None in artifacts of earlier releases.
    """

    format_version: int
    name: Name
    task: Task
    inputs: Annotated[tuple[Input, ...], Meta(min_length=1, max_length=10_000)]
    outputs: Annotated[tuple[Output, ...], Meta(min_length=1, max_length=10_000)]
    variants: Annotated[tuple[Variant, ...], Meta(min_length=1, max_length=100)]
    golden: Golden
    source: Source
    files: dict[str, File]
    tools: dict[str, str]
    parity: ParitySummary | None
    calibration: Calibration | None = None
    compared: dict[str, LengthRange] = msgspec.field(default_factory=dict)
    onnx: OnnxVersions | None = None

    @property
    def labels(self) -> Labels | None:
        """The file of the class names, or of the words of token ids; None for tasks without either."""
        return self.task.labels

    def variant(self, precision: str) -> Variant:
        """Return the graphs of a precision; those of ``int8+fp32`` are int8's, beside which fp32's run.

        Raises ArtifactError, naming those that there are, where it has none, and for a pair that is not offered.
        """
        named = precision.removesuffix(DEFERRING)
        for variant in self.variants:
            deferral = variant.approximation.deferral if variant.approximation is not None else None
            if variant.precision == precision or (variant.precision == named and deferral and deferral.offered):
                return variant
            if variant.precision == named and deferral:
                raise ArtifactError(
                    f"'{self.name}': precision '{precision}' is not offered: of {deferral.inputs} measured inputs, "
                    f"{deferral.share:.1%} ran again in fp32, and {_why_refused(deferral)}. Use precision {named} or "
                    "fp32, or quantize again with more inputs, or with surer ones."
                )
        raise ArtifactError(
            f"'{self.name}': no precision '{precision}' in this artifact: it has {', '.join(self.precisions)}. Name "
            f"one of these{self._how_to_add(precision)}."
        )

    @property
    def full_precision_sha256(self) -> str:
        """The SHA-256 of the hashes of the fp32 variant's files, in their order."""
        hashes = "".join(self.files[name].sha256 for name in self.variant(FULL_PRECISION).files)
        return hashlib.sha256(hashes.encode()).hexdigest()

    def _how_to_add(self, precision: str) -> str:
        added = precision.removesuffix(DEFERRING)
        if added not in ADDED_PRECISIONS or any(variant.precision == added for variant in self.variants):
            return ""
        return f", or add {added} with 'truecopy quantize --precision {added}'"

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions that the artifact runs in."""
        measured = [(variant.precision, variant.approximation) for variant in self.variants]
        return (
            *(name for name, _ in measured),
            *(f"{name}{DEFERRING}" for name, own in measured if own and own.deferral and own.deferral.offered),
        )

    @property
    def largest_batch(self) -> int | None:
        """The largest batch that was compared; None where the artifact does not tell."""
        batch = self.compared.get(BATCH)
        return batch.highest if batch is not None else None

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


def decode_document(data: bytes, document: type[_Document]) -> _Document:
    """Return the JSON document in ``data``.

    Raises msgspec.DecodeError for what is none, and where an object has two members of one name: of these, other
    readers may take the other one.
    """
    value = msgspec.json.decode(data, type=document)
    json.loads(data, object_pairs_hook=_check_names, parse_int=str, parse_float=str)
    return value


def _check_names(members: list[tuple[str, Any]]) -> None:
    if len(dict(members)) < len(members):
        (twice, _), *_ = Counter(name for name, _ in members).most_common(1)
        raise msgspec.DecodeError(f"an object has two members of the name '{twice[:80]}'")


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
        return decode_document(data, Manifest)
    except msgspec.DecodeError as error:
        raise ArtifactError(
            f"{subject}: not a truecopy manifest: {_sentence(error)}. Export the model again."
        ) from error


def _why_refused(deferral: Deferral) -> str:
    if deferral.flips:
        return f"{deferral.flips} had another label even so"
    return f"the pair was less than {LEAST_SPEED:g} times as fast as fp32 alone"


def _sentence(error: Exception) -> str:
    return str(error).rstrip(".")
