"""Read what a NIfTI header claims from a file's first kilobytes, and gzip's checksum from its last bytes."""

from __future__ import annotations

import math
import os
import stat
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from ct_vlm.transforms.nifti_header import SINGLE_FILE_MAGIC

if TYPE_CHECKING:
    from pathlib import Path

_FIRST_READ, _LONGEST_READ = 2048, 65536
_NEEDED = 544  # a NIfTI-2 header and its extension flag
_GZIP_MAGIC = b"\x1f\x8b"
_HEADER_SIZES = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_LARGEST_OFFSET = 2**24
_NO_TYPE = "unknown"


class HeaderProblem(NamedTuple):
    """Why a header cannot be read: a code of a finding and a detail."""

    code: str
    detail: str


class HeaderFacts(NamedTuple):
    """What a file says about itself, unchecked.

    Args:
        size: Bytes on disk.
        is_gzip: Whether the content is a gzip stream.
        is_blocked: Whether that stream is made of many blocks (BGZF), so that its end tells no length.
        crc: Checksum at the end of a gzip stream.
        length: Decoded length modulo 2^32 at the end of a gzip stream, or the file's size.
        dims: Sizes of all axes as claimed (may be zero, negative or missing).
        dtype: Stored type as numpy spells it, or ``unknown``.
        item_size: Bytes of a voxel.
        zooms: Voxel sizes in mm; may be zero, negative or NaN.
        affine: Three rows of the voxel-to-RAS+ matrix, or ``None`` if neither form is set.
        slope: ``scl_slope`` as stored.
        intercept: ``scl_inter`` as stored.
        offset: Byte at which voxels begin.
        units: Code of the spatial unit (0 unknown, 1 metre, 2 millimetre, 3 micrometre).
    """

    size: int
    is_gzip: bool
    is_blocked: bool
    crc: int
    length: int
    dims: tuple[int, ...]
    dtype: str
    item_size: int
    zooms: tuple[float, ...]
    affine: tuple[tuple[float, ...], ...] | None
    slope: float
    intercept: float
    offset: int
    units: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """The first three axes; absent ones have size 1."""
        return (*self.dims[:3], 1, 1, 1)[:3]  # type: ignore[return-value]

    @property
    def claimed_bytes(self) -> int:
        """Bytes of voxels that the header promises."""
        return math.prod(self.dims) * self.item_size

    @property
    def expected_bytes(self) -> int:
        """Bytes that the decoded file should have."""
        return self.offset + self.claimed_bytes


