"""Indices of every level of a feature pyramid from one sort of the finest label map."""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import torch

from ct_vlm.ops.mask_pool.index import RegionIndex, check_labels, index_dtype, sort_labels, starts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

Size = tuple[int, int, int]


def index_pyramid(labels: Tensor, num_regions: int, strides: Sequence[Size]) -> list[RegionIndex]:
    """Index a label map for its own grid and for every coarser level, with one sort for all.

    The sort runs over cells in block order (all cells of a coarse cell are adjacent), so that the
    entries of each coarser level are runs of the finer one. A coarse cell's weight for a region is
    the number of its fine cells with that label: pooling a level gives the same as pooling that
    level repeated to the finest grid.

    Args:
        labels: Integers on the finest grid; 0 is background and ``r + 1`` is region r.
        num_regions: R.
        strides: Step ``(d, h, w)`` from each level to the next coarser one.

    Shape:
        - labels: ``(B, D, H, W)``; a level of stride s has ``ceil(D / s)`` cells along D.

    Returns:
        ``len(strides) + 1`` indices, fine to coarse.

    Raises:
        ShapeError: If labels have the wrong rank or range.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.mask_pool import index_pyramid
        >>> fine, coarse = index_pyramid(torch.tensor([[[[1, 1, 1, 2]]]]), 2, [(1, 1, 2)])
        >>> coarse.grid, coarse.cells.tolist(), coarse.weights.tolist()
        ((1, 1, 2), [0, 1, 1], [2.0, 1.0, 1.0])
    """
    check_labels(labels, num_regions)
    batch, *size = labels.shape
    grid = (size[0], size[1], size[2])
    totals = tuple(accumulate(strides, _multiply, initial=(1, 1, 1)))
    order = block_order(grid, totals).to(labels.device)
    positions, counts = sort_labels(labels.reshape(batch, -1)[:, order], num_regions)
    cells_per_sample = len(order)
    sample = positions.div(cells_per_sample, rounding_mode="floor")
    cells = order[positions % cells_per_sample]
    rows = torch.repeat_interleave(torch.arange(len(counts), device=labels.device), counts, output_size=len(cells))
    levels = []
    for total in totals:
        coarse = _coarse_grid(grid, total)
        flat = sample * (coarse[0] * coarse[1] * coarse[2]) + _parent(cells, grid, total)
        levels.append(_merge_runs(flat, rows, batch, num_regions, coarse))
    return levels


@lru_cache(maxsize=16)
def block_order(grid: Size, totals: tuple[Size, ...]) -> Tensor:
    """Return the cells of a grid ordered so that each level's blocks are contiguous, ``(N,)``.

    Args:
        grid: The finest grid.
        totals: Stride of each level against the finest, fine to coarse, the first all 1.
    """
    coarsest = totals[-1]
    padded = [-(-n // s) * s for n, s in zip(grid, coarsest, strict=True)]
    axes = [torch.arange(n) for n in padded]
    cell = (axes[0][:, None, None] * grid[1] + axes[1][:, None]) * grid[2] + axes[2]
    inside = [axis < n for axis, n in zip(axes, grid, strict=True)]
    cell = torch.where(inside[0][:, None, None] & inside[1][:, None] & inside[2], cell, -1)
    # split every axis into (blocks, steps of each level from coarse to fine), then bring levels together
    steps = [[c // f for c, f in zip(high, low, strict=True)] for low, high in pairwise(totals)]
    sizes = [[n // s for n, s in zip(padded, coarsest, strict=True)], *steps[::-1]]
    depth = len(sizes)
    split = cell.reshape([sizes[level][axis] for axis in range(3) for level in range(depth)])
    ordered = split.permute([axis * depth + level for level in range(depth) for axis in range(3)]).flatten()
    return ordered[ordered >= 0]


def _parent(cells: Tensor, grid: Size, total: Size) -> Tensor:
    """Return the coarse cell of each fine cell."""
    d, rest = cells.div(grid[1] * grid[2], rounding_mode="floor"), cells % (grid[1] * grid[2])
    h, w = rest.div(grid[2], rounding_mode="floor"), rest % grid[2]
    coarse = _coarse_grid(grid, total)
    d, h, w = (axis.div(step, rounding_mode="floor") for axis, step in zip((d, h, w), total, strict=True))
    return (d * coarse[1] + h) * coarse[2] + w


def _merge_runs(cells: Tensor, rows: Tensor, batch: int, num_regions: int, grid: Size) -> RegionIndex:
    """Merge adjacent entries of one cell and one region into one weighted entry."""
    is_first = torch.ones_like(cells, dtype=torch.bool)
    is_first[1:] = (cells[1:] != cells[:-1]) | (rows[1:] != rows[:-1])
    first = is_first.nonzero().flatten()
    dtype = index_dtype(max(batch * grid[0] * grid[1] * grid[2], len(cells)))
    counts = torch.bincount(rows[first], minlength=batch * num_regions)
    weights = None
    if len(first) < len(cells):
        weights = torch.diff(first, append=first.new_tensor([len(cells)])).float()
    return RegionIndex(cells[first].to(dtype), starts(counts, dtype), weights, batch, num_regions, grid)


def _coarse_grid(grid: Size, total: Size) -> Size:
    d, h, w = (-(-n // s) for n, s in zip(grid, total, strict=True))
    return d, h, w


def _multiply(a: Size, b: Size) -> Size:
    return a[0] * b[0], a[1] * b[1], a[2] * b[2]
