"""R² pooling in plain torch: select the slices, then pool them; one written gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from ct_vlm.ops.memory import empty_large

if TYPE_CHECKING:
    from torch import Tensor


def region_pool_torch(
    tokens: Tensor, slice_index: Tensor, grid: tuple[int, int], slow_grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Pool; arguments and shapes as :func:`.region_pool`."""
    fast, slow = _RegionPool.apply(tokens, slice_index, grid, slow_grid)
    return fast, slow


class _RegionPool(torch.autograd.Function):
    """Slice means and the adaptive average of some slices; their gradients meet in one buffer."""

    @staticmethod
    def forward(
        ctx: Any, tokens: Tensor, slice_index: Tensor, grid: tuple[int, int], slow_grid: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Average all slices and pool the selected ones."""
        ctx.save_for_backward(slice_index)
        ctx.shape, ctx.dtype, ctx.grid, ctx.slow_grid = tokens.shape, tokens.dtype, grid, slow_grid
        rows = torch.arange(tokens.shape[0], device=tokens.device)[:, None]
        # as a channels-last image, which the pooling reads in place
        selected = tokens[rows, slice_index].flatten(0, 1).unflatten(1, grid).permute(0, 3, 1, 2)
        slow = F.adaptive_avg_pool2d(selected, slow_grid).permute(0, 2, 3, 1).flatten(1, 2)
        return tokens.mean(2), slow.reshape(*slice_index.shape, *slow.shape[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_fast: Tensor, grad_slow: Tensor) -> tuple[Tensor, None, None, None]:
        """Spread the means' gradients over all tokens, then add the selected slices' own."""
        (slice_index,) = ctx.saved_tensors
        batch, slices, count, channels = ctx.shape
        out = empty_large(batch * slices * count, channels, ctx.dtype, grad_fast.device)
        out = out.view(batch * slices, count, channels)
        out.copy_((grad_fast / count).flatten(0, 1)[:, None].expand_as(out))
        rows, columns = (averages(size, cells, grad_slow) for size, cells in zip(ctx.grid, ctx.slow_grid, strict=True))
        grad = grad_slow.flatten(0, 1).unflatten(1, ctx.slow_grid).to(rows.dtype)
        grad = torch.einsum("kijc,iy,jx->kyxc", grad, rows, columns).flatten(1, 2)
        first = torch.arange(batch, device=out.device)[:, None] * slices
        out.index_add_(0, (first + slice_index).flatten(), grad.to(out.dtype))
        return out.view(ctx.shape), None, None, None


def averages(size: int, cells: int, like: Tensor) -> Tensor:
    """Return the matrix ``(cells, size)`` of ``adaptive_avg_pool`` along one axis, in float32 or better."""
    cell = torch.arange(cells, device=like.device)[:, None]
    place = torch.arange(size, device=like.device)
    first, stop = cell * size // cells, -(-(cell + 1) * size // cells)
    inside = (place >= first) & (place < stop)
    return inside / (stop - first).to(torch.promote_types(like.dtype, torch.float32))
