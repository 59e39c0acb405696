"""Image preprocessing as modules that TorchScript can compile, for any image size."""

import torch
from torch import Tensor, nn

from exporter.inputs.image.registry import STEPS
from exporter.inputs.image.steps import resize
from runtime.geometry.preparation import with_crops
from runtime.manifest import Preprocessing, Resize


class Geometry(nn.Module):
    """Images [batch, any height, any width, channels], uint8 or uint16, to prepared pixels of the same layout."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            resize.to_module(step, crop) if isinstance(step, Resize) else STEPS[type(step)].to_module(step)
            for step, crop in with_crops(preprocessing.geometry)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return the prepared pixels, where the images are; they are computed on the CPU, as the runtime does."""
        pixels = image.cpu().permute(0, 3, 1, 2)
        # torch does next to nothing with uint16.
        pixels = pixels.to(torch.int32) if image.dtype == torch.uint16 else pixels
        for step in self.steps:
            pixels = step(pixels)
        return pixels.permute(0, 2, 3, 1).to(device=image.device, dtype=image.dtype)


class Arithmetic(nn.Module):
    """Prepared pixels [batch, height, width, channels] to the network's input, float32, channels first."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.steps = nn.ModuleList(STEPS[type(step)].to_module(step) for step in preprocessing.arithmetic)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the normalized input."""
        values = pixels.to(torch.float32).permute(0, 3, 1, 2).contiguous()
        for step in self.steps:
            values = step(values)
        return values
