"""The transform that EfficientNet-Lite0's published weights were evaluated with."""

from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

transform = Compose(
    [
        Resize(256, interpolation=InterpolationMode.BICUBIC),
        CenterCrop(224),
        ToTensor(),
        Normalize(mean=[0.498, 0.498, 0.498], std=[0.502, 0.502, 0.502]),
    ]
)
