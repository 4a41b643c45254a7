"""Axis codes, affine repair and reorientation without resampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel import orientations
from nibabel.affines import obliquity, voxel_sizes

from ct_vlm.errors import ConfigError, VolumeGeometryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_SIGNS = {"R": (0, 1.0), "L": (0, -1.0), "A": (1, 1.0), "P": (1, -1.0), "S": (2, 1.0), "I": (2, -1.0)}
_MIN_SPACING_MM, _MAX_SPACING_MM = 1e-3, 100.0


def affine_from_spacing(spacing: Sequence[float], axcodes: Sequence[str] = ("L", "P", "S")) -> NDArray[np.float64]:
    """Return an axis-aligned affine with its origin at zero.

    Args:
        spacing: Voxel size in mm of each array axis.
        axcodes: Direction in which each array axis grows.

    Example:
        >>> from ct_vlm.transforms.orientation import affine_from_spacing
        >>> affine_from_spacing((0.7, 0.7, 1.5)).diagonal().tolist()
        [-0.7, -0.7, 1.5, 1.0]
    """
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    for axis, (code, size) in enumerate(zip(axcodes, spacing, strict=True)):
        row, sign = _SIGNS[code]
        affine[row, axis] = sign * size
    return affine


def is_degenerate(affine: NDArray[np.float64]) -> bool:
    """Tell whether an affine holds NaN, a zero axis or two parallel axes."""
    if not np.isfinite(affine).all():
        return True
    sizes = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if (sizes < _MIN_SPACING_MM).any():
        return True
    return bool(abs(np.linalg.det(affine[:3, :3] / sizes)) < 0.1)


def check_spacing(spacing: Sequence[float], path: object, cure: str) -> None:
    """Raise unless every voxel size is a plausible number of millimetres.

    Raises:
        VolumeGeometryError: If a value is NaN, zero, negative or beyond 100 mm.
    """
    if not all(np.isfinite(s) and _MIN_SPACING_MM <= s <= _MAX_SPACING_MM for s in spacing):
        cause = f"`{path}` has no usable voxel spacing: {tuple(float(s) for s in spacing)} mm."
        raise VolumeGeometryError(cause, cure)


def check_axcodes(axcodes: Sequence[str]) -> tuple[str, str, str]:
    """Return three axis codes that name each body axis once.

    Raises:
        ConfigError: If they do not.
    """
    codes = tuple(str(code).upper() for code in axcodes)
    if len(codes) != 3 or {_SIGNS.get(code, (-1, 0.0))[0] for code in codes} != {0, 1, 2}:
        cause = f"Expected `axcodes` to name each body axis once, but got {tuple(axcodes)}."
        raise ConfigError(cause, "Use e.g. ('I', 'P', 'L'): one of R/L, one of A/P and one of S/I.")
    return codes[0], codes[1], codes[2]


def reorient(
    array: NDArray[Any], affine: NDArray[np.float64], axcodes: Sequence[str]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Permute and flip axes so that they grow in the directions asked for.

    No voxel is resampled: an oblique volume gets the nearest orientation, and its affine keeps
    the angle.

    Args:
        array: Values, three axes.
        affine: Voxel index to RAS+ millimetres.
        axcodes: Wanted direction of each axis of the result.

    Returns:
        A C-contiguous array (the same memory if nothing had to move) and its affine.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.transforms.orientation import affine_from_spacing, reorient
        >>> stored = np.arange(6).reshape(1, 2, 3)  # x to the left, y to the back, z to the head
        >>> moved, affine = reorient(stored, affine_from_spacing((1, 1, 5)), ("I", "P", "L"))
        >>> moved[:, :, 0].tolist()
        [[2, 5], [1, 4], [0, 3]]
    """
    transform = orientation_transform(affine, axcodes)
    moved = orientations.apply_orientation(array, transform)
    return np.ascontiguousarray(moved), reoriented_affine(affine, transform, array.shape)


def orientation_transform(affine: NDArray[np.float64], axcodes: Sequence[str]) -> NDArray[np.float64]:
    """Return for each stored axis which axis it becomes, and 1 or -1 for its direction.

    Args:
        affine: Voxel index to RAS+ millimetres.
        axcodes: Wanted direction of each axis of the result.

    **Shape:**
        - returns ``(3, 2)``.
    """
    start = orientations.io_orientation(affine)
    wanted = orientations.axcodes2ornt(check_axcodes(axcodes))
    return np.asarray(orientations.ornt_transform(start, wanted))


def reoriented_affine(
    affine: NDArray[np.float64], transform: NDArray[np.float64], shape: Sequence[int]
) -> NDArray[np.float64]:
    """Return the affine of an array whose axes were moved.

    Args:
        affine: Of the stored array.
        transform: From :func:`orientation_transform`.
        shape: Of the stored array.
    """
    return affine @ np.asarray(orientations.inv_ornt_aff(transform, tuple(shape)))


def axcodes_of(affine: NDArray[np.float64]) -> tuple[str, str, str]:
    """Return the nearest axis codes of an affine."""
    first, second, third = orientations.aff2axcodes(affine)
    return first, second, third


def spacing_of(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the voxel size in mm of each array axis."""
    first, second, third = voxel_sizes(affine)
    return float(first), float(second), float(third)


def oblique_degrees(affine: NDArray[np.float64]) -> float:
    """Return the largest angle between an array axis and its nearest body axis."""
    return float(np.degrees(obliquity(affine).max()))
