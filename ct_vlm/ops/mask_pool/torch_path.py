"""Mask pooling in plain torch: a bag of rows forward, a gather backward, both deterministic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from ct_vlm.ops.memory import empty_large

if TYPE_CHECKING:
    from torch import Tensor

    from ct_vlm.ops.mask_pool.index import RegionIndex

CELLS = 512
"""Cells handled at a time where they are copied: the copies stay in the cache."""


def mask_sum_torch(tokens: Tensor, index: RegionIndex) -> Tensor:
    """Sum the tokens of each region; arguments and shapes as :func:`.naive.mask_sum_naive`.

    Channels-last tokens are read in place. Channel-first tokens (a transposed view of a contiguous
    feature map) are read in place on the CPU, several times slower. Half-precision tokens are copied to float32.
    """
    result: Tensor = _MaskSum.apply(tokens, index)
    return result


class _MaskSum(torch.autograd.Function):
    """Sum of each region's tokens; the gradient of a cell is the sum of its regions' gradients."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, index: RegionIndex) -> Tensor:
        """Sum by region."""
        ctx.index = index
        ctx.dtype = tokens.dtype
        ctx.channel_first = is_channel_first(tokens)
        # detached: embedding_bag prepares a backward pass of its own for inputs that require a gradient;
        # sums of half-precision numbers are taken in float32
        x = tokens.detach().to(torch.promote_types(tokens.dtype, torch.float32))
        if ctx.channel_first and x.device.type == "cpu":
            return _sum_channel_first(x, index)
        rows = x.reshape(-1, x.shape[-1])
        weights = None if index.weights is None else index.weights.to(x.dtype)
        sums = torch.nn.functional.embedding_bag(
            index.cells, rows, index.offsets[:-1], mode="sum", per_sample_weights=weights
        )
        return sums.view(index.batch, index.num_regions, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Give every cell its regions' gradients, written once and in the layout of the tokens."""
        index: RegionIndex = ctx.index
        rows = grad.reshape(-1, grad.shape[-1])
        if ctx.channel_first:
            return _spread_channel_first(rows, index, ctx.dtype), None
        return _spread(rows, index, ctx.dtype).view(index.batch, index.num_cells, -1), None


def is_channel_first(tokens: Tensor) -> bool:
    """Return whether neighbours in memory are cells, not channels."""
    return tokens.shape[1] > 1 and tokens.stride(1) == 1 and tokens.stride(2) != 1


def _spread(grad: Tensor, index: RegionIndex, dtype: torch.dtype) -> Tensor:
    """Return the gradient of channels-last tokens, ``(B * N, C)``."""
    out = empty_large(index.batch * index.num_cells, grad.shape[1], dtype=dtype, device=grad.device)
    if index.region_of_cell is not None:
        table = torch.cat([grad, grad.new_zeros(1, grad.shape[1])]).to(dtype)
        return torch.index_select(table, 0, index.region_of_cell, out=out)
    rows = index.by_cell
    weights = None if rows.weights is None else rows.weights.to(grad.dtype)
    edges = [*range(0, len(out), CELLS), len(out)] if grad.device.type == "cpu" else [0, len(out)]
    entries = rows.offsets[edges].tolist()
    for start, stop, first, last in zip(edges, edges[1:], entries, entries[1:], strict=False):
        out[start:stop] = torch.nn.functional.embedding_bag(
            rows.regions[first:last],
            grad,
            rows.offsets[start:stop] - first,
            mode="sum",
            per_sample_weights=None if weights is None else weights[first:last],
        )
    return out


def _sum_channel_first(tokens: Tensor, index: RegionIndex) -> Tensor:
    """Sum by tiles of cells, each transposed in the cache instead of the whole map in memory."""
    batch, cells, channels = tokens.shape
    sums = tokens.new_zeros(batch * index.num_regions, channels)
    rows = index.by_cell
    edges = [min(n, cells) for n in range(0, cells + CELLS, CELLS)]
    # channels of a map lie a power of two apart as a rule and fall into one cache set: the pad parts them
    padded = tokens.new_empty(channels, CELLS + 16)
    for b in range(batch):
        bounds = rows.offsets[[b * cells + n for n in edges]].tolist()
        for start, stop, first, last in zip(edges, edges[1:], bounds, bounds[1:], strict=False):
            if first == last:
                continue
            part = padded[:, : stop - start].copy_(tokens[b, start:stop].T)
            tile = part.T.contiguous().index_select(0, rows.cells[first:last] - (b * cells + start))
            if rows.weights is not None:
                tile *= rows.weights[first:last, None].to(tile.dtype)
            sums.index_add_(0, rows.regions[first:last], tile)
    return sums.view(batch, index.num_regions, channels)


def _spread_channel_first(grad: Tensor, index: RegionIndex, dtype: torch.dtype) -> Tensor:
    """Return the gradient of channel-first tokens, a ``(B, N, C)`` view of ``(B, C, N)`` memory."""
    channels = grad.shape[1]
    if index.region_of_cell is None:
        # rare (overlapping masks on a channel-first map): one copy more
        spread = _spread(grad, index, dtype).view(index.batch, index.num_cells, channels)
        return spread.transpose(1, 2).contiguous().transpose(1, 2)
    out = empty_large(index.batch, channels, index.num_cells, dtype=dtype, device=grad.device)
    table = torch.cat([grad, grad.new_zeros(1, channels)]).to(dtype).T.contiguous()
    for b, region in enumerate(index.region_of_cell.view(index.batch, -1)):
        torch.index_select(table, 1, region, out=out[b])
    return out.transpose(1, 2)
