"""A preprocessing step from outside the packages: gamma correction, as one type and one module on each side.

What a new step takes, and no more, under the file that it would stand in; ``register`` adds the line in each side's
registry. This file is the step's module on both sides of the wall, which two files are in the packages.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import functional

from exporter.conversion.node_builder import Value
from exporter.inputs.image import registry as exporter_registry
from exporter.inputs.image.step_module import PixelNodes, TransformInput
from runtime.geometry import registry as host_registry
from runtime.geometry.arrays import Pixels
from runtime.geometry.sizes import PreparedShape
from runtime.manifest.parts import Part

# --- runtime/manifest/steps.py ---


class Gamma(Part, frozen=True, kw_only=True, tag="gamma", tag_field="step"):
    """Gamma correction of uint8 pixels, by torchvision's table for PIL images."""

    exponent: float


def levels_of(step: Gamma) -> list[int]:
    """Return what each of the 256 gray levels becomes, as in torchvision's ``adjust_gamma`` of PIL images."""
    return [int((255 + 1 - 1e-3) * (level / 255.0) ** step.exponent) for level in range(256)]


# --- runtime/geometry/steps/gamma.py ---


def shape_after(shape: PreparedShape, _step: Gamma) -> PreparedShape:
    return shape


def measure(shape: PreparedShape, _step: Gamma) -> tuple[PreparedShape, int]:
    return shape, shape.values


def run_on_image(image: Image.Image, step: Gamma) -> Image.Image:
    return image.point(levels_of(step) * len(image.getbands()))


def run_on_array(pixels: Pixels, step: Gamma) -> Pixels:
    return np.array(levels_of(step), dtype=np.uint8)[pixels]


def mask_step(_step: Gamma, _ignored: int) -> None:
    return None


# --- exporter/inputs/image/steps/gamma.py ---


class AdjustGamma:
    """The training transform: torchvision computes it, and has no class for it."""

    def __init__(self, exponent: float) -> None:
        self.exponent = exponent

    def __call__(self, image: Image.Image) -> Image.Image:
        return functional.adjust_gamma(image, self.exponent)


def describe(step: Gamma) -> str:
    return f"Gamma {step.exponent:g}"


def write_onnx(nodes: PixelNodes, pixels: Value, step: Gamma) -> Value:
    table = nodes.constant("gamma", np.array(levels_of(step), dtype=np.uint8))
    return nodes.apply("Gather", table, pixels.cast(onnx.TensorProto.INT64))


class _Gamma(nn.Module):
    levels: Tensor

    def __init__(self, step: Gamma) -> None:
        super().__init__()
        self.register_buffer("levels", torch.tensor(levels_of(step), dtype=torch.uint8))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.levels[pixels.to(torch.int64)]


def to_module(step: Gamma) -> nn.Module:
    return _Gamma(step)


def read(transform: AdjustGamma, before: TransformInput) -> Sequence[Gamma]:
    before.check_pixels()
    before.check_image()
    return [Gamma(exponent=transform.exponent)]


READERS = {AdjustGamma: read}

# --- runtime/geometry/registry.py and exporter/inputs/image/registry.py ---


def register(patch: Any) -> None:
    """Add the step to both registries for one test, with pytest's ``monkeypatch``."""
    for registry in (host_registry, exporter_registry):
        patch.setitem(registry.STEPS, Gamma, sys.modules[__name__])
