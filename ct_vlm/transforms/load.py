"""One door from a NIfTI file to a canonical volume in HU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.batch import CANONICAL_AXCODES
from ct_vlm.errors import HUError
from ct_vlm.transforms import orientation as axes
from ct_vlm.transforms.hu import AIR_HU, check_hu, clip_padding, resolve_hu_source, to_hu
from ct_vlm.transforms.metadata import find_metadata
from ct_vlm.transforms.nifti import NiftiFile, read_nifti
from ct_vlm.transforms.oblique import check_oblique, is_resampled, patient_grid, resample_affine
from ct_vlm.transforms.rules import affine_of, rescale_of
from ct_vlm.transforms.volume import Provenance, Volume

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

_WRONG_IN_FILE = "The file itself holds these values: download it again, or exclude it."


def load_volume(
    path: str | Path,
    hu_source: str = "auto",
    *,
    metadata: Mapping[str, Any] | str | Path | None = None,
    axcodes: Sequence[str] = CANONICAL_AXCODES,
    check: bool = True,
    oblique: str = "nearest",
) -> Volume:
    """Read a CT volume as int16 HU in canonical orientation.

    How stored values become HU:

    ========== ===========================================================================
    hu_source  rule
    ========== ===========================================================================
    ``auto``   ``fixed`` under a ``*_fixed`` or ``*_preprocessed`` folder, else ``csv`` if
               the metadata row holds slope and intercept, else ``header``
    ``fixed``  stored values are HU (CT-RATE v2); the metadata's rescale must not be applied
    ``csv``    RescaleSlope, RescaleIntercept and spacing of the metadata row (CT-RATE v1,
               whose headers are wrong; its arrays are stored x to the left, y to the back,
               z to the head)
    ``header`` the NIfTI header's ``scl_slope`` and ``scl_inter``
    ``none``   stored values are HU, wherever the file lies
    ========== ===========================================================================

    Repairs (each is one sentence in ``volume.provenance.repairs``): a missing, NaN or degenerate
    affine is rebuilt from the voxel sizes with the directions L, P, S of CT-RATE v2; missing voxel sizes are
    taken from the metadata; trailing axes of size one are dropped; a 2-D image becomes one slice;
    padding below -1200 HU is set to -1024; values beyond int16 are held to its range; an oblique
    volume takes the nearest orientation or is resampled. Everything else raises.

    Args:
        path: A ``.nii`` or ``.nii.gz`` file; never modified.
        hu_source: See above.
        metadata: A row of the CT-RATE metadata table, or the path of that table.
        axcodes: Directions of the result's axes; canonical ``("I", "P", "L")`` unless given.
        check: Refuse values that are no HU (:func:`ct_vlm.transforms.check_hu`).
        oblique: What to do with axes that do not lie along the body's. ``nearest`` keeps every voxel
            and calls an axis by the nearest direction, as peers do, so that label maps on the same
            grid stay aligned; more than 44 degrees raise. ``resample`` brings the volume onto an
            axis-aligned grid around it by trilinear interpolation, -1024 HU outside; load its
            label maps in the same way.

    Returns:
        The volume; its array is C-contiguous.

    Raises:
        VolumeReadError: If the file is no readable NIfTI volume.
        VolumeGeometryError: If it is not 3-D or has no usable spacing or orientation.
        HUError: If its values are no HU.
        DatasetError: If the metadata cannot be read.
        ConfigError: If an argument is none of its choices.

    Example:
        >>> import tempfile, pathlib, numpy as np, nibabel as nib
        >>> from ct_vlm.transforms import load_volume
        >>> body = np.tile(np.array([-1000, -850, 40, 300], np.int16), (4, 4, 1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "scan.nii.gz")
        ...     nib.save(nib.Nifti1Image(body, np.diag([-1.0, -1.0, 5.0, 1.0])), file)
        ...     volume = load_volume(file)
        >>> volume.spacing, volume.array[:, 0, 0].tolist()
        ((5.0, 1.0, 1.0), [300, 40, -850, -1000])

    References:
        CT-RATE v1 and v2: https://huggingface.co/datasets/ibrahimhamamci/CT-RATE
    """
    wanted = axes.check_axcodes(axcodes)
    check_oblique(oblique)
    row = find_metadata(metadata, Path(path))
    source = resolve_hu_source(path, hu_source, row)
    file = read_nifti(path)
    affine, repairs = affine_of(file, source, row, oblique)
    slope, intercept = rescale_of(file, source, row)
    hu, changes = to_hu(file.stored, slope, intercept, file.path)
    if check:
        _check(hu, file, source)
    hu, padding = clip_padding(hu)
    array, moved = _oriented(hu, affine, wanted, oblique, fill=AIR_HU)
    provenance = Provenance(
        path=str(file.path),
        hu_source=source,
        slope=slope,
        intercept=intercept,
        axcodes=axes.axcodes_of(affine),
        shape=file.stored.shape,
        repairs=(*file.repairs, *repairs, *changes, *padding),
    )
    return Volume(array, axes.spacing_of(moved), moved, provenance, wanted)


def load_label_map(
    path: str | Path, *, axcodes: Sequence[str] = CANONICAL_AXCODES, oblique: str = "nearest"
) -> tuple[NDArray[np.integer[Any]], NDArray[np.float64]]:
    """Read an integer label map and bring it into the orientation of :func:`load_volume`.

    Args:
        path: A ``.nii`` or ``.nii.gz`` file of whole numbers.
        axcodes: Directions of the result's axes.
        oblique: As in :func:`load_volume`; ``resample`` takes the nearest voxel.

    Returns:
        The label map ``(D, H, W)`` and its affine.

    Raises:
        VolumeReadError: If the file is no readable NIfTI volume.
        VolumeGeometryError: If it is not 3-D or has no usable spacing.
        HUError: If it holds values that are no whole numbers.
    """
    import numpy as np

    check_oblique(oblique)
    file = read_nifti(path)
    affine, _ = affine_of(file, "none", None, oblique)
    labels = file.stored
    if labels.dtype.kind == "f":
        whole = np.rint(labels)
        if not np.array_equal(whole, labels):
            cause = f"`{file.path}` holds values that are no whole numbers, so it is no label map."
            raise HUError(cause, "Pass a label map, saved without interpolation.")
        labels = whole.astype(np.int32)
    return _oriented(labels, affine, axcodes, oblique, fill=0, order=0)


def _oriented(
    array: NDArray[Any], affine: NDArray[np.float64], axcodes: Sequence[str], oblique: str, *, fill: int, order: int = 1
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return an array and its affine with axes in the directions asked for."""
    if not is_resampled(affine, oblique):
        return axes.reorient(array, affine, axcodes)
    shape, grid = patient_grid(array.shape, affine, axcodes)
    return resample_affine(array, affine, shape, grid, fill=fill, order=order), grid


def _check(hu: NDArray[np.int16], file: NiftiFile, source: str) -> None:
    """Run the HU guard; where the header's own rescale would pass it, say so.

    Raises:
        HUError: If the values are no HU.
    """
    try:
        check_hu(hu, file.path)
    except HUError as error:
        if source == "header" or (file.slope, file.intercept) == (1, 0) or not _header_gives_hu(file):
            if source == "fixed" and 'hu_source="fixed"' in error.cure:  # which is what was done
                raise HUError(error.cause, _WRONG_IN_FILE) from error
            raise
        cure = (
            f"Its header's slope {file.slope:g} and intercept {file.intercept:g}, which "
            f'`hu_source="{source}"` does not apply, give HU: pass `hu_source="header"`.'
        )
        raise HUError(error.cause, cure) from error


def _header_gives_hu(file: NiftiFile) -> bool:
    """Tell whether stored values are HU once the header's slope and intercept are applied."""
    try:
        check_hu(to_hu(file.stored, file.slope, file.intercept, file.path)[0], file.path)
    except HUError:
        return False
    return True
