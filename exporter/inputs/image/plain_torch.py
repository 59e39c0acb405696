"""OpenCV's resize in torch, to the last bit; compiled by TorchScript.

``runtime/geometry/plain.py`` says where the arithmetic comes from.
"""

import torch
from torch import Tensor

from runtime.geometry import filters


def sample_as_opencv(pixels: Tensor, interpolation: str, height: int, width: int) -> Tensor:
    """Return uint8 ``pixels`` [batch, channels, any height, any width] resized to ``height`` and ``width``."""
    old_height, old_width = pixels.shape[2], pixels.shape[3]
    if interpolation == "nearest":
        rows = torch.floor(torch.arange(height, dtype=torch.float64) * (1.0 / (height / old_height)))
        columns = torch.floor(torch.arange(width, dtype=torch.float64) * (1.0 / (width / old_width)))
        pixels = pixels.index_select(2, rows.to(torch.int64).clamp(max=old_height - 1))
        return pixels.index_select(3, columns.to(torch.int64).clamp(max=old_width - 1))
    row, row_share = _source(old_height, height)
    column, column_share = _source(old_width, width)
    # Columns beyond an edge take the edge's pixel whole; rows there mix it with itself, which rounds otherwise.
    column_share = torch.where((column < 0) | (column >= old_width - 1), torch.zeros_like(column_share), column_share)
    near_weight, far_weight = _fixed(1.0 - column_share), _fixed(column_share)
    columns_near, columns_far = column.clamp(0, old_width - 1), (column + 1).clamp(0, old_width - 1)
    wide: list[Tensor] = []
    for rows_of in [row.clamp(0, old_height - 1), (row + 1).clamp(0, old_height - 1)]:
        lines = pixels.index_select(2, rows_of)
        near = lines.index_select(3, columns_near).to(torch.int32) * near_weight
        wide.append(near + lines.index_select(3, columns_far).to(torch.int32) * far_weight)
    near = (_fixed(1.0 - row_share).unsqueeze(1) * (wide[0] // (1 << filters.OPENCV_ROW_SHIFT))) // (
        1 << filters.OPENCV_COLUMN_SHIFT
    )
    far = (_fixed(row_share).unsqueeze(1) * (wide[1] // (1 << filters.OPENCV_ROW_SHIFT))) // (
        1 << filters.OPENCV_COLUMN_SHIFT
    )
    return ((near + far + (1 << (filters.OPENCV_SUM_SHIFT - 1))) // (1 << filters.OPENCV_SUM_SHIFT)).to(torch.uint8)


def _source(size: int, resized: int) -> tuple[Tensor, Tensor]:
    """Return the pixel at or before each new one, and how far beyond it the new one lies, from 0 to 1."""
    source = (torch.arange(resized, dtype=torch.float64) + 0.5) * (1.0 / (resized / size)) - 0.5
    source = source.to(torch.float32)
    near = torch.floor(source)
    return near.to(torch.int64), source - near


def _fixed(share: Tensor) -> Tensor:
    return torch.round(share * filters.OPENCV_ONE).to(torch.int32)
