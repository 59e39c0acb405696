"""A fixed sample of scripts/sweep: saved through random wrappers, identified, and loaded exactly."""

import pytest

from sweeps import cases

# Ten of torchvision and fifteen of timm: small ones, of every kind of block that has a name of its own. In place of the
# DINOv2 that is drawn, whose photos of 518 pixels take as long as six others, a ViT with the same blocks.
NAMES = [
    *("alexnet", "densenet121", "efficientnet_b0", "googlenet", "mnasnet0_5", "mobilenet_v3_small", "regnet_y_400mf"),
    *("resnet18", "shufflenet_v2_x0_5", "squeezenet1_1"),
    *(name for name in cases.sample(cases.small_timm(), 15) if "dinov2" not in name),
    "timm:vit_tiny_patch16_224",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_is_identified_and_loaded_exactly(name, tmp_path):
    result = cases.round_trip(name, tmp_path)

    assert result["identified"], result
    assert result["classes_found"], result
    assert result["exact"], result
