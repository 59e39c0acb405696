"""Which input kind a network takes: what the user said, or what its architecture is for."""

from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

from torch import nn

from exporter.architectures.rebuild import RebuiltNetwork
from exporter.architectures.registry import Logits
from exporter.architectures.seq2seq import GreedySeq2Seq
from exporter.conversion.network_io import call, main_output
from exporter.errors import PreprocessingError
from exporter.inputs.adapter import InputAdapter
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
    transform_of_options,
)
from exporter.inputs.image.adapter import ImageAdapter
from exporter.inputs.tabular import is_table_transform, read_table_transform
from exporter.inputs.tabular.adapter import TabularAdapter
from exporter.inputs.tensor.adapter import TensorAdapter, read_input
from exporter.inputs.text.adapter import TextAdapter
from exporter.inputs.text.tokenizer import read_tokenizer
from exporter.inputs.tokens.adapter import TokensAdapter, is_tokens, read_token_inputs, read_vocabulary
from exporter.outputs.target_transform import read_target
from exporter.recipe import ExportOptions, TaskOptions
from runtime.inputs.text.decoder import INPUT_IDS


def open_adapter(options: ExportOptions, rebuilt: RebuiltNetwork) -> InputAdapter:
    """Return what stands before the network: rows, arrays where the user described some, and images otherwise.

    Raises ExportError when what the user gave cannot be read.
    """
    if isinstance(rebuilt.network, GreedySeq2Seq) and not any(map(is_tokens, options.inputs)):
        raise PreprocessingError(
            f"'{rebuilt.reference}': reads and writes token numbers: expected --input 'tokens=tokens[batch,length]', "
            "and no tokenizer. Turn texts into numbers before it, and its numbers into texts after it."
        )
    if options.tokenizer is not None or _takes_text(rebuilt):
        return _open_texts(options, rebuilt)
    if options.inputs and any(is_tokens(text) for text in options.inputs):
        return _open_tokens(options, rebuilt)
    if is_table_transform(options.preprocess):
        table = read_table_transform(options.preprocess, columns=options.columns, trust=options.trust)
        return TabularAdapter(table, samples=options.samples)
    if options.inputs:
        if options.preprocess is not None:
            raise PreprocessingError(
                "--input and --preprocess: describe the same thing: expected one of them. Arrays go to the network as "
                "they are; leave out one."
            )
        specs = [read_input(text) for text in options.inputs]
        return TensorAdapter(specs, samples=options.samples, probe=lambda tensors: call(rebuilt.network, tensors))
    pixels, reading = _read_pixels(options, rebuilt)
    return ImageAdapter(reading, pixels, exif=options.exif, samples=options.samples)


def _read_pixels(options: ExportOptions, rebuilt: RebuiltNetwork) -> tuple[PixelFormat, TrainingTransform]:
    """Return what the transform gets, and the transform: as asked for, or gray where the network takes one channel."""
    if options.pixel_format is not None:
        pixels = read_pixel_format(options.pixel_format)
        return pixels, _read_transform(options, rebuilt, pixels)
    first = next((module for module in rebuilt.network.modules() if isinstance(module, nn.Conv2d)), None)
    if first is not None and first.in_channels == 1 and not _makes_gray(options, rebuilt):
        return GRAY, _read_transform(options, rebuilt, GRAY)
    return RGB, _read_transform(options, rebuilt, RGB)


def _makes_gray(options: ExportOptions, rebuilt: RebuiltNetwork) -> bool:
    """Return whether the transform itself makes one channel of RGB images."""
    try:
        return _read_transform(options, rebuilt, RGB).steps.channels == 1
    except PreprocessingError:  # such as a mean of one value, which fits gray images alone
        return False


def assume_task(task_options: TaskOptions, adapter: InputAdapter, network: nn.Module, value: Any) -> TaskOptions:
    """Return ``task_options`` with the task and the end token that the network itself tells of, where the user did not.

    ``value`` is what its forward returned.
    """
    if isinstance(adapter, TokensAdapter):
        main = main_output(value)
        if task_options.task is None and main is not None and (main.ndim == 3 or not main.is_floating_point()):
            task_options = replace(task_options, task="tokens")
        end_id = getattr(network, "end_id", None)
        if task_options.end_id is None and isinstance(end_id, int):
            task_options = replace(task_options, end_id=end_id)
    if isinstance(adapter, TextAdapter) and task_options.task is None and adapter.task is not None:
        task_options = replace(task_options, task=adapter.task)
    return task_options


def with_transform(options: ExportOptions) -> ExportOptions:
    """Return the options with the transform that their numbers spell out, and the target's inverse read."""
    if options.spells_out_transform:
        transform = transform_of_options(
            resize=options.resize,
            crop=options.crop,
            mean=options.mean,
            std=options.std,
            interpolation=options.interpolation,
            resize_backend=options.resize_backend,
        )
        options = replace(options, preprocess=transform, resize=None, crop=None, mean=None, std=None)
    target = options.task_options.target_transform
    if target is None or isinstance(target, tuple):
        return options
    steps = read_target(target, trust=options.trust)
    return replace(options, task_options=replace(options.task_options, target_transform=steps))


def _takes_text(rebuilt: RebuiltNetwork) -> bool:
    """Return whether a transformers model was built for texts: its forward's first parameter says so."""
    return isinstance(rebuilt.network, Logits) and INPUT_IDS in signature(rebuilt.network.model.forward).parameters


def _open_texts(options: ExportOptions, rebuilt: RebuiltNetwork) -> InputAdapter:
    network = rebuilt.network
    folder = rebuilt.reference.removeprefix(HUGGING_FACE) if rebuilt.reference.startswith(HUGGING_FACE) else None
    path = options.tokenizer or (Path(folder) if folder else None)
    assert path is not None
    if options.inputs or options.preprocess is not None:
        raise PreprocessingError(
            f"'{rebuilt.reference}': takes text: expected neither --input nor --preprocess beside its tokenizer. Leave "
            "them out."
        )
    config = getattr(network.model, "config", None) if isinstance(network, Logits) else None
    longest = getattr(config, "max_position_embeddings", None)
    model = network.model if isinstance(network, Logits) else network
    return TextAdapter(
        read_tokenizer(path, max_length=options.max_length, longest=longest, carried=options.tokenizer_input),
        takes=tuple(signature(model.forward).parameters),
        pairs=options.text_pairs,
        samples=options.samples,
        config=config,
        call=lambda tensors: call(network, tensors),
    )


def _open_tokens(options: ExportOptions, rebuilt: RebuiltNetwork) -> InputAdapter:
    if options.preprocess is not None:
        raise PreprocessingError(
            "--input and --preprocess: describe the same thing: expected one of them. Tokens go to the network as they "
            "are; leave out --preprocess."
        )
    name, derived_inputs = read_token_inputs(options.inputs)
    return TokensAdapter(
        name,
        rebuilt.network,
        derived_inputs=derived_inputs,
        words=read_vocabulary(options.vocabulary) if options.vocabulary is not None else (),
        pad_id=options.pad_id,
        max_length=options.max_length,
        samples=options.samples,
        call=lambda tensors: call(rebuilt.network, tensors),
    )


def _read_transform(options: ExportOptions, rebuilt: RebuiltNetwork, pixels: PixelFormat) -> TrainingTransform:
    if options.preprocess is not None:
        return read_transform(options.preprocess, pixels)
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
