"""Which cells of a feature grid belong to which region, as compressed rows: made once, used for every pooling."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from ct_vlm.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor

INT32_MAX = 2**31 - 1


@dataclass(frozen=True)
class CellRows:
    """The transposed index: the regions of each cell, which is what a backward pass reads.

    Args:
        cells: Flat cell ``b * N + n`` of each entry, ascending.
        regions: Row ``b * R + r`` of each entry.
        offsets: Where each cell's entries start.
        weights: Weight of each entry; None if all are 1.

    Shape:
        - cells, regions, weights: ``(M,)``.
        - offsets: ``(B * N + 1,)``.
    """

    cells: Tensor
    regions: Tensor
    offsets: Tensor
    weights: Tensor | None


@dataclass(frozen=True)
class RegionIndex:
    """Cells of each region of each sample, region by region.

    Build it with :func:`index_labels`, :func:`index_masks`, :func:`index_pyramid` or
    :func:`index_coverage`. One index serves any number of feature maps of its grid, forward and
    backward: what the passes derive from it is computed on first use and kept.

    Args:
        cells: Flat cell ``b * N + n`` of each entry; entries of one region are adjacent.
        offsets: Where the entries of row ``b * R + r`` start.
        weights: Weight of each entry (how much of the cell is the region's); None if all are 1.
        batch: B.
        num_regions: R.
        grid: Size ``(D, H, W)`` of the feature grid.

    Shape:
        - cells, weights: ``(M,)``, M entries.
        - offsets: ``(B * R + 1,)``.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.mask_pool import index_labels
        >>> index = index_labels(torch.tensor([[[[0, 2, 2, 1]]]]), num_regions=3)
        >>> index.cells.tolist(), index.offsets.tolist()
        ([3, 1, 2], [0, 1, 3, 3])
        >>> index.total.tolist()
        [[1.0, 2.0, 0.0]]
    """

    cells: Tensor
    offsets: Tensor
    weights: Tensor | None
    batch: int
    num_regions: int
    grid: tuple[int, int, int]

    @property
    def num_cells(self) -> int:
        """Cells N of one sample's grid."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    @cached_property
    def rows(self) -> Tensor:
        """Row ``b * R + r`` of each entry, ``(M,)``."""
        lengths = self.offsets.diff()
        rows = torch.arange(len(lengths), device=self.cells.device, dtype=self.cells.dtype)
        return rows.repeat_interleave(lengths, output_size=len(self.cells))

    @cached_property
    def total(self) -> Tensor:
        """Summed weight of each region, float32 ``(B, R)``; 0 where a region is empty."""
        if self.weights is None:
            total = self.offsets.diff().float()
        else:
            # a bag of numbers, in float64: neither this nor its order differs between runs, as a scan's would on GPUs
            places = torch.arange(len(self.cells), device=self.cells.device, dtype=self.cells.dtype)
            numbers = self.weights.double()[:, None]
            total = torch.nn.functional.embedding_bag(places, numbers, self.offsets[:-1], mode="sum").float()
        return total.view(self.batch, self.num_regions)

    @cached_property
    def region_of_cell(self) -> Tensor | None:
        """Row of each cell, ``(B * N,)``, and ``B * R`` for background; None if cells have several or weights."""
        if self.weights is not None:
            return None
        background = self.batch * self.num_regions
        found = self.cells.new_full((self.batch * self.num_cells,), background)
        # as many labelled cells as entries: no cell was written twice
        found[self.cells.long()] = self.rows
        return found if int((found != background).sum()) == len(self.cells) else None

    @cached_property
    def by_cell(self) -> CellRows:
        """The regions of each cell."""
        order = torch.argsort(self.cells, stable=True)
        counts = torch.bincount(self.cells, minlength=self.batch * self.num_cells)
        weights = None if self.weights is None else self.weights[order]
        return CellRows(self.cells[order], self.rows[order], starts(counts, self.cells.dtype), weights)

    def dense(self) -> Tensor:
        """Return the weights as a dense float32 tensor ``(B, R, N)``: for checks, not for speed."""
        dense = torch.zeros(self.batch * self.num_regions, self.num_cells, device=self.cells.device)
        weights = torch.ones_like(self.cells, dtype=torch.float32) if self.weights is None else self.weights
        dense.index_put_((self.rows.long(), self.cells.long() % self.num_cells), weights, accumulate=True)
        return dense.view(self.batch, self.num_regions, self.num_cells)

    def to(self, device: str | torch.device) -> RegionIndex:
        """Return the index on a device."""
        weights = None if self.weights is None else self.weights.to(device)
        cells, offsets = self.cells.to(device), self.offsets.to(device)
        return RegionIndex(cells, offsets, weights, self.batch, self.num_regions, self.grid)


def index_labels(labels: Tensor, num_regions: int) -> RegionIndex:
    """Index a label map by one sort of its smallest integer type.

    Args:
        labels: Integers; 0 is background and ``r + 1`` is region r.
        num_regions: R.

    Shape:
        - labels: ``(B, D, H, W)``, on the grid of the features.

    Raises:
        ShapeError: If the rank is wrong or a label is not in ``[0, R]``.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.mask_pool import index_labels
        >>> index_labels(torch.ones(2, 1, 1, 3, dtype=torch.uint8), 1).cells.tolist()
        [0, 1, 2, 3, 4, 5]
    """
    check_labels(labels, num_regions)
    batch, *grid = labels.shape
    cells, counts = sort_labels(labels.reshape(batch, -1), num_regions)
    dtype = index_dtype(labels.numel())
    return RegionIndex(cells.to(dtype), starts(counts, dtype), None, batch, num_regions, (grid[0], grid[1], grid[2]))


def index_masks(masks: Tensor) -> RegionIndex:
    """Index masks that may overlap, binary or soft. No sort: the masks are in order already.

    Args:
        masks: Bool, integer 0/1 or float weights (not negative). They are data: no gradient goes to them.

    Shape:
        - masks: ``(B, R, D, H, W)``, on the grid of the features.

    Raises:
        ShapeError: If the rank is wrong.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.mask_pool import index_masks
        >>> index = index_masks(torch.tensor([[0.0, 0.5, 1.0]]).view(1, 1, 1, 1, 3))
        >>> index.cells.tolist(), index.weights.tolist()
        ([1, 2], [0.5, 1.0])
    """
    if masks.ndim != 5:
        cause = f"Expected `masks` as (B, R, D, H, W), but got {tuple(masks.shape)}."
        raise ShapeError(cause, "Add the missing batch or region axis.")
    batch, regions, *grid = masks.shape
    flat = masks.detach().reshape(batch * regions, -1)
    row, cell = flat.nonzero(as_tuple=True)
    counts = torch.bincount(row, minlength=batch * regions)
    dtype = index_dtype(max(batch * flat.shape[1], len(cell)))
    cells = (row.div(regions, rounding_mode="floor") * flat.shape[1] + cell).to(dtype)
    weights = flat[row, cell].float() if masks.is_floating_point() else None
    return RegionIndex(cells, starts(counts, dtype), weights, batch, regions, (grid[0], grid[1], grid[2]))


def sort_labels(labels: Tensor, num_regions: int) -> tuple[Tensor, Tensor]:
    """Sort the positions of ``(B, N)`` labels by sample and label; background is left out.

    Returns:
        Flat positions ``b * N + n``, row by row and in order within a row, and the count of each row.
    """
    batch = labels.shape[0]
    background = batch * num_regions
    # radix sorts take one pass a byte: the smallest type is the fastest
    dtype = torch.uint8 if background < 256 else torch.int16 if background < 2**15 else torch.int32
    first = torch.arange(batch, device=labels.device, dtype=torch.int32)[:, None] * num_regions - 1
    keys = torch.where(labels > 0, first + labels.int(), background).to(dtype).flatten()
    order = torch.sort(keys, stable=True).indices
    counts = torch.bincount(keys, minlength=background + 1)[:background]
    return order[: int(counts.sum())], counts


def starts(counts: Tensor, dtype: torch.dtype) -> Tensor:
    """Return where rows of these lengths start, and where the last one ends."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(dtype)


def index_dtype(largest: int) -> torch.dtype:
    """Return int32 where it can hold the number, which halves what the gathers read, else int64."""
    return torch.int32 if largest <= INT32_MAX else torch.int64


def check_labels(labels: Tensor, num_regions: int) -> None:
    """Refuse labels of a wrong rank, type or range."""
    if labels.ndim != 4 or labels.is_floating_point() or labels.dtype == torch.bool:
        cause = f"Expected integer `labels` as (B, D, H, W), but got {labels.dtype} {tuple(labels.shape)}."
        raise ShapeError(cause, "Pass a label map; masks go to `index_masks`.")
    if labels.numel() == 0:
        return
    low, high = (int(value) for value in torch.aminmax(labels))
    if low < 0 or high > num_regions:
        cause = f"`labels` hold {low} to {high}, but `num_regions` is {num_regions}."
        raise ShapeError(cause, "Label regions 1 to `num_regions` and background 0.")
