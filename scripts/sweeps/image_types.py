"""Types of transformers' classifiers of photos with their own processors, small enough to export in seconds."""

from typing import Any

import torch
import transformers
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

SIDE = 32

_STAGES = {"depths": [1, 1], "hidden_sizes": [16, 32]}
_FOUR = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32]}
_LAYERS = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
_PATCHES = {**_LAYERS, "image_size": SIDE, "patch_size": 8}
_WINDOWS = {
    "embed_dim": 16,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 4,
    "image_size": SIDE,
    "patch_size": 4,
}
_PYRAMID = {"depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2], "hidden_sizes": [8, 16, 24, 32]}
_TIMM = {"architecture": "resnet10t", "pretrained_cfg": {"input_size": [3, SIDE, SIDE], "crop_pct": 0.9}}

# Types that are no function of a photo, or whose code does not run; None stands for their configuration.
NOT_BUILT = {
    "dinat": "needs natten's natten2dqkrpb, and natten is not installed: no network to export",
    "shieldgemma2": "a language model that takes a photo and a written policy: no classifier of photos",
}

# By type: what its configuration needs.
IMAGE: dict[str, dict[str, Any] | None] = {
    **dict.fromkeys(("beit", "data2vec-vision", "dinov2", "dinov2_with_registers", "ijepa", "vit"), _PATCHES),
    "vit_msn": _PATCHES,
    # Of two or three classes for photos, the configuration has to name one.
    "deit": {**_PATCHES, "architectures": ["DeiTForImageClassification"]},
    "bit": {**_STAGES, "embedding_size": 16, "num_groups": 4},
    "clip": {"vision_config": _PATCHES, "text_config": _LAYERS, "projection_dim": 32},
    "convnext": {**_FOUR, "num_stages": 4},
    "convnextv2": {**_FOUR, "num_stages": 4},
    "cvt": {"embed_dim": [8, 16, 32], "num_heads": [1, 2, 2], "depth": [1, 2, 3]},
    "dinat": None,
    "donut-swin": _WINDOWS,
    "efficientnet": {"width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320, "image_size": SIDE},
    "focalnet": {**_FOUR, "embed_dim": 8, "image_size": SIDE, "focal_levels": [2, 2, 2, 2], "focal_windows": [3] * 4},
    "hgnet_v2": {
        "stem_channels": [3, 8, 12],
        "stage_in_channels": [12, 16, 24, 32],
        "stage_mid_channels": [8, 8, 12, 16],
        "stage_out_channels": [16, 24, 32, 48],
        "hidden_sizes": [16, 24, 32, 48],
        "stage_num_blocks": [1, 1, 1, 1],
        "stage_numb_of_layers": [2, 2, 2, 2],
    },
    "hiera": {"embed_dim": 8, "image_size": [64, 64], "depths": [1, 1, 1, 1]},
    "imagegpt": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": 17},
    "levit": {
        "architectures": ["LevitForImageClassification"],
        "hidden_sizes": [16, 24, 32],
        "num_attention_heads": [1, 2, 2],
        "depths": [1, 1, 1],
        "image_size": 64,
    },
    "metaclip_2": {"vision_config": _PATCHES, "text_config": _LAYERS, "projection_dim": 32},
    "mobilenet_v1": {"depth_multiplier": 0.25, "image_size": SIDE},
    "mobilenet_v2": {"depth_multiplier": 0.35, "image_size": SIDE},
    "mobilevit": {"hidden_sizes": [24, 32, 40], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 64], "image_size": 64},
    "mobilevitv2": {"width_multiplier": 0.25, "image_size": 64},
    "perceiver": {
        "architectures": ["PerceiverForImageClassificationLearned"],
        "num_latents": 8,
        "d_latents": 32,
        "num_self_attends_per_block": 1,
        "num_self_attention_heads": 2,
        "image_size": SIDE,
    },
    "poolformer": {**_FOUR},
    "pp_lcnet": {"scale": 0.25},
    "pvt": {**_PYRAMID, "image_size": SIDE, "num_encoder_blocks": 4},
    "pvt_v2": {**_PYRAMID, "num_encoder_blocks": 4},
    "regnet": {**_STAGES, "embedding_size": 16, "groups_width": 8},
    "resnet": {**_STAGES, "embedding_size": 16},
    "segformer": {**_PYRAMID, "decoder_hidden_size": 16},
    "shieldgemma2": None,
    "siglip": {"vision_config": _PATCHES, "text_config": _LAYERS},
    "siglip2": {"vision_config": {**_LAYERS, "patch_size": 8, "num_patches": 16}, "text_config": _LAYERS},
    "swiftformer": {"depths": [1, 1, 1, 1], "embed_dims": [8, 16, 24, 32], "image_size": SIDE},
    "swin": _WINDOWS,
    "swinv2": _WINDOWS,
    "textnet": {"hidden_sizes": [8, 8, 16, 24, 32], "stem_out_channels": 8, "image_size": 64},
    "timm_wrapper": _TIMM,
}
# By class of the processor: its settings for pictures of one side.
_PROCESSORS: dict[str, Any] = {
    **dict.fromkeys(
        ("BitImageProcessor", "CLIPImageProcessor", "MobileNetV1ImageProcessor", "MobileNetV2ImageProcessor"),
        lambda side: {"size": {"shortest_edge": side + 4}, "crop_size": side},
    ),
    "MobileViTImageProcessor": lambda side: {"size": {"shortest_edge": side + 4}, "crop_size": side},
    **dict.fromkeys(
        ("LevitImageProcessor", "PoolFormerImageProcessor"),
        lambda side: {"size": {"shortest_edge": side}, "crop_size": side},
    ),
    "ConvNextImageProcessor": lambda side: {"size": {"shortest_edge": side}},
    "TextNetImageProcessor": lambda side: {"size": {"shortest_edge": side}},
    "DeiTImageProcessor": lambda side: {"size": side + 4, "crop_size": side},
    "PPLCNetImageProcessor": lambda side: {"resize_short": side + 4, "crop_size": side},
    "PerceiverImageProcessor": lambda side: {"size": side, "crop_size": side * 8 // 7},
    "ImageGPTImageProcessor": lambda _side: {"size": 8, "clusters": _colors()},
    "Siglip2ImageProcessor": lambda _side: {"patch_size": 8, "max_num_patches": 16},
}
# Types that transformers names no processor for: that of their published checkpoints.
_UNNAMED = {"dinov2_with_registers": "BitImageProcessor", "hgnet_v2": "BitImageProcessor"}


def build_processor(name: str, side: int) -> Any:
    """Return a type's own processor for pictures of one side, on torchvision."""
    kinds = IMAGE_PROCESSOR_MAPPING_NAMES.get(name) or {"torchvision": _UNNAMED[name]}
    kind = kinds["torchvision"]
    settings = _PROCESSORS.get(kind, lambda side: {"size": {"height": side, "width": side}})(side)
    return getattr(transformers, kind)(**settings)


def side_of(name: str) -> int:
    """Return the side of the pictures that a type's network takes."""
    side = (IMAGE[name] or {}).get("image_size", SIDE)
    return int(side[0] if isinstance(side, list) else side)


def _colors() -> list[list[float]]:
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(16, 3, generator=generator) * 2 - 1).tolist()
