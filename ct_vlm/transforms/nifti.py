"""Read NIfTI files in one pass, slice by slice, with every claim of the header checked first."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from ct_vlm.errors import VolumeReadError
from ct_vlm.transforms.nifti_header import MAX_VOXELS, NiftiHeader, read_header

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["MAX_VOXELS", "NiftiFile", "NiftiStream", "open_nifti", "read_nifti"]

_GZIP_MAGIC = b"\x1f\x8b"
_MAX_TRAILING = 2**20  # bytes behind the voxels; more means that the header's sizes are wrong, or a gzip bomb
_TRUNCATED = "Download the file again: it is truncated."


@dataclass(frozen=True, kw_only=True)
class NiftiFile(NiftiHeader):
    """The stored values of a file and what its header says, before any HU rule.

    Args:
        stored: Values as stored, in the file's ``(x, y, z)`` order (a view, x fastest).
    """

    stored: NDArray[Any]


class NiftiStream:
    """An open file behind its header: voxels arrive in file order and are held one slice at a time.

    Made by :func:`open_nifti`. A file is read once, by :meth:`slices` or by :meth:`read`; both
    end by reaching the end of the file, which verifies the gzip checksum.

    Args:
        header: What the file claims.
        stream: Its content, decoded, at the first voxel.
    """

    def __init__(self, header: NiftiHeader, stream: IO[bytes]) -> None:
        self.header = header
        self._stream = cast("io.RawIOBase", stream)

    def read(self) -> NDArray[Any]:
        """Return all values in file order.

        **Shape:**
            - returns ``(z, y, x)`` of the file.

        Raises:
            VolumeReadError: If the file ends early, is damaged or holds more than it claims.
        """
        with _named_errors(self.header.path):
            values = np.empty(self.header.shape[::-1], dtype=self.header.dtype)
            self._fill(values, 0)
            self._finish()
        return values

    def slices(self) -> Iterator[NDArray[Any]]:
        """Yield each slice along the file's slowest axis, in one buffer that is used again.

        **Shape:**
            - yields ``(y, x)`` of the file.

        Raises:
            VolumeReadError: If the file ends early, is damaged or holds more than it claims.
        """
        width, height, depth = self.header.shape
        buffer = np.empty((height, width), dtype=self.header.dtype)
        for index in range(depth):
            with _named_errors(self.header.path):
                self._fill(buffer, index * buffer.nbytes)
            yield buffer
        with _named_errors(self.header.path):
            self._finish()

    def _fill(self, target: NDArray[Any], before: int) -> None:
        """Decode straight into an array."""
        view = target.reshape(-1).view(np.uint8).data
        filled = 0
        while filled < len(view):
            count = self._stream.readinto(view[filled:])
            if not count:
                total = int(np.prod(self.header.shape, dtype=np.int64)) * self.header.dtype.itemsize
                cause = f"`{self.header.path}` ends after {before + filled:,} of {total:,} bytes of voxels."
                raise VolumeReadError(cause, _TRUNCATED)
            filled += count

    def _finish(self) -> None:
        """Go to the end of the file, which makes the gzip reader verify its checksum."""
        trailing = 0
        while block := self._stream.read(2**16):
            trailing += len(block)
            if trailing > _MAX_TRAILING:
                cause = (
                    f"`{self.header.path}` goes on behind the {self.header.shape} voxels of "
                    f"{self.header.dtype} that its header claims."
                )
                raise VolumeReadError(cause, "Download or convert the file again: its header is damaged.")


@contextmanager
def open_nifti(path: str | Path) -> Iterator[NiftiStream]:
    """Open a ``.nii`` or ``.nii.gz`` file, whatever its suffix says, and read its header.

    Gzip is decoded by ISA-L, which was measured as the fastest decoder that works on a stream.

    Args:
        path: The file; it is never modified.

    Raises:
        VolumeReadError: If the file is absent, no NIfTI, truncated, damaged or empty.
        VolumeGeometryError: If the volume is not three-dimensional.

    Example:
        >>> import tempfile, pathlib, numpy as np, nibabel as nib
        >>> from ct_vlm.transforms.nifti import open_nifti
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "scan.nii.gz")
        ...     nib.save(nib.Nifti1Image(np.zeros((4, 3, 2), np.int16), np.eye(4)), file)
        ...     with open_nifti(file) as stream:
        ...         stream.header.shape, [part.shape for part in stream.slices()]
        ((4, 3, 2), [(3, 4), (3, 4)])
    """
    from isal import igzip

    file = Path(path)
    with _named_errors(file):
        raw = file.open("rb")
    with raw:
        with _named_errors(file):
            size = file.stat().st_size
            is_gzip = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            content: IO[bytes] = raw
            if is_gzip:
                packed = igzip.IGzipFile(fileobj=raw, mode="rb")
                # its buffer decodes straight into an array, where its own `readinto` copies
                content = cast("IO[bytes]", getattr(packed, "_buffer", packed))
            header = read_header(file, content, size, is_gzip=is_gzip)
        yield NiftiStream(header, content)


def read_nifti(path: str | Path) -> NiftiFile:
    """Read a whole file; sizes are checked against its length before memory is taken.

    Args:
        path: A ``.nii`` or ``.nii.gz`` file; it is never modified.

    Raises:
        VolumeReadError: If the file is absent, no NIfTI, truncated, damaged or empty.
        VolumeGeometryError: If the volume is not three-dimensional.
    """
    with open_nifti(path) as stream:
        return NiftiFile(**vars(stream.header), stored=stream.read().T)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turn what reading raises into an error that names the file."""
    from isal.isal_zlib import IsalError

    try:
        yield
    except (OSError, EOFError, IsalError) as error:  # type: ignore[misc]  # the stub declares an instance
        cause = f"`{path}` cannot be read: {error}."
        raise VolumeReadError(cause, "Check the path, or download the file again (it may be truncated).") from error
