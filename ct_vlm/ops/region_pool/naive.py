"""R² pooling step by step: what the other paths are checked against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


def slice_counts_naive(labels: Tensor, num_regions: int) -> Tensor:
    """Count the pixels of each region in each slice, one pass over the labels a region.

    Args:
        labels: Integers; ``r + 1`` is region r, other values are background.
        num_regions: R.

    Shape:
        - labels: ``(B, D, H, W)``.
        - output: int64 ``(B, R, D)``.
    """
    if num_regions > torch.iinfo(labels.dtype).max:
        # else the comparison would wrap the region's number
        labels = labels.int()
    counts = [(labels == region + 1).sum((2, 3)) for region in range(num_regions)]
    return torch.stack(counts, 1) if counts else labels.new_zeros(labels.shape[0], 0, labels.shape[1]).long()


def region_pool_naive(
    tokens: Tensor, slice_index: Tensor, grid: tuple[int, int], slow_grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Pool every slice both ways, then select; arguments and shapes as :func:`.region_pool`."""
    batch, slices, _, channels = tokens.shape
    maps = tokens.unflatten(2, grid).permute(0, 1, 4, 2, 3).flatten(0, 1)
    slow = F.adaptive_avg_pool2d(maps, slow_grid).flatten(2).transpose(1, 2)
    slow = slow.reshape(batch, slices, -1, channels)
    rows = torch.arange(batch, device=tokens.device)[:, None]
    return tokens.mean(2), slow[rows, slice_index]
