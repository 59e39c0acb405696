"""Types of transformers' classifiers, of texts and of photos, with their own tokenizers and processors."""

import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from torch import nn

import exporter
from sweeps.cases import CLASSES, describe_export, give_signal, noise_images, photo_crops
from sweeps.image_types import IMAGE, NOT_BUILT, build_processor, side_of
from sweeps.text_types import DEVIATION, TEXT, build_tokenizer, text_settings

_NOISE_SIZES = ((280, 280), (320, 320), (240, 240), (200, 200))


def build_config(name: str, usual: dict[str, Any], own: dict[str, Any]) -> Any:
    """Return the configuration of a type: with those of the usual settings that it has, and its own, None left out."""
    config = transformers.AutoConfig.for_model(name)
    settings = {**{key: value for key, value in usual.items() if hasattr(config, key)}, **own}
    taken = {key: value for key, value in settings.items() if value is not None}
    return transformers.AutoConfig.for_model(name, num_labels=CLASSES, **taken)


def build_folder(name: str, folder: Path) -> nn.Module:
    """Write a classifier with random weights as transformers does, and return it."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = _text(name, folder) if name in TEXT else _image(name, folder)
    network.save_pretrained(folder)  # type: ignore[operator]
    return network


def _text(name: str, folder: Path) -> nn.Module:
    tokenizer = build_tokenizer(name)
    tokenizer.save_pretrained(folder)
    config = build_config(name, text_settings(tokenizer), TEXT[name])
    network: nn.Module = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    return network


def _image(name: str, folder: Path) -> nn.Module:
    settings = IMAGE[name]
    if settings is None:
        raise RuntimeError(f"{name}: {NOT_BUILT[name]}")
    config = build_config(name, {"initializer_range": DEVIATION}, settings)
    network: nn.Module = transformers.AutoModelForImageClassification.from_config(config).eval()
    if name == "timm_wrapper":
        network.save_pretrained(folder)  # type: ignore[operator]  # its processor is in the configuration
        processor = transformers.AutoImageProcessor.from_pretrained(folder)
    else:
        processor = build_processor(name, side_of(name))
        processor.save_pretrained(folder)

    def transform(photo: Image.Image) -> torch.Tensor:
        prepared: torch.Tensor = processor(photo, return_tensors="pt")[processor.model_input_names[0]][0]
        return prepared

    if len(processor.model_input_names) > 1:  # a photo is not all that its network takes
        return network
    # Squares, as some processors keep the aspect ratio.
    give_signal(network, photo_crops(transform, count=16), also=noise_images(transform, sizes=_NOISE_SIZES))
    return network


def transformers_type(name: str, folder: Path) -> dict[str, Any]:
    """Export a classifier of one type from its folder; return the verdict and the figures."""
    source = folder / "model"
    source.mkdir()
    build_folder(name, source)
    return describe_export(lambda: exporter.export(source, f"hf:{source}", out=folder / "artifact"), recurrent=False)
