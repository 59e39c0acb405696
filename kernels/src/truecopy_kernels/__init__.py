"""Native resize and crop of 8-bit pixels, equal to Pillow and torch, and decoding of what a crop keeps of a JPEG.

``resize`` and ``to_gray`` take and return NumPy arrays, uint8 [height, width, channels]. They release Python's lock,
use one thread per call, and may be called from many. So does ``LibJpeg.decode``.
"""

from truecopy_kernels.libjpeg import LibJpeg, decoded_window
from truecopy_kernels.library import ARITHMETICS, FILTERS, PATHS, available_paths, best_path, resize, to_gray

__all__ = [
    "ARITHMETICS",
    "FILTERS",
    "PATHS",
    "LibJpeg",
    "__version__",
    "available_paths",
    "best_path",
    "decoded_window",
    "resize",
    "to_gray",
]

__version__ = "0.2.0"
