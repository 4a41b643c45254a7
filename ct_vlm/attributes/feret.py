"""Largest diameter of a mask within one axial slice, and the extent across it.

**Convention.** A voxel counts from edge to edge: the outline runs through the middles of the four
edges of each voxel, so a row of n voxels is n voxels long, and a single voxel as long as its longer
edge. The extent across is the smallest of those that are perpendicular to a chord which is, to within a
voxel (and a fifth of its length), the longest: digitised, the ends of an ellipse are flat, so that chords
of almost equal length tilt by many degrees, and the extent across one of them alone is up to 1.3 voxels
too large. Diameter and extent of an ellipse of voxels whose centres lie inside are off by at most one
voxel (0.4 and 0.3 too large on average).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]
    Points = NDArray[np.float64]

_SHARE = 0.2  # of a chord's length by which others may be shorter: keeps shapes of a few voxels apart (inferred)


class AxialExtent(NamedTuple):
    """Size of a mask in the axial slice in which it is widest.

    Args:
        long_mm: Largest distance between two points of the outline (Feret diameter).
        short_mm: Extent perpendicular to it in the same slice.
        plane: That slice, counted from the first of the mask's array.
    """

    long_mm: float
    short_mm: float
    plane: int


def axial_extent(mask: Mask, spacing: tuple[float, float]) -> AxialExtent:
    """Return the largest axial diameter of a mask and its perpendicular.

    Parts that are apart in a slice count as one outline (they are one component in space).

    Args:
        mask: A lesion that is not empty.
        spacing: Voxel size in mm along H and W.

    Shape:
        - mask: ``(D, H, W)``.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.attributes.feret import axial_extent
        >>> axial_extent(np.ones((1, 1, 7), bool), (0.5, 0.5))
        AxialExtent(long_mm=3.5, short_mm=0.5, plane=0)
    """
    rows, columns = _lengths(np.any(mask, axis=2)), _lengths(np.any(mask, axis=1))
    bounds = np.hypot(rows * spacing[0], columns * spacing[1])
    best = AxialExtent(0.0, 0.0, 0)
    for index in np.argsort(-bounds, kind="stable"):
        if bounds[index] <= best.long_mm:
            break  # no later slice can hold a longer chord
        long_mm, short_mm = plane_extent(mask[index], spacing)
        if long_mm > best.long_mm:
            best = AxialExtent(long_mm, short_mm, int(index))
    return best


def plane_extent(plane: Mask, spacing: tuple[float, float]) -> tuple[float, float]:
    """Return the Feret diameter of a slice and the extent perpendicular to it.

    The extent is the smallest across any of the chords that digitisation leaves undecided, see above.

    Args:
        plane: A slice that is not empty.
        spacing: Voxel size in mm along H and W.

    Shape:
        - plane: ``(H, W)``.
    """
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist, squareform

    points = outline(plane, spacing)
    hull = points[ConvexHull(points).vertices]
    distances = squareform(pdist(hull))
    longest = float(distances.max())
    shortest = longest - min(max(spacing), _SHARE * longest)
    first, second = np.nonzero(np.triu(distances >= shortest))
    along = (hull[second] - hull[first]) / distances[first, second, None]
    across = hull @ np.stack([-along[:, 1], along[:, 0]])
    return longest, float(np.ptp(across, axis=0).min())


def outline(plane: Mask, spacing: tuple[float, float]) -> Points:
    """Return the points that span the outline: the outer edge middles of each row and column.

    Args:
        plane: A slice that is not empty.
        spacing: Voxel size in mm along H and W.

    Shape:
        - plane: ``(H, W)``.
        - Output: ``(P, 2)``.
    """
    y, left, right = _ends(plane)
    x, top, bottom = _ends(plane.T)
    points = [(y, left - 0.5), (y, right + 0.5), (top - 0.5, x), (bottom + 0.5, x)]
    return np.concatenate([np.stack(pair, axis=1) for pair in points]) * np.asarray(spacing)


def _ends(plane: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows in use, and first and last column of each."""
    rows = np.flatnonzero(plane.any(axis=1))
    used = plane[rows]
    return rows, used.argmax(axis=1), plane.shape[1] - 1 - used[:, ::-1].argmax(axis=1)


def _lengths(lines: Mask) -> NDArray[np.int64]:
    """Return for each row how far its first and last True are apart, both counted."""
    span = lines.shape[1] - lines[:, ::-1].argmax(axis=1) - lines.argmax(axis=1)
    return np.where(lines.any(axis=1), span, 0)
