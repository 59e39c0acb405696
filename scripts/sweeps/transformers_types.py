"""Types of transformers' classifiers, of texts and of photos, in configurations small enough to export in seconds."""

import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn

import exporter
from sweeps.cases import describe_export, photo_crops

CLASSES = 3
SIDE = 32
_WORDS = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "a", "is", "was", "it", "not", "very", "good", "bad", "great"),
    *("film", "movie", "weather", "rain"),
]
# Random weights of this deviation tell inputs apart after two layers.
_DEVIATION = 0.3

# Sizes under all of the names that configurations have for them; each configuration takes those that it has.
_TEXT_SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "embedding_size", "emb_dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "encoder_layers", "decoder_layers", "num_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "encoder_attention_heads"), 2),
    **dict.fromkeys(("decoder_attention_heads", "num_heads"), 2),
    **dict.fromkeys(("intermediate_size", "encoder_ffn_dim", "decoder_ffn_dim", "ffn_dim", "d_ff"), 48),
    **dict.fromkeys(("head_dim", "d_kv"), 16),
    **dict.fromkeys(("initializer_range", "init_std"), _DEVIATION),
    "vocab_size": len(_WORDS),
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}

_PLAIN = [
    *("albert", "bart", "bert", "big_bird", "biogpt", "bloom", "convbert", "deberta", "deberta-v2", "electra", "esm"),
    *("fnet", "gemma2", "gpt2", "gpt_neox", "ibert", "llama", "longformer", "mistral", "mobilebert", "modernbert"),
    *("mpnet", "nystromformer", "opt", "phi", "qwen3", "rembert", "roberta", "roformer", "squeezebert", "t5", "xlm"),
]

# By type: what its configuration needs besides, or None for names that it cannot have.
TEXT: dict[str, dict[str, Any]] = {
    **{name: {} for name in _PLAIN},
    "ctrl": {"dff": 48},
    "distilbert": {"hidden_dim": 48},
    "falcon": {"head_dim": None},
    "funnel": {"num_hidden_layers": None, "block_sizes": [1, 1], "d_inner": 48, "n_head": 2, "d_head": 16},
    "xlnet": {
        "max_position_embeddings": None,
        "num_attention_heads": None,
        "d_inner": 48,
        "n_layer": 2,
        "n_head": 2,
        "d_head": 16,
    },
}

_STAGES = {"depths": [1, 1], "hidden_sizes": [16, 32]}
_FOUR = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32]}
_PATCHES = {
    **{name: _TEXT_SIZES[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")},
    "intermediate_size": 48,
    "image_size": SIDE,
    "patch_size": 8,
    "initializer_range": _DEVIATION,
}
_WINDOWS = {
    "embed_dim": 16,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 4,
    "image_size": SIDE,
    "patch_size": 4,
}
_PYRAMID = {"depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2], "hidden_sizes": [8, 16, 24, 32]}
IMAGE: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("beit", "data2vec-vision", "dinov2", "dinov2_with_registers", "ijepa", "vit"), _PATCHES),
    "vit_msn": _PATCHES,
    # Of two classes for photos, its configuration has to name one.
    "deit": {**_PATCHES, "architectures": ["DeiTForImageClassification"]},
    "bit": {**_STAGES, "embedding_size": 16, "num_groups": 4},
    "convnext": {**_FOUR, "num_stages": 4},
    "convnextv2": {**_FOUR, "num_stages": 4},
    "efficientnet": {"width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320, "image_size": SIDE},
    "focalnet": {**_FOUR, "embed_dim": 8, "image_size": SIDE, "focal_levels": [2, 2, 2, 2], "focal_windows": [3] * 4},
    "mobilenet_v1": {"depth_multiplier": 0.25, "image_size": SIDE},
    "mobilenet_v2": {"depth_multiplier": 0.35, "image_size": SIDE},
    "mobilevit": {"hidden_sizes": [24, 32, 40], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 64], "image_size": 64},
    "poolformer": {**_FOUR},
    "pvt": {**_PYRAMID, "image_size": SIDE, "num_encoder_blocks": 4},
    "pvt_v2": {**_PYRAMID, "num_encoder_blocks": 4},
    "regnet": {**_STAGES, "embedding_size": 16, "groups_width": 8},
    "resnet": {**_STAGES, "embedding_size": 16},
    "segformer": {**_PYRAMID, "decoder_hidden_size": 16},
    "swin": _WINDOWS,
    "swinv2": _WINDOWS,
}


def build_config(name: str) -> Any:
    """Return the small configuration of a type."""
    config = transformers.AutoConfig.for_model(name)
    sizes: dict[str, Any] = {**_TEXT_SIZES, **TEXT[name]} if name in TEXT else IMAGE[name]
    taken = {key: value for key, value in sizes.items() if value is not None and hasattr(config, key)}
    return transformers.AutoConfig.for_model(name, num_labels=CLASSES, **taken)


def build_folder(name: str, folder: Path) -> nn.Module:
    """Write a classifier with random weights as transformers does, and return it."""
    torch.manual_seed(0)
    kind = "SequenceClassification" if name in TEXT else "ImageClassification"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network: nn.Module = getattr(transformers, f"AutoModelFor{kind}").from_config(build_config(name)).eval()
    if name in TEXT:
        _write_tokenizer(folder)
    else:
        side = IMAGE[name].get("image_size", SIDE)
        processor = transformers.ViTImageProcessor(size={"height": side, "width": side})
        processor.save_pretrained(folder)
        crops = photo_crops(lambda photo: processor(photo, return_tensors="pt")["pixel_values"][0], count=16)
        _give_signal(network, crops)
    network.save_pretrained(folder)  # type: ignore[operator]
    return network


def _write_tokenizer(folder: Path) -> None:
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    words = {word: row for row, word in enumerate(_WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=marks["unk_token"]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    whole = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=48, **marks)
    whole.save_pretrained(folder)


def _give_signal(network: nn.Module, images: torch.Tensor) -> None:
    """Give batch norms true statistics, branches that start near zero some weight, and logits some deviation."""
    for parameter in network.parameters():
        if parameter.ndim == 1 and float(parameter.detach().abs().max()) < 1e-3:
            nn.init.normal_(parameter, std=0.5)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
            module.train()
    *_, head = (module for module in network.modules() if getattr(module, "out_features", None) == CLASSES)
    with torch.no_grad():
        network(images)
        network.eval()
        logits = network(images).logits
        scale = 2.5 / logits.std(0).clamp_min(1e-12)
        head.weight.mul_(scale.view(-1, 1))  # type: ignore[operator, union-attr]
        head.bias.copy_((head.bias - logits.mean(0)) * scale)  # type: ignore[operator]


def transformers_type(name: str, folder: Path) -> dict[str, Any]:
    """Export a classifier of one type from its folder; return the verdict and the figures."""
    source = folder / "model"
    source.mkdir()
    build_folder(name, source)
    return describe_export(lambda: exporter.export(source, f"hf:{source}", out=folder / "artifact"), recurrent=False)
