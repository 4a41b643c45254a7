"""R² pooling: one mean token a slice, and a grid of tokens from the slices that represent the regions.

The three steps of MedRegion-CT's region-representative token pooling:

1. :func:`region_slice_counts` (or :func:`mask_slice_counts`): pixels of each region in each slice,
2. :func:`representative_slices`: for each region the slice with most of them,
3. :func:`region_pool`: all slices' means and the selected slices' adaptive averages, fused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.errors import ShapeError
from ct_vlm.ops.dispatch import Backend, dispatch, triton_usable
from ct_vlm.ops.region_pool.counts import mask_slice_counts, region_slice_counts
from ct_vlm.ops.region_pool.naive import region_pool_naive
from ct_vlm.ops.region_pool.select import representative_slices, uniform_slices
from ct_vlm.ops.region_pool.torch_path import region_pool_torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["mask_slice_counts", "region_pool", "region_slice_counts", "representative_slices", "uniform_slices"]


def region_pool(
    tokens: Tensor,
    slice_index: Tensor,
    *,
    grid: tuple[int, int],
    slow_grid: tuple[int, int],
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Pool slice tokens into one mean token a slice and a coarse grid of the selected slices.

    Slices are selected before they are pooled, and their gradient is added to that of the means in
    one buffer. The tokens may be features or, with R channels, the occupancy of masks.

    Args:
        tokens: Tokens of each slice, rows of the slice's grid one after another.
        slice_index: Selected slices; a slice may be selected several times.
        grid: Size of a slice's token grid; its product is N.
        slow_grid: Size of the grid that each selected slice is pooled to, by adaptive averages.
        backend: ``auto``, ``triton``, ``torch`` or ``naive``.

    Shape:
        - tokens: ``(B, D, N, C)``.
        - slice_index: int64 ``(B, K)``, in ``[0, D)``.
        - output: global (fast) tokens ``(B, D, C)`` and slow tokens ``(B, K, h * w, C)``.

    Raises:
        ShapeError: If the sizes do not fit each other.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.region_pool import region_pool
        >>> tokens = torch.arange(8.0).view(1, 2, 4, 1)
        >>> fast, slow = region_pool(tokens, torch.tensor([[1]]), grid=(2, 2), slow_grid=(2, 1))
        >>> fast.flatten().tolist(), slow.flatten().tolist()
        ([1.5, 5.5], [4.5, 6.5])

    References:
        MedRegion-CT, 2025, https://arxiv.org/abs/2506.23102. The slow grid is free here: 9 x 6 tokens
        of 6 slices beside 32 global ones give the paper's 356 tokens (inferred).
    """
    if tokens.ndim != 4 or tokens.shape[2] != grid[0] * grid[1]:
        cause = f"Expected `tokens` as (B, D, {grid[0] * grid[1]}, C) for grid {grid}, but got {tuple(tokens.shape)}."
        raise ShapeError(cause, "Drop class tokens, and pass the grid that the rest came from.")
    if slice_index.ndim != 2 or slice_index.shape[0] != tokens.shape[0] or slice_index.dtype != torch.int64:
        cause = f"Expected int64 `slice_index` as (B, K), but got {slice_index.dtype} {tuple(slice_index.shape)}."
        raise ShapeError(cause, "Pass what `representative_slices` returns.")
    pooled: tuple[Tensor, Tensor] = dispatch(
        "region_pool", BACKENDS, backend, tokens=tokens, slice_index=slice_index, grid=grid, slow_grid=slow_grid
    )
    return pooled


def example_inputs(device: str | torch.device) -> dict[str, Any]:
    """Return the inputs of a small typical call, for ``ct-vlm env``."""
    tokens = torch.zeros(1, 4, 36, 8, device=device)
    index = torch.zeros(1, 2, dtype=torch.int64, device=device)
    return {"tokens": tokens, "slice_index": index, "grid": (6, 6), "slow_grid": (3, 2)}


def _region_pool_triton(tokens: Tensor, **settings: Any) -> tuple[Tensor, Tensor]:
    from ct_vlm.ops.region_pool.kernel import region_pool_triton

    return region_pool_triton(tokens, **settings)


def _why_not_triton(tokens: Tensor, **settings: Any) -> str | None:  # noqa: ARG001 (the op's signature)
    if tokens.dtype not in {torch.float32, torch.float16, torch.bfloat16}:
        return f"the kernel sums in float32, and tokens are {tokens.dtype}"
    return triton_usable(tokens.device)


def _never(**inputs: Any) -> str | None:  # noqa: ARG001 (the op's signature)
    return None


BACKENDS = (
    Backend("triton", _region_pool_triton, _why_not_triton),
    Backend("torch", region_pool_torch, _never),
    Backend("naive", region_pool_naive, _never),
)
