"""Exact soft weights of a feature grid's cells from a label map at full resolution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ct_vlm.errors import ShapeError
from ct_vlm.ops.mask_pool.index import RegionIndex, check_labels, index_dtype, starts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

TABLE = 2**16
"""Counters of one pass, (cells, labels): a table that stays in the cache."""


def index_coverage(labels: Tensor, grid: tuple[int, int, int], num_regions: int) -> RegionIndex:
    """Index how much of each feature cell each region covers, in one pass over the voxels.

    The weight of a cell for a region is the fraction of the cell's voxels with that label. The
    voxels of a cell are those of ``adaptive_avg_pool3d``: the weights are that pooling of the
    one-hot label map, which is never built. Memory is one slab of cells at a time.

    Args:
        labels: Integers at full resolution; 0 is background and ``r + 1`` is region r.
        grid: Size ``(D, H, W)`` of the feature grid.
        num_regions: R.

    Shape:
        - labels: ``(B, D', H', W')``.

    Raises:
        ShapeError: If labels have the wrong rank or range, or the grid is empty.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.mask_pool import index_coverage
        >>> index = index_coverage(torch.tensor([[[[1, 1, 1, 2]]]]), (1, 1, 2), num_regions=2)
        >>> index.dense().tolist()
        [[[1.0, 0.5], [0.0, 0.5]]]
    """
    check_labels(labels, num_regions)
    if min(grid) < 1:
        cause = f"Expected positive sizes in `grid`, but got {grid}."
        raise ShapeError(cause, "Pass the (D, H, W) of the feature map.")
    batch = labels.shape[0]
    windows = [_Windows(size, cells, labels.device) for size, cells in zip(labels.shape[1:], grid, strict=True)]
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for layer in range(batch * grid[0]):
        sample, d = divmod(layer, grid[0])
        slab = labels[sample, windows[0].first[d] : windows[0].last[d]]
        found.extend(_count_slab(slab, layer * grid[1] * grid[2], windows[1], windows[2], num_regions))
    return _assemble(found, windows, batch, grid, num_regions)


class _Windows:
    """The voxels of each cell along one axis, as ``adaptive_avg_pool`` takes them (they may overlap by one)."""

    def __init__(self, size: int, cells: int, device: torch.device) -> None:
        self.first = [i * size // cells for i in range(cells)]
        self.last = [-(-(i + 1) * size // cells) for i in range(cells)]
        self.lengths = torch.tensor([b - a for a, b in zip(self.first, self.last, strict=True)], device=device)
        ranges = [torch.arange(a, b) for a, b in zip(self.first, self.last, strict=True)]
        self.voxels = torch.cat(ranges).to(device)
        self.cell_of_voxel = torch.repeat_interleave(torch.arange(cells, device=device), self.lengths)
        self.start = [0, *self.lengths.cumsum(0).tolist()]


def _count_slab(
    slab: Tensor, first_cell: int, rows: _Windows, columns: _Windows, num_regions: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Count label by cell in the slices of one layer of cells, some rows at a time.

    Yields:
        Cell, region and voxel count of every pair that occurs.
    """
    width = num_regions + 1
    num_columns = len(columns.lengths)
    step = max(1, TABLE // (num_columns * width))
    for row in range(0, len(rows.lengths), step):
        stop = min(row + step, len(rows.lengths))
        spread = slab.index_select(1, rows.voxels[rows.start[row] : rows.start[stop]])
        cell = (rows.cell_of_voxel[rows.start[row] : rows.start[stop], None] - row) * num_columns
        total = (stop - row) * num_columns * width
        keys = ((cell + columns.cell_of_voxel) * width).to(index_dtype(total))
        keys = keys + spread.index_select(2, columns.voxels)
        counts = torch.bincount(keys.flatten(), minlength=total).view(-1, width)[:, 1:]
        local, region = counts.nonzero(as_tuple=True)
        yield local + (first_cell + row * num_columns), region, counts[local, region]


def _assemble(
    found: list[tuple[Tensor, Tensor, Tensor]],
    windows: list[_Windows],
    batch: int,
    grid: tuple[int, int, int],
    num_regions: int,
) -> RegionIndex:
    """Order the counts by region and turn them into fractions."""
    cell, region, count = (torch.cat(parts) for parts in zip(*found, strict=True))
    layer_cells = grid[1] * grid[2]
    layer = cell.div(layer_cells, rounding_mode="floor")
    rows = layer.div(grid[0], rounding_mode="floor") * num_regions + region
    order = torch.argsort(rows.to(torch.int32), stable=True)
    area = (windows[1].lengths[:, None] * windows[2].lengths).flatten()
    weights = count.double() / (area[cell % layer_cells] * windows[0].lengths[layer % grid[0]])
    dtype = index_dtype(max(batch * grid[0] * layer_cells, len(order)))
    counts = torch.bincount(rows, minlength=batch * num_regions)
    return RegionIndex(cell[order].to(dtype), starts(counts, dtype), weights[order].float(), batch, num_regions, grid)
