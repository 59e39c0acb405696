"""Registry of the preprocessing steps that a transform can be folded into."""

from exporter.inputs.image.step_module import Step, StepModule
from exporter.inputs.image.steps import (
    center_crop,
    channel_order,
    grayscale,
    nearest_color,
    normalize,
    pad,
    resize,
    share_crop,
    square_pad,
    standardize,
    to_float,
)
from runtime.manifest import (
    CenterCrop,
    ChannelOrder,
    Grayscale,
    NearestColor,
    Normalize,
    Pad,
    Resize,
    ShareCrop,
    SquarePad,
    Standardize,
    ToFloat,
)

STEPS: dict[type[Step], StepModule] = {
    Resize: resize,
    CenterCrop: center_crop,
    ShareCrop: share_crop,
    Pad: pad,
    SquarePad: square_pad,
    Grayscale: grayscale,
    ToFloat: to_float,
    Normalize: normalize,
    Standardize: standardize,
    ChannelOrder: channel_order,
    NearestColor: nearest_color,
}
