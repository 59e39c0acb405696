"""Native resize and crop of 8-bit pixels, equal to Pillow and torch.

``resize`` and ``to_gray`` take and return NumPy arrays, uint8 [height, width, channels]. They release Python's lock,
use one thread per call, and may be called from many.
"""

from truecopy_kernels.library import ARITHMETICS, FILTERS, PATHS, best_path, resize, to_gray

__all__ = ["ARITHMETICS", "FILTERS", "PATHS", "__version__", "best_path", "resize", "to_gray"]

__version__ = "0.1.0"
