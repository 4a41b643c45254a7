"""Which slices represent the regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ct_vlm.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor


def uniform_slices(num_slices: int, num_selected: int) -> Tensor:
    """Return the middle slices of equal parts of a volume, as LITA samples its frames.

    Args:
        num_slices: D.
        num_selected: K.

    Shape:
        - output: int64 ``(K,)``.

    Example:
        >>> from ct_vlm.ops.region_pool import uniform_slices
        >>> uniform_slices(32, 4).tolist()
        [4, 12, 20, 28]
    """
    return (2 * torch.arange(num_selected) + 1) * num_slices // (2 * num_selected)


def representative_slices(counts: Tensor, slice_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Select for each region the slice that shows most of it.

    Of equal slices the first is taken. A region without pixels gets the slice that
    :func:`uniform_slices` would give it among the valid ones, so that the number and the places of
    tokens never change (inferred: the paper does not say what an empty region gets).

    Args:
        counts: Pixels of each region in each slice.
        slice_mask: True where a slice is real, False where it is padding.

    Shape:
        - counts: ``(B, R, D)``.
        - slice_mask: ``(B, D)``.
        - output: slices int64 ``(B, R)`` and whether the region is present, bool ``(B, R)``.

    Raises:
        ShapeError: If the mask does not fit the counts.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.region_pool import representative_slices
        >>> slices, present = representative_slices(torch.tensor([[[0, 5, 5, 1], [0, 0, 0, 0]]]))
        >>> slices.tolist(), present.tolist()
        ([[1, 3]], [[True, False]])

    References:
        MedRegion-CT, 2025, https://arxiv.org/abs/2506.23102: representative slices have the highest
        count of pseudo-mask pixels.
    """
    batch, regions, slices = counts.shape
    if slice_mask is None:
        slice_mask = torch.ones(batch, slices, dtype=torch.bool, device=counts.device)
    if tuple(slice_mask.shape) != (batch, slices):
        cause = f"`slice_mask` {tuple(slice_mask.shape)} does not fit `counts` {tuple(counts.shape)}."
        raise ShapeError(cause, "Pass one flag a slice, (B, D).")
    counts = counts.masked_fill(~slice_mask[:, None], 0)
    most, first = counts.max(-1).values, counts.argmax(-1)
    middle = 2 * torch.arange(regions, device=counts.device) + 1
    nth = middle * slice_mask.sum(1, keepdim=True) // (2 * regions)
    # the nth valid slice, counted from 0
    valid_before = slice_mask.cumsum(1) - 1
    fallback = ((valid_before[:, None] == nth[..., None]) & slice_mask[:, None]).int().argmax(-1)
    return torch.where(most > 0, first, fallback), most > 0
