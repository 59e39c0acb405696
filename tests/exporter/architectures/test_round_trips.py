"""A fixed sample of the sweep in scripts/: saved through random wrappers, identified, and loaded exactly."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "sweep_cases.py"


def load_cases():
    spec = importlib.util.spec_from_file_location("sweep_cases", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases = load_cases()

# Ten of torchvision and fifteen of timm: every kind of block that their names tell apart, the small ones.
NAMES = [
    *("alexnet", "densenet121", "efficientnet_b0", "googlenet", "mnasnet0_5", "mobilenet_v3_small", "regnet_y_400mf"),
    *("resnet18", "shufflenet_v2_x0_5", "squeezenet1_1"),
    *cases.sample(cases.small_timm(), 15),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_is_identified_and_loaded_exactly(name, tmp_path):
    result = cases.round_trip(name, tmp_path)

    assert result["identified"], result
    assert result["classes_found"], result
    assert result["exact"], result
