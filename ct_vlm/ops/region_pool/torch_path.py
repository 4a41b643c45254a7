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
        parts = _selected(tokens, slice_index)
        slow = torch.cat([_pool(part, grid, slow_grid) for part in parts])
        return tokens.mean(2), slow.view(*slice_index.shape, *slow.shape[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_fast: Tensor, grad_slow: Tensor) -> tuple[Tensor, None, None, None]:
        """Spread the means' gradients over all tokens, then add the selected slices' own."""
        (slice_index,) = ctx.saved_tensors
        batch, slices, count, channels = ctx.shape
        out = empty_large(batch * slices, count, channels, dtype=ctx.dtype, device=grad_fast.device)
        out.copy_((grad_fast / count).flatten(0, 1)[:, None].expand_as(out))
        rows, columns = (averages(size, cells, grad_slow) for size, cells in zip(ctx.grid, ctx.slow_grid, strict=True))
        # columns first, as matrix products over all selected slices
        grad = columns.T @ grad_slow.to(rows.dtype).reshape(-1, columns.shape[0], channels)
        grad = rows.T @ grad.view(-1, rows.shape[0], columns.shape[1] * channels)
        first = torch.arange(batch, device=out.device)[:, None] * slices
        out.index_add_(0, (first + slice_index).flatten(), grad.view(-1, count, channels).to(out.dtype))
        return out.view(ctx.shape), None, None, None


def _selected(tokens: Tensor, slice_index: Tensor) -> list[Tensor]:
    """Return the selected slices as parts ``(k, N, C)``: views on the CPU, one copy on a GPU."""
    if tokens.device.type == "cpu":
        return [tokens[b, d : d + 1] for b, row in enumerate(slice_index.tolist()) for d in row]
    rows = torch.arange(tokens.shape[0], device=tokens.device)[:, None]
    return [tokens[rows, slice_index].flatten(0, 1)]


def _pool(part: Tensor, grid: tuple[int, int], slow_grid: tuple[int, int]) -> Tensor:
    """Pool slices ``(k, N, C)``, read in place as channels-last images, to tokens ``(k, h * w, C)``."""
    images = part.unflatten(1, grid).permute(0, 3, 1, 2)
    return F.adaptive_avg_pool2d(images, slow_grid).permute(0, 2, 3, 1).flatten(1, 2)


def averages(size: int, cells: int, like: Tensor) -> Tensor:
    """Return the matrix ``(cells, size)`` of ``adaptive_avg_pool`` along one axis, in float32 or better."""
    cell = torch.arange(cells, device=like.device)[:, None]
    place = torch.arange(size, device=like.device)
    first, stop = cell * size // cells, -(-(cell + 1) * size // cells)
    inside = (place >= first) & (place < stop)
    return inside / (stop - first).to(torch.promote_types(like.dtype, torch.float32))
