"""Inputs of an artifact: images, arrays, rows, texts, token sequences."""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from runtime.manifest.parts import Channels, Dimensions, FileName, Length, Name, Part, TaggedPart, Text, TokenId
from runtime.manifest.steps import Preprocessing

NumberType: TypeAlias = Literal[
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"
]


class ImageInput(TaggedPart, frozen=True, kw_only=True, tag="image", tag_field="kind"):
    """An image: decoded with Pillow, rotated by its EXIF orientation if ``exif`` is true, converted to ``mode``.

    A file that ends too early is read as far as it goes if ``truncated`` is true, as Pillow's LOAD_TRUNCATED_IMAGES has
    it, and refused otherwise.

    The mode ``bands`` is for pixels that are not converted: an array of ``dtype`` with any number of
    ``channels``, from .npy, TIFF and PNG files. ``preprocessing`` is what follows: its geometry on the host or in the
    graph, its arithmetic always in the graph.
    """

    name: Name
    mode: Literal["RGB", "L", "bands"]
    exif: bool
    preprocessing: Preprocessing
    channels: Channels = 3
    dtype: Literal["uint8", "uint16"] = "uint8"
    truncated: bool = False


class TensorInput(TaggedPart, frozen=True, kw_only=True, tag="tensor", tag_field="kind"):
    """An array of numbers, whose dimensions are lengths or names; the first is ``batch``.

    Dimensions of one name have one length, over all inputs. ``finite`` says that NaN and infinity are rejected.
    ``batch_axis`` is the batch's dimension in the network's own input where that is another; the graph moves it.
    ``not_negative`` says of each column of the last dimension, or once of all, that it indexes rows, such as those of
    an embedding, and numbers below 0 are rejected, as the network itself does; a graph would count them from the end.
    """

    name: Name
    dtype: NumberType
    shape: Dimensions
    finite: bool = True
    batch_axis: Annotated[int, Meta(ge=1, le=31)] | msgspec.UnsetType = msgspec.UNSET
    not_negative: Annotated[tuple[bool, ...], Meta(min_length=1, max_length=64)] | msgspec.UnsetType = msgspec.UNSET


class Column(Part, frozen=True, kw_only=True):
    """One column of a table, which is one input of the graph: [batch, 1].

    ``nullable`` says that an empty cell is filled in as in training. ``categories`` are the strings or numbers that the
    column may have where the training transform rejects others; empty where every value is allowed.
    """

    name: Text
    dtype: Literal["float32", "float64", "int64", "string"]
    nullable: bool = False
    categories: Annotated[tuple[str | int | float, ...], Meta(max_length=1_000_000)] = ()


class TabularInput(TaggedPart, frozen=True, kw_only=True, tag="tabular", tag_field="kind"):
    """A row of a table, by column name; a missing, unknown or misnamed column is an error."""

    name: Name
    columns: Annotated[tuple[Column, ...], Meta(min_length=1, max_length=100_000)]


class TextInput(TaggedPart, frozen=True, kw_only=True, tag="text", tag_field="kind"):
    """A text, or a pair of texts: tokenized with the file ``tokenizer`` as the tokenizers library reads it.

    ``arrays`` are the graph's inputs, int64 [batch, length]: some of ``input_ids``, ``attention_mask`` and
    ``token_type_ids``. ``max_length`` includes special tokens; longer texts are cut as in training. ``pad_id`` is
    None where outputs depend on padding: only texts of equal length may then share a batch.
    """

    name: Name
    tokenizer: FileName
    arrays: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=100)]
    max_length: Length
    pad_id: TokenId | None = None
    pad_type_id: TokenId = 0
    padding_side: Literal["left", "right"] = "right"
    pairs: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """The tokenizer's file."""
        return (self.tokenizer,)


DerivedInput: TypeAlias = Literal["lengths", "mask", "padding"]


class TokensInput(TaggedPart, frozen=True, kw_only=True, tag="tokens", tag_field="kind"):
    """A sequence of token numbers, int64 [batch, length], each from 0 up to ``vocabulary_size``, exclusive.

    ``max_length`` is None where every length is allowed; ``vocabulary`` is the file with one word per line, empty where
    there is none. ``pad_id`` fills shorter sequences at their end; None where only sequences of equal length may share
    a batch.

    ``unknown`` is the word of the vocabulary that stands for words that it lacks, which are errors without one;
    ``lowercase`` says that words are put into lower case before they are looked up.

    ``derived_inputs`` are further inputs of the graph, by name, which the host computes from the lengths of the
    sequences: ``lengths``, int64 [batch]; ``mask``, int64 [batch, length], 1 for a token and 0 for padding;
    ``padding``, bool [batch, length].
    """

    name: Name
    vocabulary_size: Length
    max_length: Length | None = None
    vocabulary: FileName = ""
    unknown: Text | msgspec.UnsetType = msgspec.UNSET
    lowercase: bool | msgspec.UnsetType = msgspec.UNSET
    pad_id: TokenId | None = None
    derived_inputs: dict[str, DerivedInput] = msgspec.field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """The vocabulary's file, where there is one."""
        return (self.vocabulary,) if self.vocabulary else ()


Input: TypeAlias = ImageInput | TensorInput | TabularInput | TextInput | TokensInput
