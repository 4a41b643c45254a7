"""What a file's header, its metadata row and the HU rule together say about scale and place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct_vlm.errors import VolumeGeometryError
from ct_vlm.transforms import orientation as axes
from ct_vlm.transforms.oblique import is_resampled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ct_vlm.transforms.metadata import ScanMetadata
    from ct_vlm.transforms.nifti_header import NiftiHeader

_NO_SPACING = "Pass `metadata=` with XYSpacing and ZSpacing of this volume, or exclude it."


def rescale_of(file: NiftiHeader, source: str, row: ScanMetadata | None) -> tuple[float, float]:
    """Return slope and intercept under a rule."""
    if source == "csv" and row is not None and row.slope is not None and row.intercept is not None:
        return row.slope, row.intercept
    if source == "header":
        return file.slope, file.intercept
    return 1.0, 0.0


def affine_of(
    file: NiftiHeader, source: str, row: ScanMetadata | None, oblique: str = "nearest"
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return a usable affine of the stored array and what was repaired."""
    if source == "csv" and row is not None:
        codes = row.axial_axcodes(file.path)
        axes.check_spacing(row.spacing, file.path, "Exclude it: the table lists no XYSpacing or ZSpacing for it.")
        return axes.affine_from_spacing(row.spacing, codes), ("took spacing and axes from the metadata table",)
    repairs: list[str] = []
    affine = file.affine
    if axes.is_degenerate(affine):
        spacing = file.zooms
        if row is not None and not all(0 < s < float("inf") for s in spacing):
            spacing = row.spacing
            repairs.append("took spacing from the metadata table")
        axes.check_spacing(spacing, file.path, _NO_SPACING)
        affine = axes.affine_from_spacing(spacing)
        repairs.append("rebuilt a missing or degenerate affine from the voxel sizes, axes taken as L, P, S")
    axes.check_spacing(axes.spacing_of(affine), file.path, _NO_SPACING)
    angle = axes.oblique_degrees(affine)
    if is_resampled(affine, oblique):
        return affine, (*repairs, f"oblique by {angle:.1f} degrees, resampled along the body's axes")
    if angle > 0.5:
        repairs.append(f"oblique by {angle:.1f} degrees, took the nearest orientation")
    if angle > 44:
        cause = f"`{file.path}` lies {angle:.0f} degrees off every body axis, so its orientation is ambiguous."
        raise VolumeGeometryError(cause, 'Pass `oblique="resample"`.')
    return affine, tuple(repairs)
