"""Mask pooling in Triton: chunks of cells summed by one program each, then added in order; no atomics.

Cells are chunked so that a large region is shared by many programs. Chunk sums are added in a fixed
order, so results are the same in every run. The backward pass gathers, cell by cell.
"""

# kernel arguments are Triton's: pointers and compile-time constants, which have no Python types
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from ct_vlm.ops.mask_pool.torch_path import is_channel_first

if TYPE_CHECKING:
    from torch import Tensor

    from ct_vlm.ops.mask_pool.index import RegionIndex

CHUNK = 128
"""Cells summed by one program."""
BLOCK_CELLS = 16
BLOCK_CHANNELS = 128


@triton.jit
def _chunk_sum_kernel(
    tokens,  # features, (B, N, C) of any strides
    cells,  # flat cell of each entry, (M,)
    weights,  # weight of each entry, (M,); not read unless WEIGHTED
    starts,  # first entry of each chunk, (J,)
    stops,  # entry after the last of each chunk, (J,)
    sums,  # output, float32 (J, C)
    num_cells,
    channels,
    stride_b,
    stride_n,
    stride_c,
    WEIGHTED: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    # offsets in a large map overflow 32 bits
    chunk = tl.program_id(0).to(tl.int64)
    column = (tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)).to(tl.int64)
    is_column = column < channels
    start = tl.load(starts + chunk)
    stop = tl.load(stops + chunk)
    acc = tl.zeros([BLOCK_C], tl.float32)
    for first in range(start, stop, BLOCK_N):
        entry = first + tl.arange(0, BLOCK_N)
        is_entry = entry < stop
        cell = tl.load(cells + entry, mask=is_entry, other=0).to(tl.int64)
        row = tokens + (cell // num_cells) * stride_b + (cell % num_cells) * stride_n
        mask = is_entry[:, None] & is_column[None, :]
        values = tl.load(row[:, None] + column[None, :] * stride_c, mask=mask, other=0).to(tl.float32)
        if WEIGHTED:
            values *= tl.load(weights + entry, mask=is_entry, other=0)[:, None]
        acc += tl.sum(values, 0)
    tl.store(sums + chunk * channels + column, acc, mask=is_column)


@triton.jit
def _region_sum_kernel(
    chunks,  # chunk sums, float32 (J, C)
    offsets,  # first chunk of each region row, (B * R + 1,)
    sums,  # output, float32 (B * R, C)
    channels,
    BLOCK_C: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    is_column = column < channels
    acc = tl.zeros([BLOCK_C], tl.float32)
    for chunk in range(tl.load(offsets + row), tl.load(offsets + row + 1)):
        acc += tl.load(chunks + chunk * channels + column, mask=is_column, other=0)
    tl.store(sums + row * channels + column, acc, mask=is_column)


@triton.jit
def _spread_kernel(
    grad,  # gradient of the sums, float32 (B * R, C)
    regions,  # region row of each entry, cells in order, (M,)
    weights,  # weight of each entry, (M,); not read unless WEIGHTED
    offsets,  # first entry of each cell, (B * N + 1,)
    out,  # output, (B, N, C) of any strides
    num_cells,
    total_cells,
    channels,
    stride_b,
    stride_n,
    stride_c,
    WEIGHTED: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    cell = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_cell = cell < total_cells
    column = (tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)).to(tl.int64)
    is_column = column < channels
    first = tl.load(offsets + cell, mask=is_cell, other=0)
    stop = tl.load(offsets + cell + 1, mask=is_cell, other=0)
    acc = tl.zeros([BLOCK_N, BLOCK_C], tl.float32)
    # one step where regions do not overlap; a background cell has none
    for step in range(tl.max(stop - first, 0)):
        entry = first + step
        is_entry = entry < stop
        region = tl.load(regions + entry, mask=is_entry, other=0).to(tl.int64)
        mask = is_entry[:, None] & is_column[None, :]
        values = tl.load(grad + region[:, None] * channels + column[None, :], mask=mask, other=0)
        if WEIGHTED:
            values *= tl.load(weights + entry, mask=is_entry, other=0)[:, None]
        acc += values
    row = out + (cell // num_cells) * stride_b + (cell % num_cells) * stride_n
    mask = is_cell[:, None] & is_column[None, :]
    tl.store(row[:, None] + column[None, :] * stride_c, acc.to(out.dtype.element_ty), mask=mask)


def mask_sum_triton(tokens: Tensor, index: RegionIndex) -> Tensor:
    """Sum the tokens of each region in float32; arguments and shapes as :func:`.naive.mask_sum_naive`."""
    result: Tensor = _MaskSum.apply(tokens, index)
    return result


class _MaskSum(torch.autograd.Function):
    """Sum of each region's tokens by the kernels above."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, index: RegionIndex) -> Tensor:
        """Sum chunks, then regions."""
        ctx.index, ctx.dtype, ctx.channel_first = index, tokens.dtype, is_channel_first(tokens)
        channels = tokens.shape[-1]
        first, stop, offsets = _chunks(index)
        block = min(BLOCK_CHANNELS, triton.next_power_of_2(channels))
        columns = triton.cdiv(channels, block)
        chunks = torch.empty(len(first), channels, dtype=torch.float32, device=tokens.device)
        sums = torch.empty(len(offsets) - 1, channels, dtype=torch.float32, device=tokens.device)
        weights = index.cells if index.weights is None else index.weights
        if len(first):
            _chunk_sum_kernel[(len(first), columns)](
                tokens, index.cells, weights, first, stop, chunks, index.num_cells, channels, *tokens.stride(),
                WEIGHTED=index.weights is not None, BLOCK_N=BLOCK_CELLS, BLOCK_C=block,
            )  # fmt: skip
        if len(sums):
            _region_sum_kernel[(len(sums), columns)](chunks, offsets, sums, channels, BLOCK_C=block)
        return sums.view(index.batch, index.num_regions, channels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Gather the regions' gradients, in the layout of the tokens."""
        index: RegionIndex = ctx.index
        rows, channels = index.by_cell, grad.shape[-1]
        grad = grad.float().contiguous()
        shape = (index.batch, index.num_cells, channels)
        if ctx.channel_first:
            out = torch.empty(shape[0], shape[2], shape[1], dtype=ctx.dtype, device=grad.device).transpose(1, 2)
        else:
            out = torch.empty(shape, dtype=ctx.dtype, device=grad.device)
        block = min(BLOCK_CHANNELS, triton.next_power_of_2(channels))
        total = index.batch * index.num_cells
        weights = rows.regions if rows.weights is None else rows.weights
        _spread_kernel[(triton.cdiv(total, BLOCK_CELLS), triton.cdiv(channels, block))](
            grad, rows.regions, weights, rows.offsets, out, index.num_cells, total, channels, *out.stride(),
            WEIGHTED=rows.weights is not None, BLOCK_N=BLOCK_CELLS, BLOCK_C=block,
        )  # fmt: skip
        return out, None


def _chunks(index: RegionIndex) -> tuple[Tensor, Tensor, Tensor]:
    """Cut every region into chunks.

    Returns:
        First and last-plus-one entry of each chunk, and the first chunk of each region row.
    """
    offsets = index.offsets.long()
    counts = (offsets.diff() + CHUNK - 1).div(CHUNK, rounding_mode="floor")
    ends = counts.cumsum(0)
    chunk_offsets = torch.cat([ends.new_zeros(1), ends])
    row = torch.repeat_interleave(torch.arange(len(counts), device=offsets.device), counts)
    first = offsets[row] + (torch.arange(len(row), device=offsets.device) - chunk_offsets[row]) * CHUNK
    return first, torch.minimum(first + CHUNK, offsets[row + 1]), chunk_offsets
