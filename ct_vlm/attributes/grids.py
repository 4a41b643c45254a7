"""The grid of a file, and whether two files share one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.batch import CANONICAL_AXCODES
from ct_vlm.errors import DatasetError
from ct_vlm.transforms.nifti import open_nifti
from ct_vlm.transforms.orientation import axcodes_of, is_degenerate, orientation_transform, reoriented_affine
from ct_vlm.transforms.rules import affine_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Grid = tuple[tuple[int, ...], NDArray[np.float64]]

_TOLERANCE = 0.25  # voxels by which a corner may lie elsewhere (inferred)


def volume_grid(path: str | Path) -> Grid:
    """Return the canonical shape and affine of a NIfTI file from its header; no voxel is read.

    Args:
        path: A volume or mask.

    Raises:
        VolumeError: If the file has no usable header.

    Example:
        >>> import tempfile, pathlib, numpy as np, nibabel as nib
        >>> from ct_vlm.attributes.grids import volume_grid
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "scan.nii.gz")
        ...     nib.save(nib.Nifti1Image(np.zeros((4, 3, 2), np.int16), np.diag([-1.0, -1.0, 5.0, 1.0])), file)
        ...     volume_grid(file)[0]
        (2, 3, 4)
    """
    with open_nifti(path) as stream:
        header = stream.header
    affine, _ = affine_of(header, "header", None)
    transform = orientation_transform(affine, CANONICAL_AXCODES)
    order = np.argsort(transform[:, 0])
    return tuple(header.shape[int(axis)] for axis in order), reoriented_affine(affine, transform, header.shape)


def stored_axcodes(path: Path) -> tuple[str, str, str]:
    """Return the directions of a file's axes; those of CT-RATE where its header gives none."""
    with open_nifti(path) as stream:
        affine = stream.header.affine
    return ("L", "P", "S") if is_degenerate(affine) else axcodes_of(affine)


def check_grid(file: Path, have: Grid, want: Grid) -> None:
    """Raise unless a mask lies on the grid of its volume (or of the other masks).

    Args:
        file: The mask.
        have: Its canonical shape and affine.
        want: Those of the volume.

    Raises:
        DatasetError: If shapes differ, or corners lie elsewhere.
    """
    if have[0] != want[0]:
        cause = f"`{file}` has the grid {have[0]}, but {want[0]} is expected (D, H, W)."
        raise DatasetError(cause, "Masks must lie on the grid of their volume: resample them with the nearest voxel.")
    corners = np.array(np.meshgrid(*[(0, length - 1) for length in have[0]], [1], indexing="ij")).reshape(4, -1)
    apart = np.linalg.inv(want[1]) @ (have[1] - want[1]) @ corners
    if np.abs(apart).max() > _TOLERANCE:
        cause = f"`{file}` lies up to {np.abs(apart).max():.1f} voxels beside the grid that is expected."
        raise DatasetError(cause, "Masks must lie on the grid of their volume: check the affine of both files.")
