"""Resample volumes whose axes do not lie along the body's, onto a grid whose axes do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from nibabel.orientations import io_orientation

from ct_vlm.errors import ConfigError, VolumeGeometryError
from ct_vlm.transforms import orientation as axes
from ct_vlm.transforms.nifti_header import MAX_VOXELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Oblique = Literal["nearest", "resample"]
_MIN_DEGREES = 0.05  # half a voxel at the far end of 512
_BORDER = 1e-3  # voxels by which rounding may leave the volume's outermost faces


def check_oblique(oblique: str) -> None:
    """Raise unless a choice for oblique files is known.

    Raises:
        ConfigError: If it is not.
    """
    if oblique not in get_args(Oblique):
        cause = f"Expected `oblique` to be one of {', '.join(get_args(Oblique))}, but got {oblique!r}."
        raise ConfigError(cause, "Use 'nearest' unless voxels have to lie along the body's axes exactly.")


def is_resampled(affine: NDArray[np.float64], oblique: str) -> bool:
    """Tell whether a volume has to be resampled to lie along the body's axes."""
    return oblique == "resample" and axes.oblique_degrees(affine) > _MIN_DEGREES


def patient_grid(
    shape: Sequence[int], affine: NDArray[np.float64], axcodes: Sequence[str]
) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Return shape and affine of the axis-aligned grid that holds a whole volume.

    Its voxels have the sizes of the volume's own along the nearest axes, and it lies around the
    same centre. For an axis-aligned volume it is the volume's own grid.

    Args:
        shape: Of the volume.
        affine: Of the volume.
        axcodes: Directions of the grid's axes.

    Raises:
        VolumeGeometryError: If the grid would be larger than any CT.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.transforms.oblique import patient_grid
        >>> shape, affine = patient_grid((4, 3, 2), np.diag([-1.0, -2.0, 5.0, 1.0]), ("I", "P", "L"))
        >>> shape, (affine @ [1, 2, 3, 1]).tolist()
        ((2, 3, 4), [-3.0, -4.0, 0.0, 1.0])
    """
    body_axis = io_orientation(affine)[:, 0].astype(int)
    size = np.empty(3)
    size[body_axis] = axes.spacing_of(affine)  # of each body axis
    half = np.abs(affine[:3, :3]) @ np.asarray(shape, dtype=float) / 2  # of the bounding box, in mm
    counts = np.maximum(1, np.ceil(2 * half / size - 2 * _BORDER)).astype(np.int64)
    if int(np.prod(counts.astype(object))) > MAX_VOXELS:
        cause = f"An axis-aligned grid around the oblique volume {tuple(shape)} would hold {tuple(counts)} voxels."
        raise VolumeGeometryError(cause, 'Its header is damaged, or pass `oblique="nearest"`.')
    grid = axes.affine_from_spacing((1.0, 1.0, 1.0), axcodes)
    order = np.abs(grid[:3, :3]).argmax(axis=0)  # body axis of each array axis
    grid[:3, :3] *= size[order]
    wanted = counts[order]
    center = affine @ [*((np.asarray(shape) - 1) / 2), 1.0]
    grid[:3, 3] = center[:3] - grid[:3, :3] @ ((wanted - 1) / 2)
    return (int(wanted[0]), int(wanted[1]), int(wanted[2])), grid


def resample_affine(
    array: NDArray[Any],
    affine: NDArray[np.float64],
    shape: tuple[int, int, int],
    grid: NDArray[np.float64],
    *,
    fill: int,
    order: int = 1,
) -> NDArray[Any]:
    """Read a volume at the voxels of any other grid, one slice of the grid at a time.

    The general path: right for every pair of affines, and some twenty times slower than
    :class:`ct_vlm.transforms.slabs.SlabResampler`, which it equals where both apply.

    Args:
        array: Volume or label map.
        affine: Its voxel-to-millimetre matrix.
        shape: Size of the grid.
        grid: The grid's voxel-to-millimetre matrix.
        fill: Value outside the volume; half a voxel around the outermost centres belongs to it.
        order: 1 for trilinear, 0 for the nearest voxel.

    Returns:
        Values of the array's type; integers are rounded.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.transforms.oblique import resample_affine
        >>> line = np.array([[[0, 10, 20, 30]]], np.int16)
        >>> coarse = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0.5], [0, 0, 0, 1]])
        >>> resample_affine(line, np.eye(4), (1, 1, 3), coarse, fill=-1).tolist()
        [[[5, 25, -1]]]
    """
    from scipy import ndimage

    step = np.linalg.inv(affine) @ grid
    lengths = np.asarray(array.shape)[:, None, None]
    rows, columns = np.arange(shape[1])[:, None], np.arange(shape[2])[None]
    in_plane = np.stack([step[axis, 1] * rows + step[axis, 2] * columns for axis in range(3)])
    result = np.empty(shape, dtype=array.dtype)
    for index in range(shape[0]):
        place = in_plane + (step[:3, 0] * index + step[:3, 3])[:, None, None]
        outside = ((place < -0.5 - _BORDER) | (place > lengths - 0.5 + _BORDER)).any(axis=0)
        if order == 0:  # halves go up, as in `resample_nearest`
            nearest = np.clip(np.floor(place + 0.5).astype(np.int64), 0, lengths - 1)
            values = array[nearest[0], nearest[1], nearest[2]]
        else:
            values = ndimage.map_coordinates(array, place, output=np.float64, order=1, mode="nearest")
            values = np.rint(values) if array.dtype.kind in "iu" else values
        values[outside] = fill
        result[index] = values
    return result
