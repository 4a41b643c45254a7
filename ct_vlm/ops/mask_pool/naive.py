"""Mask pooling by a dense weight tensor and einsum: what the other paths are checked against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from ct_vlm.ops.mask_pool.index import RegionIndex


def mask_sum_naive(tokens: Tensor, index: RegionIndex) -> Tensor:
    """Sum the tokens of each region.

    Args:
        tokens: Features of each cell.
        index: Cells of each region.

    Shape:
        - tokens: ``(B, N, C)``.
        - output: ``(B, R, C)``, float64 for float64 tokens, else float32.
    """
    dtype = torch.promote_types(tokens.dtype, torch.float32)
    return torch.einsum("brn,bnc->brc", index.dense().to(dtype), tokens.to(dtype))
