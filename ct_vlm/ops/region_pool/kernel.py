"""R² pooling in Triton: counts by histogram, and both poolings in one launch.

A slice's mean and a cell of the adaptive pooling are both the average of a rectangle of tokens:
one program each, in one kernel, which reads the selected slices where they lie.
"""

# kernel arguments are Triton's: pointers and compile-time constants, which have no Python types
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_PIXELS = 1024
BLOCKS_A_PROGRAM = 16
BLOCK_TOKENS = 16
BLOCK_CHANNELS = 128


@triton.jit
def _count_kernel(
    labels,  # integers, (B * D, pixels)
    counts,  # output, int32 (B * D, parts, BINS)
    pixels,
    num_regions,
    parts,
    BINS: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    acc = tl.zeros([BINS], tl.int32)
    for step in range(BLOCKS):
        pixel = (part * BLOCKS + step) * BLOCK + tl.arange(0, BLOCK)
        label = tl.load(labels + row * pixels + pixel, mask=pixel < pixels, other=0)
        # what is no region counts as background, which nobody reads
        is_region = (label > 0) & (label <= num_regions)
        acc += tl.histogram(tl.where(is_region, label, 0).to(tl.int32), BINS)
    tl.store(counts + (row * parts + part) * BINS + tl.arange(0, BINS), acc)


@triton.jit
def _pool_kernel(
    tokens,  # (B, D, N, C) of any strides
    slice_index,  # selected slices, int64 (B, K)
    fast,  # output, (B, D, C)
    slow,  # output, (B, K, cells, C)
    slices,
    selected,
    height,
    width,
    cells_h,
    cells_w,
    channels,
    means,  # programs of slice means: B * D
    stride_b,
    stride_d,
    stride_n,
    stride_c,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    job = tl.program_id(0).to(tl.int64)
    column = (tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)).to(tl.int64)
    is_column = column < channels
    if job < means:
        b = job // slices
        d = job % slices
        top, bottom, left, right = 0 * job, 0 * job + height, 0 * job, 0 * job + width
        out = fast + job * channels
    else:
        cell = (job - means) % (cells_h * cells_w)
        pair = (job - means) // (cells_h * cells_w)
        b = pair // selected
        d = tl.load(slice_index + pair)
        i = cell // cells_w
        j = cell % cells_w
        top, bottom = i * height // cells_h, ((i + 1) * height + cells_h - 1) // cells_h
        left, right = j * width // cells_w, ((j + 1) * width + cells_w - 1) // cells_w
        out = slow + (job - means) * channels
    acc = tl.zeros([BLOCK_C], tl.float32)
    area = (bottom - top) * (right - left)
    for first in range(0, area, BLOCK_N):
        place = first + tl.arange(0, BLOCK_N)
        token = (top + place // (right - left)) * width + left + place % (right - left)
        mask = (place < area)[:, None] & is_column[None, :]
        row = tokens + b * stride_b + d * stride_d + token * stride_n
        acc += tl.sum(tl.load(row[:, None] + column[None, :] * stride_c, mask=mask, other=0).to(tl.float32), 0)
    tl.store(out + column, (acc / area).to(out.dtype.element_ty), mask=is_column)


@triton.jit
def _spread_kernel(
    grad_fast,  # float32 (B, D, C)
    grad_slow,  # float32 (B, K, cells, C)
    slice_index,  # int64 (B, K)
    out,  # output, (B, D, N, C)
    slices,
    selected,
    height,
    width,
    cells_h,
    cells_w,
    channels,
    REACH_H: tl.constexpr,  # most cells that a row can belong to
    REACH_W: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    count = height * width
    token = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    column = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    is_token = token < count
    is_column = column < channels
    y = token // width
    x = token % width
    mean = tl.load(grad_fast + row * channels + column, mask=is_column, other=0) / count
    acc = tl.zeros([BLOCK_N, BLOCK_C], tl.float32) + mean[None, :]
    b = row // slices
    for k in range(selected):
        if tl.load(slice_index + b * selected + k) == row % slices:
            for up in range(REACH_H):
                i = y * cells_h // height + up
                top, bottom = i * height // cells_h, ((i + 1) * height + cells_h - 1) // cells_h
                in_row = (i < cells_h) & (y >= top) & (y < bottom)
                for along in range(REACH_W):
                    j = x * cells_w // width + along
                    left, right = j * width // cells_w, ((j + 1) * width + cells_w - 1) // cells_w
                    inside = in_row & (j < cells_w) & (x >= left) & (x < right) & is_token
                    source = ((b * selected + k) * cells_h + i) * cells_w + j
                    mask = inside[:, None] & is_column[None, :]
                    value = tl.load(grad_slow + source[:, None] * channels + column[None, :], mask=mask, other=0)
                    acc += value / ((bottom - top) * (right - left))[:, None]
    mask = is_token[:, None] & is_column[None, :]
    target = out + (row * count + token)[:, None] * channels + column[None, :]
    tl.store(target, acc.to(out.dtype.element_ty), mask=mask)


def slice_counts_triton(labels: Tensor, num_regions: int) -> Tensor:
    """Count; arguments and shapes as :func:`.naive.slice_counts_naive`."""
    batch, slices = labels.shape[:2]
    flat = labels.reshape(batch * slices, -1)
    parts = max(1, triton.cdiv(flat.shape[1], BLOCK_PIXELS * BLOCKS_A_PROGRAM))
    # at least one counter for each thread of a warp
    bins = max(32, triton.next_power_of_2(num_regions + 1))
    counts = torch.empty(len(flat), parts, bins, dtype=torch.int32, device=labels.device)
    if len(flat):
        _count_kernel[(len(flat), parts)](
            flat, counts, flat.shape[1], num_regions, parts, BINS=bins, BLOCK=BLOCK_PIXELS, BLOCKS=BLOCKS_A_PROGRAM
        )
    total = counts.sum(1, dtype=torch.int64)[:, 1 : num_regions + 1]
    return total.view(batch, slices, num_regions).transpose(1, 2).contiguous()


def region_pool_triton(
    tokens: Tensor, slice_index: Tensor, grid: tuple[int, int], slow_grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Pool, with sums in float32; arguments and shapes as :func:`.region_pool`."""
    fast, slow = _RegionPool.apply(tokens, slice_index, grid, slow_grid)
    return fast, slow


class _RegionPool(torch.autograd.Function):
    """Both poolings and their gradient by the kernels above."""

    @staticmethod
    def forward(
        ctx: Any, tokens: Tensor, slice_index: Tensor, grid: tuple[int, int], slow_grid: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Average every rectangle."""
        slice_index = slice_index.contiguous()
        ctx.save_for_backward(slice_index)
        ctx.shape, ctx.dtype, ctx.grid, ctx.slow_grid = tokens.shape, tokens.dtype, grid, slow_grid
        batch, slices, _, channels = tokens.shape
        selected, cells = slice_index.shape[1], slow_grid[0] * slow_grid[1]
        fast = torch.empty(batch, slices, channels, dtype=tokens.dtype, device=tokens.device)
        slow = torch.empty(batch, selected, cells, channels, dtype=tokens.dtype, device=tokens.device)
        block = min(BLOCK_CHANNELS, triton.next_power_of_2(channels))
        programs = batch * slices + batch * selected * cells
        _pool_kernel[(programs, triton.cdiv(channels, block))](
            tokens, slice_index, fast, slow, slices, selected, *grid, *slow_grid, channels, batch * slices,
            *tokens.stride(), BLOCK_N=BLOCK_TOKENS, BLOCK_C=block,
        )  # fmt: skip
        return fast, slow

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_fast: Tensor, grad_slow: Tensor) -> tuple[Tensor, None, None, None]:
        """Gather every token's gradient; it is written once."""
        (slice_index,) = ctx.saved_tensors
        batch, slices, count, channels = ctx.shape
        out = torch.empty(ctx.shape, dtype=ctx.dtype, device=grad_fast.device)
        block = min(BLOCK_CHANNELS, triton.next_power_of_2(channels))
        reach = [cells // size + 2 for size, cells in zip(ctx.grid, ctx.slow_grid, strict=True)]
        _spread_kernel[(batch * slices, triton.cdiv(count, BLOCK_TOKENS), triton.cdiv(channels, block))](
            grad_fast.float().contiguous(), grad_slow.float().contiguous(), slice_index, out, slices,
            slice_index.shape[1], *ctx.grid, *ctx.slow_grid, channels,
            REACH_H=reach[0], REACH_W=reach[1], BLOCK_N=BLOCK_TOKENS, BLOCK_C=block,
        )  # fmt: skip
        return out, None, None, None
