"""Constants of the resampling filters, for every execution of a resize.

The host, the ONNX graph and the TorchScript module each compute the pixels on their own and share these numbers alone.
Constants that TorchScript reads are plain floats and integers: it can read nothing else of a module.
"""

from runtime.manifest import Interpolation

LANCZOS_SUPPORT = 3.0

# How far each antialiasing filter looks from its center, in pixels of the smaller of the two images.
SUPPORT: dict[Interpolation, float] = {
    "box": 0.5,
    "bilinear": 1.0,
    "hamming": 1.0,
    "bicubic": 2.0,
    "lanczos": LANCZOS_SUPPORT,
}

# Pillow's weights are multiples of 2**-22: PRECISION_BITS for 8-bit channels in its Resample.c.
PRECISION_BITS = 22
PILLOW_ONE = float(1 << PRECISION_BITS)

# torch's weights are int16, in at most 22 bits: _compute_index_ranges_int16_weights in its UpSampleKernel.cpp.
TORCH_WEIGHT_LIMIT = 1 << 15

# Pillow's HAMMING constants are the float32 values 0.54f and 0.46f.
HAMMING_OFFSET = 0.540000021457672119140625
HAMMING_FACTOR = 0.4600000083446502685546875

# OpenCV's INTER_RESIZE_COEF_BITS, and its shifts between and after the two passes: VResizeLinear in its resize.cpp.
OPENCV_BITS = 11
OPENCV_ONE = float(1 << OPENCV_BITS)
OPENCV_ROW_SHIFT = 4
OPENCV_COLUMN_SHIFT = 16
OPENCV_SUM_SHIFT = 2
