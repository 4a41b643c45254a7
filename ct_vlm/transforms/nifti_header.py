"""What a NIfTI header claims, checked before a byte of voxels is read or memory is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from ct_vlm.errors import VolumeGeometryError, VolumeReadError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAX_VOXELS = 2**31
"""Larger claims are taken for a damaged or hostile header (a 1024 x 1024 x 2047 CT still fits)."""
_MAX_DEFLATE_RATIO = 1100  # deflate cannot expand a byte to more than 1,032 bytes
SINGLE_FILE_MAGIC = {348: b"n+1", 540: b"n+2"}
"""Size of a header to what marks a file that holds header and voxels, without trailing zeros."""
_HEADER_SIZES = {348: nib.Nifti1Header, 540: nib.Nifti2Header}


@dataclass(frozen=True, kw_only=True)
class NiftiHeader:
    """What the header of a file says about its voxels, before any HU rule.

    Args:
        path: The file.
        shape: Size ``(x, y, z)``; x is the fastest axis of the file.
        dtype: Stored type, in the file's byte order.
        affine: The header's voxel-to-RAS+ matrix; NaN where it gives none.
        zooms: Voxel size of the header in mm; may be zero or NaN.
        slope: Header's ``scl_slope`` (1 where unset).
        intercept: Header's ``scl_inter`` (0 where unset).
        repairs: What had to be assumed about the shape.
    """

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    affine: NDArray[np.float64]
    zooms: tuple[float, float, float]
    slope: float
    intercept: float
    repairs: tuple[str, ...] = ()


def read_header(path: Path, stream: IO[bytes], size: int, *, is_gzip: bool) -> NiftiHeader:
    """Read a header and leave the stream at the first voxel.

    Args:
        path: Named in errors.
        stream: The file's content, decoded.
        size: Length of the file in bytes, as it lies on disk.
        is_gzip: Whether that length is a compressed one.

    Raises:
        VolumeReadError: If it is no NIfTI header, or claims what the file cannot hold.
        VolumeGeometryError: If the volume is not three-dimensional.
    """
    header, offset = _parse(path, stream)
    shape, repairs = _spatial_shape(path, header)
    dtype = _dtype(path, header)
    _check_size(path, shape, dtype, size, is_gzip=is_gzip, offset=offset)
    slope, intercept = _scaling(path, header)
    zooms = header.get_zooms()[:3]
    return NiftiHeader(
        path=path,
        shape=shape,
        dtype=dtype,
        affine=_affine(header),
        zooms=tuple(abs(float(z)) for z in (*zooms, 1.0, 1.0)[:3]),  # type: ignore[arg-type]
        slope=slope,
        intercept=intercept,
        repairs=repairs,
    )


def _parse(path: Path, stream: IO[bytes]) -> tuple[Any, int]:
    """Return the header and the number of bytes before the data, with the stream at the data."""
    block = stream.read(348)
    sizes = {int.from_bytes(block[:4], order) for order in ("little", "big")} & set(_HEADER_SIZES)
    if len(block) < 348 or not sizes:
        cause = f"`{path}` is not a NIfTI file ({'empty' if not block else 'no NIfTI header'})."
        raise VolumeReadError(cause, "Pass a `.nii` or `.nii.gz` volume.")
    header_size = sizes.pop()
    block += stream.read(header_size - 348)
    try:
        header = _HEADER_SIZES[header_size](block, check=False)
        magic = bytes(header["magic"]).rstrip(b"\0")
        offset = int(header["vox_offset"])
    except (WrapStructError, HeaderDataError, ValueError, OverflowError) as error:
        cause = f"The NIfTI header of `{path}` is damaged: {error}."
        raise VolumeReadError(cause, "Download or convert the file again.") from error
    if magic != SINGLE_FILE_MAGIC[header_size]:
        cause = f"`{path}` is not a single-file NIfTI volume (magic {magic!r})."
        raise VolumeReadError(cause, "Convert `.hdr`/`.img` pairs to one `.nii.gz` first.")
    if offset < header_size + 4:  # four bytes say whether extensions follow
        cause = f"The NIfTI header of `{path}` is damaged: its data would start at byte {offset}, inside the header."
        raise VolumeReadError(cause, "Download or convert the file again.")
    skip = offset - header_size
    if skip > 2**24 or len(stream.read(skip)) < skip:
        cause = f"`{path}` ends before its data, which should start at byte {offset}."
        raise VolumeReadError(cause, "Download the file again: it is truncated or damaged.")
    return header, offset


def _spatial_shape(path: Path, header: Any) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """Return a three-dimensional shape, dropping trailing axes of size one."""
    try:
        shape = tuple(int(n) for n in header.get_data_shape())
    except (HeaderDataError, ValueError) as error:
        cause = f"The NIfTI header of `{path}` holds no valid shape: {error}."
        raise VolumeReadError(cause, "Download or convert the file again.") from error
    if not shape or any(n <= 0 for n in shape):
        cause = f"`{path}` holds no voxels: its shape is {shape}."
        raise VolumeReadError(cause, "Convert the scan again.")
    repairs: list[str] = []
    if len(shape) > 3:
        if any(n != 1 for n in shape[3:]):
            cause = f"Expected a 3-D volume, but `{path}` has shape {shape}."
            raise VolumeGeometryError(cause, "Save one 3-D volume a file (split time points or channels).")
        repairs.append(f"dropped trailing axes of shape {shape}")
    if len(shape) == 2:
        repairs.append(f"took the 2-D image {shape} as one slice")
    if len(shape) == 1:
        cause = f"Expected a 3-D volume, but `{path}` has shape {shape}."
        raise VolumeGeometryError(cause, "Save the volume with three axes.")
    width, height, depth = (*shape, 1)[:3]
    return (width, height, depth), tuple(repairs)


def _dtype(path: Path, header: Any) -> np.dtype[Any]:
    """Return the stored real numeric type."""
    try:
        dtype = np.dtype(header.get_data_dtype())
    except (HeaderDataError, KeyError) as error:
        cause = f"`{path}` stores values of an unknown type: {error}."
        raise VolumeReadError(cause, "Convert the volume to int16.") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        cause = f"`{path}` stores {dtype} values, which are no CT values."
        raise VolumeReadError(cause, "Convert the volume to int16.")
    return dtype


def _check_size(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], size: int, *, is_gzip: bool, offset: int
) -> None:
    """Refuse a claim that the file cannot hold, before any memory is taken."""
    voxels = int(np.prod([int(n) for n in shape], dtype=object))
    claimed = voxels * dtype.itemsize
    limit = size * _MAX_DEFLATE_RATIO if is_gzip else size - offset
    if voxels > MAX_VOXELS or claimed > limit:
        cause = f"`{path}` claims {shape} voxels of {dtype} ({claimed:,} bytes), more than its {size:,} bytes can hold."
        raise VolumeReadError(cause, "Download the file again: it is truncated, or its header is damaged.")


def _affine(header: Any) -> NDArray[np.float64]:
    """Return the header's affine, all NaN if neither sform nor qform is set or the quaternion is invalid."""
    nothing = np.full((4, 4), np.nan)
    if not (int(header["sform_code"]) or int(header["qform_code"])):
        return nothing  # nibabel would assume L, A, S and others L, P, S, without a word
    try:
        with np.errstate(invalid="ignore"):  # damaged numbers: whoever needs the affine checks it
            return np.asarray(header.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError):
        return nothing


def _scaling(path: Path, header: Any) -> tuple[float, float]:
    """Return slope and intercept of the header, 1 and 0 where unset."""
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        cause = f"`{path}` has an unusable `scl_slope` or `scl_inter`: {error}."
        raise VolumeReadError(cause, 'Pass `hu_source="none"` after checking that the stored values are HU.') from error
    return (1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept))
