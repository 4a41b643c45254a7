"""Comparing the grids of two files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def corner_distance(shape: Sequence[int], own: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return by how many voxels the corners of one grid lie elsewhere than those of another.

    Args:
        shape: Size of both grids.
        own: Voxel-to-millimetre matrix of one.
        other: That of the grid whose voxels are counted.

    **Shape:**
        - own, other: ``(4, 4)``.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.datasets.grids import corner_distance
        >>> corner_distance((3, 3, 3), np.diag([2.0, 2.0, 3.0, 1.0]), np.diag([2.0, 2.0, 2.0, 1.0]))
        1.0
    """
    last = np.asarray(shape) - 1
    corners = np.array([[*(last * bits), 1] for bits in np.ndindex(2, 2, 2)]).T
    return float(np.abs(np.linalg.solve(other, own @ corners) - corners).max())
