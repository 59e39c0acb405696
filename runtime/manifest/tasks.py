"""Tasks: the meaning of the outputs, from classes to raw arrays."""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from runtime.manifest.parts import FileName, Length, Name, Part, Share, Size, TaggedPart, Text, TokenId

_CLASSES = Meta(min_length=1, max_length=1_000_000)
_Color = Annotated[int, Meta(ge=0, le=255)]


class Labels(Part, frozen=True, kw_only=True):
    """The file of class names, one per line, in the order of the scores."""

    file: FileName
    count: Length


class Classify(TaggedPart, frozen=True, kw_only=True, tag="classify", tag_field="kind"):
    """One class of several: the output is probabilities [batch, classes] that sum to one.

    A network with one logit for two classes is written with both probabilities.
    """

    labels: Labels


class Multilabel(TaggedPart, frozen=True, kw_only=True, tag="multilabel", tag_field="kind"):
    """Any number of classes: the output is probabilities [batch, classes]; a class holds from its threshold on."""

    labels: Labels
    thresholds: Annotated[tuple[Share, ...], _CLASSES]


class Value(Part, frozen=True, kw_only=True):
    """A number that a model predicts; ``unit`` may be empty."""

    name: Text
    unit: Text = ""


class Affine(TaggedPart, frozen=True, kw_only=True, tag="affine", tag_field="step"):
    """``value * scale + offset``, with one number of each per value."""

    scale: Annotated[tuple[float, ...], _CLASSES]
    offset: Annotated[tuple[float, ...], _CLASSES]


InverseFunctionName: TypeAlias = Literal["exp", "expm1", "square", "box-cox", "yeo-johnson"]


class InverseFunction(TaggedPart, frozen=True, kw_only=True, tag="function", tag_field="step"):
    """A function of each value; the last two are inverses with ``lambdas``, one per value."""

    function: InverseFunctionName
    lambdas: Annotated[tuple[float, ...], Meta(max_length=1_000_000)] = ()


InverseStep: TypeAlias = Affine | InverseFunction


class Regress(TaggedPart, frozen=True, kw_only=True, tag="regress", tag_field="kind"):
    """Named numbers in their own units: the output is [batch, values].

    ``inverse_transform`` are the graph's last steps, which undo what training did to the target.
    """

    values: Annotated[tuple[Value, ...], _CLASSES]
    inverse_transform: Annotated[tuple[InverseStep, ...], Meta(max_length=100)] = ()

    @property
    def labels(self) -> None:
        """None: values have names, and there are no classes."""
        return None


class Segment(TaggedPart, frozen=True, kw_only=True, tag="segment", tag_field="kind"):
    """A class for every pixel: the output is probabilities [batch, classes, height, width].

    ``colors`` are RGB, one per class.
    """

    labels: Labels
    colors: Annotated[tuple[tuple[_Color, _Color, _Color], ...], _CLASSES]


class Tokens(TaggedPart, frozen=True, kw_only=True, tag="tokens", tag_field="kind"):
    """A sequence of token numbers: the output is int64 [batch, steps].

    A sequence ends before its first ``end_id``; it goes to the last step where that is None or does not come.
    ``labels`` are the words, where there is a vocabulary.
    """

    end_id: TokenId | None = None
    labels: Labels | None = None


class Words(TaggedPart, frozen=True, kw_only=True, tag="words", tag_field="kind"):
    """A class for each word of a text: the output is probabilities [batch, length, classes], of all tokens.

    The first token of a word decides; special tokens and padding are no words.
    """

    labels: Labels


# What a head may be.
HeadTask: TypeAlias = Classify | Multilabel | Regress


class Head(Part, frozen=True, kw_only=True):
    """One head: the columns from ``start`` to before ``stop`` of the network's own ``output``, and their task.

    The artifact has an output of the head's name. The labels of its task are a part of the file of all heads.
    """

    name: Name
    output: Name
    start: Size
    stop: Length
    task: HeadTask


class Heads(TaggedPart, frozen=True, kw_only=True, tag="heads", tag_field="kind"):
    """Several heads, each with its own task and output.

    ``labels`` are the class names of all heads, one head after the other; None where no head has classes.
    """

    heads: Annotated[tuple[Head, ...], Meta(min_length=1, max_length=10_000)]
    labels: Labels | None = None


class TensorLeaf(TaggedPart, frozen=True, kw_only=True, tag="output", tag_field="part"):
    """One of the outputs, by name."""

    output: Name


class Items(TaggedPart, frozen=True, kw_only=True, tag="list", tag_field="part"):
    """What a forward returned as a list or tuple."""

    items: tuple["TensorLeaf | Items | Entries", ...]


class Entries(TaggedPart, frozen=True, kw_only=True, tag="dictionary", tag_field="part"):
    """What a forward returned by name."""

    entries: dict[str, "TensorLeaf | Items | Entries"]


Structure: TypeAlias = TensorLeaf | Items | Entries


class Raw(TaggedPart, frozen=True, kw_only=True, tag="raw", tag_field="kind"):
    """The network's own outputs, in the structure that its forward returned."""

    structure: Structure

    @property
    def labels(self) -> None:
        """None: arrays have no classes."""
        return None


# What the outputs mean: each type has ``labels``, the file of its class names or words, or None.
Task: TypeAlias = Classify | Multilabel | Regress | Segment | Tokens | Words | Heads | Raw