def read_header(path: str | Path) -> HeaderFacts | HeaderProblem:
    """Read a header; a file that has none is described, never raised about.

    Two kilobytes and the last eight bytes are read, so the size of the file does not matter. Pipes
    and devices are not read from.

    Args:
        path: A ``.nii`` or ``.nii.gz`` file.

    Example:
        >>> import pathlib, tempfile
        >>> from ct_vlm.datasets.audit.headers import read_header
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "train_1_a_1.nii.gz")
        ...     _ = file.write_bytes(b"not a volume")
        ...     read_header(file).code
        'header.not_nifti'
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        return HeaderProblem("tree.broken_link", "")
    except (OSError, ValueError) as error:
        return HeaderProblem("header.unreadable_file", str(getattr(error, "strerror", None) or error))
    try:
        return _read_open(handle)
    except OSError as error:
        return HeaderProblem("header.unreadable_file", str(error.strerror or error))
    finally:
        os.close(handle)


def _read_open(handle: int) -> HeaderFacts | HeaderProblem:
    """Read the header of an open file."""
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        return HeaderProblem("tree.special_file", "")
    if status.st_size == 0:
        return HeaderProblem("tree.empty_file", "")
    start = os.read(handle, _FIRST_READ)
    is_gzip = start[:2] == _GZIP_MAGIC
    crc, length = 0, status.st_size
    if is_gzip:
        block = _inflate(handle, start)
        if isinstance(block, HeaderProblem):
            return block
        if status.st_size >= 8:
            os.lseek(handle, -8, os.SEEK_END)
            end = os.read(handle, 8)
            crc, length = int.from_bytes(end[:4], "little"), int.from_bytes(end[4:], "little")
    else:
        block = start
    return _parse(block, status.st_size, is_gzip, start, crc, length)


def _inflate(handle: int, start: bytes) -> bytes | HeaderProblem:
    """Decode the first few hundred bytes of a gzip stream, whatever it would expand to."""
    decoder = zlib.decompressobj(wbits=31)
    compressed = start
    taken = len(start)
    block = b""
    try:
        while True:
            block += decoder.decompress(compressed, _NEEDED - len(block))
            if len(block) >= _NEEDED or decoder.eof or taken >= _LONGEST_READ:
                return block
            more = os.read(handle, _FIRST_READ) if not decoder.unconsumed_tail else b""
            if not more and not decoder.unconsumed_tail:
                return block
            taken += len(more)
            compressed = decoder.unconsumed_tail + more
    except zlib.error as error:
        return HeaderProblem("header.damaged_gzip", str(error))


def _parse(block: bytes, size: int, is_gzip: bool, start: bytes, crc: int, length: int) -> HeaderFacts | HeaderProblem:
    """Turn the first bytes of a NIfTI file into facts."""
    if is_gzip and len(block) < 348:
        return HeaderProblem("header.truncated", f"only {len(block)} bytes can be decoded")
    # nibabel takes the byte order from the number of axes, which may be the damaged field
    orders = {int.from_bytes(block[:4], "big"): ">", int.from_bytes(block[:4], "little"): "<"}
    size_of_header = next((known for known in _HEADER_SIZES if known in orders), 0)
    if not size_of_header or len(block) < size_of_header:
        return HeaderProblem("header.not_nifti", f"begins with {block[:4]!r}")
    kind = _HEADER_SIZES[size_of_header]
    try:
        header = kind(block[:size_of_header], endianness=orders[size_of_header], check=False)
    except (WrapStructError, HeaderDataError, ValueError) as error:
        return HeaderProblem("header.not_nifti", str(error))
    problem = _header_problem(header)
    if problem is not None:
        return problem
    axes, *sizes_of_axes = (int(value) for value in header["dim"])
    dtype, item_size = _dtype(header)
    return HeaderFacts(
        size=size,
        is_gzip=is_gzip,
        is_blocked=is_gzip and bool(start[3] & 4) and b"BC\x02\x00" in start[10:64],
        crc=crc,
        length=length,
        dims=tuple(sizes_of_axes[:axes]),
        dtype=dtype,
        item_size=item_size,
        zooms=tuple(float(value) for value in header["pixdim"][1:4]),
        affine=_affine(header),
        slope=float(header["scl_slope"]),
        intercept=float(header["scl_inter"]),
        offset=int(header["vox_offset"]),
        units=int(header["xyzt_units"]) & 7,
    )


def _header_problem(header: Any) -> HeaderProblem | None:
    """Return why nothing else in a header can be believed."""
    magic, offset, axes = bytes(header["magic"]).rstrip(b"\0"), float(header["vox_offset"]), int(header["dim"][0])
    if magic != SINGLE_FILE_MAGIC[header.sizeof_hdr]:
        return HeaderProblem("header.not_nifti", f"magic {magic!r} (a pair of .hdr and .img?)")
    if not int(header["sizeof_hdr"]) + 4 <= offset <= _LARGEST_OFFSET:  # NaN compares as False
        return HeaderProblem("header.bad_offset", f"{offset:g}")
    if not 1 <= axes <= 7:
        return HeaderProblem("header.bad_dimensions", f"{axes} axes")
    return None


def _dtype(header: Any) -> tuple[str, int]:
    """Return the stored type's name and size."""
    try:
        dtype = np.dtype(header.get_data_dtype())
    except (HeaderDataError, KeyError):
        return _NO_TYPE, 1
    return (dtype.newbyteorder("=").name if dtype.names is None else "RGB"), dtype.itemsize


@np.errstate(all="ignore")  # damaged fields overflow
def _affine(header: Any) -> tuple[tuple[float, ...], ...] | None:
    """Return the rows of the affine, NaN where the quaternion is invalid."""
    if int(header["sform_code"]) > 0:
        rows = np.stack([header["srow_x"], header["srow_y"], header["srow_z"]])
    elif int(header["qform_code"]) > 0:
        try:
            rows = header.get_qform()[:3]
        except (HeaderDataError, ValueError):
            rows = np.full((3, 4), np.nan)
    else:
        return None
    return tuple(tuple(row) for row in rows.astype(np.float64).tolist())
