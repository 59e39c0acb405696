"""The contract between exporter and runtime: every type that an artifact's ``truecopy.json`` holds.

Compatibility: a reader accepts its own ``FORMAT_VERSION`` and refuses any other. A change that an older reader would
misread raises the version; unknown fields are refused, so nothing is ever silently ignored.
"""

from typing import Any, Literal, TypeAlias

import msgspec

from runtime.errors import ArtifactError

FORMAT_VERSION = 1
MANIFEST_NAME = "truecopy.json"

Interpolation: TypeAlias = Literal["nearest", "nearest_exact", "box", "bilinear", "hamming", "bicubic", "lanczos"]
AxisOrder: TypeAlias = Literal["horizontal_first", "larger_cut_first"]
NumberType: TypeAlias = Literal[
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"
]


class _Type(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frozen, keyword-only part of the manifest."""


class _Tagged(_Type, frozen=True, kw_only=True):
    """A part that is one of several kinds."""

    @property
    def kind(self) -> str:
        """The word that the manifest has for this kind."""
        return str(self.__struct_config__.tag)


class KeepRatio(_Type, frozen=True, kw_only=True):
    """A size that keeps the aspect ratio: the largest one ``inside`` a box, or the smallest one ``outside`` it.

    Both sides are rounded half to even: of ``side / ratio`` as timm's ResizeKeepRatio computes them, or of ``side *
    ratio`` as Ultralytics' LetterBox does. Without ``enlarge`` smaller images stay as they are.
    """

    height: int
    width: int
    side: Literal["inside", "outside"]
    arithmetic: Literal["divide", "multiply"]
    enlarge: bool = True


class Resize(_Type, frozen=True, kw_only=True, tag="resize", tag_field="step"):
    """A resize of uint8 pixels.

    ``size`` is an exact ``(height, width)``; or the length of the short side, the long side following the aspect ratio
    (truncated, as torchvision does) up to ``max_size``; or a box that the image is fitted to. ``axis_order`` states
    which of the two one-axis passes comes first: Pillow rounds to uint8 between them, so the order shows in the pixels.
    Up to Pillow 12 the horizontal pass is always first; since Pillow 13 the vertical one is, where it removes more than
    twice as many rows as the other removes columns.

    ``implementation`` is Pillow's, for transforms of PIL images, with weights in 22 bits; or torch's, for transforms of
    uint8 tensors, which fits the largest weight into 15 bits; or OpenCV's, with weights in 11 bits. All are followed to
    the last bit. Without ``antialias``, as OpenCV always does it, two pixels along each axis are mixed, however many
    lie between them.
    """

    size: int | tuple[int, int] | KeepRatio
    interpolation: Interpolation
    axis_order: AxisOrder
    max_size: int | None = None
    implementation: Literal["pillow", "torch", "opencv"] = "pillow"
    antialias: bool = True


class CenterCrop(_Type, frozen=True, kw_only=True, tag="center_crop", tag_field="step"):
    """The middle ``height x width`` pixels; smaller images are padded with ``fill``, one value or one a channel.

    Where an odd number of pixels is cut, ``rounding`` tells on which side there is one more: torchvision rounds the
    start half to even, transformers down. Where an odd number is padded, all have one more after the image.
    """

    height: int
    width: int
    rounding: Literal["half_even", "down"] = "half_even"
    fill: tuple[int, ...] = (0,)


class ToFloat(_Type, frozen=True, kw_only=True, tag="to_float", tag_field="step"):
    """uint8 pixels to float32 by division."""

    divisor: float


class Normalize(_Type, frozen=True, kw_only=True, tag="normalize", tag_field="step"):
    """``(x - mean) / std``, one value a channel, in the units that the step before leaves."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Pad(_Type, frozen=True, kw_only=True, tag="pad", tag_field="step"):
    """Pixels added on each side: of one colour, or the image's own, repeated or mirrored as ``numpy.pad`` does.

    ``fill`` has one value a channel, for ``constant`` alone.
    """

    left: int
    top: int
    right: int
    bottom: int
    mode: Literal["constant", "edge", "reflect", "symmetric"]
    fill: tuple[int, ...] = (0,)


class Grayscale(_Type, frozen=True, kw_only=True, tag="grayscale", tag_field="step"):
    """Pillow's ``convert("L")``, ITU-R 601 luma in 16-bit fixed point, repeated over ``channels``."""

    channels: Literal[1, 3]


GeometryStep: TypeAlias = Resize | CenterCrop | Pad | Grayscale
ArithmeticStep: TypeAlias = ToFloat | Normalize


class Preprocessing(_Type, frozen=True, kw_only=True):
    """From decoded pixels to the network's input: geometry on uint8, then arithmetic on float32.

    ``height``, ``width`` and ``channels`` are the shape of the prepared pixels; None where it follows from the image's.
    """

    geometry: tuple[GeometryStep, ...]
    arithmetic: tuple[ArithmeticStep, ...]
    height: int | None
    width: int | None
    channels: int


class ImageInput(_Tagged, frozen=True, kw_only=True, tag="image", tag_field="kind"):
    """A photo: decoded with Pillow, turned by its EXIF orientation if ``exif`` is true, converted to ``mode``.

    The mode ``bands`` is for other pixels, which are not converted: an array of ``dtype`` with any number of
    ``channels``, from .npy, TIFF and PNG files. ``preprocessing`` is what follows: its geometry on the host or in the
    graph, its arithmetic always in the graph.
    """

    name: str
    mode: Literal["RGB", "L", "bands"]
    exif: bool
    preprocessing: Preprocessing
    channels: int = 3
    dtype: Literal["uint8", "uint16"] = "uint8"


class TensorInput(_Tagged, frozen=True, kw_only=True, tag="tensor", tag_field="kind"):
    """Numbers as they are: an array whose dimensions are lengths or names; the first is ``batch``.

    Dimensions of one name have one length, over all inputs. ``finite`` says that NaN and infinity are refused.
    """

    name: str
    dtype: NumberType
    shape: tuple[int | str, ...]
    finite: bool = True


class Column(_Type, frozen=True, kw_only=True):
    """One column of a table, which is one input of the graph: [batch, 1].

    ``nullable`` says that an empty cell is filled in as in training. ``categories`` are the strings or numbers that the
    column may have where the training transform refuses others; empty where anything goes.
    """

    name: str
    dtype: Literal["float32", "float64", "int64", "string"]
    nullable: bool = False
    categories: tuple[str | int | float, ...] = ()


class TabularInput(_Tagged, frozen=True, kw_only=True, tag="tabular", tag_field="kind"):
    """A row of a table, by column name; one missing, too many or misnamed is an error."""

    name: str
    columns: tuple[Column, ...]


class TextInput(_Tagged, frozen=True, kw_only=True, tag="text", tag_field="kind"):
    """A sentence, or a pair of them: tokenised with the file ``tokenizer`` as the tokenizers library reads it.

    ``arrays`` are the graph's inputs, int64 [batch, length]: some of ``input_ids``, ``attention_mask`` and
    ``token_type_ids``. ``max_length`` counts special tokens, too; longer texts are cut as in training. ``pad_id`` is
    None where answers depend on padding: only texts of equal length may then share a batch.
    """

    name: str
    tokenizer: str
    arrays: tuple[str, ...]
    max_length: int
    pad_id: int | None = None
    pad_type_id: int = 0
    padding_side: Literal["left", "right"] = "right"
    pair: bool = False


Beside: TypeAlias = Literal["lengths", "mask", "padding"]


class TokensInput(_Tagged, frozen=True, kw_only=True, tag="tokens", tag_field="kind"):
    """A sequence of token numbers, int64 [batch, length], each from 0 up to ``vocabulary_size``, exclusive.

    ``max_length`` is None where any length goes; ``vocabulary`` is the file with a word a line, empty where there is
    none. ``pad_id`` fills shorter sequences up at their end; None where only those of equal length may share a batch.

    ``beside`` are further inputs of the graph, which the host makes of the sequences' lengths, by name: ``lengths``,
    int64 [batch]; ``mask``, int64 [batch, length], 1 for a token and 0 for padding; ``padding``, bool [batch, length].
    """

    name: str
    vocabulary_size: int
    max_length: int | None = None
    vocabulary: str = ""
    pad_id: int | None = None
    beside: dict[str, Beside] = {}


Input: TypeAlias = ImageInput | TensorInput | TabularInput | TextInput | TokensInput


class Output(_Type, frozen=True, kw_only=True):
    """One output of every graph; dimensions are lengths or names such as ``batch``.

    An output whose first dimension is not ``batch`` is the same for every input of a batch.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Labels(_Type, frozen=True, kw_only=True):
    """The file of class names, one a line, in the order of the scores."""

    file: str
    count: int


class Classify(_Tagged, frozen=True, kw_only=True, tag="classify", tag_field="kind"):
    """One class of several: the output is probabilities [batch, classes] that sum to one.

    A network with one logit for two classes is written with both probabilities.
    """

    labels: Labels


class Multilabel(_Tagged, frozen=True, kw_only=True, tag="multilabel", tag_field="kind"):
    """Any number of classes: the output is probabilities [batch, classes]; a class holds from its threshold on."""

    labels: Labels
    thresholds: tuple[float, ...]


class Value(_Type, frozen=True, kw_only=True):
    """A number that a model predicts; ``unit`` may be empty."""

    name: str
    unit: str = ""


class Line(_Tagged, frozen=True, kw_only=True, tag="line", tag_field="step"):
    """``value * scale + offset``, one number a value each."""

    scale: tuple[float, ...]
    offset: tuple[float, ...]


CurveName: TypeAlias = Literal["exp", "expm1", "square", "box-cox", "yeo-johnson"]


class Curve(_Tagged, frozen=True, kw_only=True, tag="curve", tag_field="step"):
    """A function of each value; of the last two, the inverse with ``lambdas``, one a value."""

    function: CurveName
    lambdas: tuple[float, ...] = ()


Undone: TypeAlias = Line | Curve


class Regress(_Tagged, frozen=True, kw_only=True, tag="regress", tag_field="kind"):
    """Named numbers in their own units: the output is [batch, values].

    ``undone`` are the graph's last steps, which undo what training did to the target.
    """

    values: tuple[Value, ...]
    undone: tuple[Undone, ...] = ()


class Segment(_Tagged, frozen=True, kw_only=True, tag="segment", tag_field="kind"):
    """A class for every place: the output is probabilities [batch, classes, height, width].

    ``colours`` are RGB, one a class.
    """

    labels: Labels
    colours: tuple[tuple[int, int, int], ...]


class Tokens(_Tagged, frozen=True, kw_only=True, tag="tokens", tag_field="kind"):
    """A sequence of token numbers: the output is int64 [batch, steps].

    A sequence ends before its first ``end_id``; it goes to the last step where that is None or does not come.
    ``labels`` are the words, where there is a vocabulary.
    """

    end_id: int | None = None
    labels: Labels | None = None


class Leaf(_Tagged, frozen=True, kw_only=True, tag="output", tag_field="part"):
    """One of the outputs, by name."""

    output: str


class Items(_Tagged, frozen=True, kw_only=True, tag="list", tag_field="part"):
    """What a forward returned as a list or tuple."""

    items: tuple["Leaf | Items | Entries", ...]


class Entries(_Tagged, frozen=True, kw_only=True, tag="dictionary", tag_field="part"):
    """What a forward returned by name."""

    entries: dict[str, "Leaf | Items | Entries"]


Structure: TypeAlias = Leaf | Items | Entries


class Raw(_Tagged, frozen=True, kw_only=True, tag="raw", tag_field="kind"):
    """The network's own outputs, in the structure that its forward returned."""

    structure: Structure


Task: TypeAlias = Classify | Multilabel | Regress | Segment | Tokens | Raw


class Variant(_Type, frozen=True, kw_only=True):
    """The graphs of one precision: ``model`` takes raw inputs, ``network`` prepared ones; both read ``weights``.

    They are one file where the host prepares nothing that the graph could.
    """

    precision: Literal["fp32"]
    model: str
    network: str
    weights: str


class Golden(_Type, frozen=True, kw_only=True):
    """Inputs with the eager model's outputs, and how far a device may stray from them.

    ``prepared_limit`` is for what the host prepares: grey levels of pixels. The others are by output, absolute:
    ``output_limits`` for given prepared inputs, ``end_to_end_limits`` from the raw input.
    """

    file: str
    prepared_limit: float
    output_limits: dict[str, float]
    end_to_end_limits: dict[str, float]


class KeyTransform(_Type, frozen=True, kw_only=True):
    """What was done to the checkpoint's keys and values to load it; empty where nothing was.

    ``dropped`` are wrappers removed wherever they stood, ``renamed`` legacy keys and heads, old to new, ``replaced``
    modules of another size than the architecture's own, ``tied`` keys that took another key's tensor,
    ``filled_counters`` the number of ``num_batches_tracked`` set to zero, ``cast_from`` types given up.
    """

    dropped: tuple[str, ...]
    removed_prefix: str
    added_prefix: str
    renamed: dict[str, str]
    replaced: dict[str, str]
    tied: dict[str, str]
    filled_counters: int
    cast_from: tuple[str, ...]


class Source(_Type, frozen=True, kw_only=True):
    """Where the network came from: enough to export it again."""

    architecture: str
    arguments: dict[str, Any]
    checkpoint_sha256: str
    checkpoint_entry: str
    keys: KeyTransform
    onnx_exporter: Literal["dynamo", "legacy"]


class File(_Type, frozen=True, kw_only=True):
    """A file of the artifact, as it was written."""

    sha256: str
    size_bytes: int


class ParitySummary(_Type, frozen=True, kw_only=True):
    """The worst figures of ``parity.json``: pixels in grey levels, scores, labels as a share.

    ``ratio`` is the largest difference of scores as a multiple of the noise floor, ``max_ratio`` where the limit was.
    None where an artifact has no such thing. ``unproven`` exists while the exporter compares; the runtime opens no such
    artifact.
    """

    verdict: Literal["passed", "unproven"]
    inputs: int
    pixel_difference: int | None
    score_difference: float
    label_agreement: float | None
    ratio: float | None = None
    max_ratio: float | None = None


class Calibration(_Type, frozen=True, kw_only=True):
    """How probabilities were made to mean what they say, on labelled data: ``truecopy calibrate``.

    Logits are multiplied by ``scales``: one for all classes, the inverse of the temperature, or one a class.
    ``error_before`` and ``error_after`` are the expected calibration error over ``inputs`` of the data in ``file``.
    """

    file: str
    inputs: int
    scales: tuple[float, ...]
    error_before: float
    error_after: float


class Manifest(_Type, frozen=True, kw_only=True):
    """Everything that the runtime knows about an artifact before it opens another file."""

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
    parity: ParitySummary
    calibration: Calibration | None = None

    @property
    def labels(self) -> Labels | None:
        """The file of the names of classes, or of the words of token numbers; None for tasks without either."""
        return None if isinstance(self.task, Regress | Raw) else self.task.labels


class _Version(msgspec.Struct):
    format_version: int


def to_json(value: msgspec.Struct) -> bytes:
    """Return the value as indented JSON that ends in a newline; equal values give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2) + b"\n"


def manifest_from_json(data: bytes, *, subject: str) -> Manifest:
    """Return the manifest that ``data`` holds.

    Raises ArtifactError, with ``subject`` as the file's name, when it is not one of this format version.
    """
    try:
        version = msgspec.json.decode(data, type=_Version).format_version
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
