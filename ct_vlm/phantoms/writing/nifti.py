"""Canonical arrays to NIfTI files as CT-RATE stores them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.files import atomic_path

if TYPE_CHECKING:
    from pathlib import Path

    from ct_vlm.phantoms.shapes import Array

_FAST = 0  # igzip's lowest level: files a tenth larger than at gzip's default, written many times faster
_SFORM = slice(280, 328)  # bytes of srow_x, srow_y and srow_z in a NIfTI-1 header


def to_lps(volume: Array) -> Array:
    """Turn a canonical array into the array order of CT-RATE's files.

    Shape:
        - Input: ``(D, H, W)``, foot, back, left.
        - Output: ``(W, H, D)`` with axis codes L, P, S.
    """
    return volume[::-1].transpose(2, 1, 0)


def lps_affine(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Array:
    """Return the affine of :func:`to_lps`'s output, centered on the grid, for (D, H, W) inputs."""
    (d, h, w), (sz, sy, sx) = shape, spacing
    affine = np.diag([-sx, -sy, sz, 1.0])
    affine[:3, 3] = [(w - 1) / 2 * sx, (h - 1) / 2 * sy, -(d - 1) / 2 * sz]
    return affine


def encode(array: Array, affine: Array, *, nan_affine: bool = False) -> bytes:
    """Return a gzipped NIfTI-1 file with both forms set and no intensity scaling.

    Args:
        array: Voxels in file order.
        affine: Voxel to RAS+ matrix.
        nan_affine: Break the header: NaN in the sform and no qform.

    Returns:
        Content of a ``.nii.gz`` file.
    """
    import nibabel as nib
    from isal import igzip

    image = nib.Nifti1Image(array, affine)
    image.set_qform(affine, 0 if nan_affine else 1)
    image.set_sform(affine, 1)
    image.header.set_xyzt_units("mm")
    content = bytearray(image.to_bytes())
    if nan_affine:
        # nibabel refuses to write such a header itself
        content[_SFORM] = np.full(12, np.nan, "<f4").tobytes()
    packed: bytes = igzip.compress(bytes(content), _FAST, mtime=0)
    return packed


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file and its folders, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
