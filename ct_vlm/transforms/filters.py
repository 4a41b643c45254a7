"""Resampling filters along one axis: which source positions a target position reads, and with what weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from scipy.sparse import csr_array

Interpolation = Literal["linear", "area", "antialias"]


@dataclass(frozen=True)
class AxisFilter:
    """Weights of one axis; the positions that a target reads lie side by side.

    Args:
        source: Source length.
        starts: First source position that each target position reads.
        weights: Weights from there on, one array a target position; each sums to one.
    """

    source: int
    starts: tuple[int, ...]
    weights: tuple[NDArray[np.float64], ...]

    @property
    def is_selection(self) -> bool:
        """Whether every target position is one source position."""
        return all(len(row) == 1 for row in self.weights)

    def matrix(self) -> csr_array:
        """Return the weights as a sparse float32 matrix, targets by sources."""
        from scipy import sparse

        lengths = [len(row) for row in self.weights]
        columns = np.concatenate([np.arange(start, start + n) for start, n in zip(self.starts, lengths, strict=True)])
        values = np.concatenate(self.weights).astype(np.float32)
        pointers = np.concatenate([[0], np.cumsum(lengths)])
        return sparse.csr_array((values, columns, pointers), shape=(len(lengths), self.source))


def axis_filter(interpolation: str, source: int, target: int, start: int = 0, stop: int | None = None) -> AxisFilter:
    """Return the filter that turns ``source`` positions into ``target``, for a part of the targets.

    Voxels are boxes of equal size with their values at their centres; beyond the outermost centres
    the outermost value holds.

    ============= ==========================================================================
    interpolation weights
    ============= ==========================================================================
    ``linear``    the two nearest centres, however far apart targets lie: a reduction aliases
    ``antialias`` a triangle as wide as two target voxels where the axis is reduced (as in PIL
                  and torch's ``antialias=True``); the same as ``linear`` where it is not
    ``area``      the mean of all source voxels that a target touches, a voxel on its border
                  with its full weight (torch's ``area``)
    ============= ==========================================================================

    Args:
        interpolation: See above.
        source: Source length.
        target: Target length.
        start: First target position that is wanted.
        stop: Position behind the last one.

    Example:
        >>> from ct_vlm.transforms.filters import axis_filter
        >>> [row.round(3).tolist() for row in axis_filter("antialias", 6, 2).weights]
        [[0.25, 0.375, 0.25, 0.125], [0.125, 0.25, 0.375, 0.25]]
        >>> [row.tolist() for row in axis_filter("linear", 6, 2).weights]
        [[1.0], [1.0]]
    """
    positions = range(start, target if stop is None else stop)
    if source == target:
        rows = [(position, np.ones(1)) for position in positions]
    else:
        rule = _RULES[interpolation]
        rows = [rule(position, source, target) for position in positions]
    return AxisFilter(source, tuple(row[0] for row in rows), tuple(row[1] for row in rows))


def _linear(position: int, source: int, target: int) -> tuple[int, NDArray[np.float64]]:
    """Return the two nearest centres, or one where it is met exactly."""
    center = min(max((position + 0.5) * (source / target) - 0.5, 0.0), source - 1.0)
    lower = int(center)
    share = center - lower
    return lower, np.array([1.0 - share, share]) if share else np.ones(1)


def _area(position: int, source: int, target: int) -> tuple[int, NDArray[np.float64]]:
    """Return equal weights of all voxels that the target touches."""
    start = position * source // target
    length = -(-(position + 1) * source // target) - start
    return start, np.full(length, 1.0 / length)


def _antialias(position: int, source: int, target: int) -> tuple[int, NDArray[np.float64]]:
    """Return a triangle whose half width is the larger voxel."""
    scale = source / target
    if scale <= 1:
        return _linear(position, source, target)
    center = (position + 0.5) * scale
    start, stop = max(int(center - scale + 0.5), 0), min(int(center + scale + 0.5), source)
    weights = np.maximum(0.0, 1.0 - np.abs((np.arange(start, stop) + 0.5 - center) / scale))
    used = np.flatnonzero(weights)
    kept = weights[used[0] : used[-1] + 1]
    return start + int(used[0]), kept / kept.sum()


_RULES: dict[str, Callable[[int, int, int], tuple[int, NDArray[np.float64]]]] = {
    "linear": _linear,
    "area": _area,
    "antialias": _antialias,
}
