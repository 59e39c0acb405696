"""Which input kind a network takes: what the user said, or what its architecture is for."""

from inspect import signature
from pathlib import Path

from torch import nn

from exporter.architectures.rebuild import RebuiltNetwork
from exporter.architectures.registry import Logits
from exporter.architectures.seq2seq import GreedySeq2Seq
from exporter.conversion.network_io import call
from exporter.errors import PreprocessingError
from exporter.inputs.adapter import InputKind
from exporter.inputs.image import (
    GRAY,
    HUGGING_FACE,
    RGB,
    TIMM,
    PixelFormat,
    TrainingTransform,
    read_hugging_face,
    read_pixel_format,
    read_preset,
    read_timm,
    read_transform,
)
from exporter.inputs.image.adapter import ImageAdapter
from exporter.inputs.tabular import is_table_transform, read_table_transform
from exporter.inputs.tabular.adapter import TabularAdapter
from exporter.inputs.tensor.adapter import TensorAdapter, read_input
from exporter.inputs.text.adapter import TextAdapter
from exporter.inputs.text.tokenizer import read_tokenizer
from exporter.inputs.tokens.adapter import TokensAdapter
from exporter.inputs.tokens.options import TokenOptions, is_tokens, read_token_inputs, read_vocabulary
from exporter.recipe import Recipe
from runtime.inputs.text.decoder import INPUT_IDS


def open_adapter(recipe: Recipe, rebuilt: RebuiltNetwork) -> InputKind:
    """Return what stands before the network: rows, arrays where the user described some, and images otherwise.

    Raises ExportError when what the user gave cannot be read.
    """
    if isinstance(rebuilt.network, GreedySeq2Seq) and not any(map(is_tokens, recipe.inputs)):
        raise PreprocessingError(
            f"'{rebuilt.reference}': reads and writes token numbers: expected --input 'tokens=tokens[batch,length]', "
            "and no tokenizer. Turn texts into numbers before it, and its numbers into texts after it."
        )
    if recipe.tokenizer is not None or _takes_text(rebuilt):
        return _open_texts(recipe, rebuilt)
    if recipe.inputs and any(is_tokens(text) for text in recipe.inputs):
        return _open_tokens(recipe, rebuilt)
    if is_table_transform(recipe.preprocess):
        table = read_table_transform(recipe.preprocess, columns=recipe.columns, trust=recipe.trust)
        return TabularAdapter(table, samples=recipe.samples)
    if recipe.inputs:
        if recipe.preprocess is not None:
            raise PreprocessingError(
                "--input and --preprocess: describe the same thing: expected one of them. Arrays go to the network as "
                "they are; leave out one."
            )
        specs = [read_input(text) for text in recipe.inputs]
        return TensorAdapter(specs, samples=recipe.samples, probe=lambda tensors: call(rebuilt.network, tensors))
    pixels, reading = _read_pixels(recipe, rebuilt)
    return ImageAdapter(reading, pixels, exif=recipe.exif, samples=recipe.samples)


def _read_pixels(recipe: Recipe, rebuilt: RebuiltNetwork) -> tuple[PixelFormat, TrainingTransform]:
    """Return what the transform gets, and the transform: as asked for, or gray where the network takes one channel."""
    if recipe.pixel_format is not None:
        pixels = read_pixel_format(recipe.pixel_format)
        return pixels, _read_transform(recipe, rebuilt, pixels)
    first = next((module for module in rebuilt.network.modules() if isinstance(module, nn.Conv2d)), None)
    if first is not None and first.in_channels == 1 and not _makes_gray(recipe, rebuilt):
        return GRAY, _read_transform(recipe, rebuilt, GRAY)
    return RGB, _read_transform(recipe, rebuilt, RGB)


def _makes_gray(recipe: Recipe, rebuilt: RebuiltNetwork) -> bool:
    """Return whether the transform itself makes one channel of RGB images."""
    try:
        return _read_transform(recipe, rebuilt, RGB).steps.channels == 1
    except PreprocessingError:  # such as a mean of one value, which fits gray images alone
        return False


def _takes_text(rebuilt: RebuiltNetwork) -> bool:
    """Return whether a transformers model was built for texts: its forward's first parameter says so."""
    return isinstance(rebuilt.network, Logits) and INPUT_IDS in signature(rebuilt.network.model.forward).parameters


def _open_texts(recipe: Recipe, rebuilt: RebuiltNetwork) -> InputKind:
    network = rebuilt.network
    folder = rebuilt.reference.removeprefix(HUGGING_FACE) if rebuilt.reference.startswith(HUGGING_FACE) else None
    path = recipe.tokenizer or (Path(folder) if folder else None)
    assert path is not None
    if recipe.inputs or recipe.preprocess is not None:
        raise PreprocessingError(
            f"'{rebuilt.reference}': takes text: expected neither --input nor --preprocess beside its tokenizer. Leave "
            "them out."
        )
    config = getattr(network.model, "config", None) if isinstance(network, Logits) else None
    longest = getattr(config, "max_position_embeddings", None)
    model = network.model if isinstance(network, Logits) else network
    return TextAdapter(
        read_tokenizer(path, max_length=recipe.max_length, longest=longest, carried=recipe.carried),
        takes=tuple(signature(model.forward).parameters),
        pairs=recipe.text_pairs,
        samples=recipe.samples,
        config=config,
        call=lambda tensors: call(network, tensors),
    )


def _open_tokens(recipe: Recipe, rebuilt: RebuiltNetwork) -> InputKind:
    if recipe.preprocess is not None:
        raise PreprocessingError(
            "--input and --preprocess: describe the same thing: expected one of them. Tokens go to the network as they "
            "are; leave out --preprocess."
        )
    return TokensAdapter(
        read_token_inputs(recipe.inputs),
        rebuilt.network,
        TokenOptions(
            words=read_vocabulary(recipe.vocabulary) if recipe.vocabulary is not None else (),
            pad_id=recipe.pad_id,
            max_length=recipe.max_length,
            samples=recipe.samples,
        ),
        call=lambda tensors: call(rebuilt.network, tensors),
    )


def _read_transform(recipe: Recipe, rebuilt: RebuiltNetwork, pixels: PixelFormat) -> TrainingTransform:
    if recipe.preprocess is not None:
        return read_transform(recipe.preprocess, pixels)
    if rebuilt.reference.startswith(TIMM):
        return read_timm(rebuilt.reference.removeprefix(TIMM))
    if rebuilt.reference.startswith(HUGGING_FACE):
        return read_hugging_face(Path(rebuilt.reference.removeprefix(HUGGING_FACE)))
    if not rebuilt.torchvision_name:
        raise PreprocessingError(
            f"'{rebuilt.reference}': no transform is known for it. Pass the one that you evaluate with: "
            "--preprocess FILE.py:NAME; or describe its arrays with --input 'x=float32[batch,3,28,28]'."
        )
    return read_preset(rebuilt.torchvision_name)
