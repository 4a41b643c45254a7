"""How much of each cell of a feature grid masks cover."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F

from ct_vlm.errors import ShapeError
from ct_vlm.ops.mask_pool import RegionIndex, index_coverage, index_masks

if TYPE_CHECKING:
    from torch import Tensor

Grid = tuple[int, int, int]
Binarize = Literal["soft", "osprey"]


def mask_occupancy(masks: Tensor, grid: Grid, num_regions: int) -> Tensor:
    """Return the fraction of each cell that each mask covers, by adaptive averages.

    One mask at a time is held in floating point.

    Args:
        masks: Masks that may overlap (integers count as 0 or 1, floats as they are), or a label map
            whose ``r + 1`` is region r.
        grid: Size of the feature grid.
        num_regions: R.

    Shape:
        - masks: ``(B, R, D', H', W')`` or ``(B, D', H', W')``.
        - output: float32 ``(B, R, D, H, W)``.

    Raises:
        ShapeError: If the masks are not R masks, or labels exceed R.

    Example:
        >>> mask_occupancy(torch.tensor([[[[1, 1, 1, 2]]]]), (1, 1, 2), 2).flatten(2).tolist()
        [[[1.0, 0.5], [0.0, 0.5]]]
    """
    check_masks(masks, num_regions)
    if masks.ndim == 4:
        return index_coverage(masks, grid, num_regions).dense().unflatten(2, grid)
    volumes = masks.detach().flatten(0, 1)
    pooled = [F.adaptive_avg_pool3d(_as_weights(volume)[None], grid)[0] for volume in volumes]
    return torch.stack(pooled).unflatten(0, masks.shape[:2])


def mask_index(masks: Tensor, grid: Grid, num_regions: int, binarize: Binarize = "soft") -> RegionIndex:
    """Index the cells of each mask on a feature grid, for :func:`ct_vlm.ops.mask_pool.mask_pool`.

    A label map of many regions is never turned into one mask a region.

    Args:
        masks: As for :func:`mask_occupancy`.
        grid: Size of the feature grid.
        num_regions: R.
        binarize: ``"soft"`` weighs a cell by what the mask covers of it, ``"osprey"`` by 1 where
            the mask touches it.

    Example:
        >>> mask_index(torch.tensor([[[[1, 1, 1, 2]]]]), (1, 1, 2), 2, "osprey").total.tolist()
        [[2.0, 1.0]]
    """
    check_masks(masks, num_regions)
    if masks.ndim == 4:
        index = index_coverage(masks, grid, num_regions)
        return dataclasses.replace(index, weights=None) if binarize == "osprey" else index
    covered = mask_occupancy(masks, grid, num_regions)
    return index_masks(covered > 0 if binarize == "osprey" else covered)


def check_masks(masks: Tensor, num_regions: int) -> None:
    """Refuse what is neither so many masks nor a label map.

    Raises:
        ShapeError: If rank or number of masks are wrong.
    """
    if masks.ndim == 4 or (masks.ndim == 5 and masks.shape[1] == num_regions):
        return
    cause = f"Expected {num_regions} masks as (B, R, D, H, W), or a label map (B, D, H, W); got {tuple(masks.shape)}."
    raise ShapeError(cause, "Set `num_regions` to the number of masks that the data set gives.")


def _as_weights(volume: Tensor) -> Tensor:
    return volume.float() if volume.is_floating_point() else (volume != 0).float()
