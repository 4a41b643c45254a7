"""An open entry: names, shapes and parts of its arrays."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ct_vlm.cache.arrays import CompressedArray, RawArray, StoredArray
from ct_vlm.cache.codecs import checksum
from ct_vlm.cache.errors import DamagedEntryError
from ct_vlm.cache.layout import HEAD, TRAILER_SIZE, Index, LayoutError, check_digest, unpack_trailer
from ct_vlm.cache.verified import verified_pieces

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray


class CacheEntry(Mapping[str, StoredArray]):
    """An entry's arrays by name, read when and where they are indexed.

    Use :func:`read_entry` or :meth:`ct_vlm.cache.ArrayCache.open`, and close it (``with``).

    Args:
        path: The file.
        handle: The open file, which the entry closes.
        index: Its checked index.
        fresh: Check every piece again, whatever this process has checked before.

    Attributes:
        path: The file.
        codec: What it was written with.
        key: JSON values it was made from, or ``None``.
        meta: Further JSON values.
    """

    def __init__(self, path: Path, handle: int, index: Index, *, fresh: bool = False) -> None:
        self.path, self.codec, self.key, self.meta = path, index.codec, index.key, index.meta
        self._handle: int | None = handle
        self._index = index
        verified = verified_pieces(os.fstat(handle), len(index.pieces), fresh=fresh)
        self._arrays: dict[str, StoredArray] = {}
        for record in index.arrays:
            pieces = index.pieces[record.first_piece : record.first_piece + record.num_pieces]
            self._arrays[record.name] = (
                RawArray(path, handle, record, pieces, verified)
                if record.layout == "raw"
                else CompressedArray(path, handle, record, pieces)
            )

    def __getitem__(self, name: str) -> StoredArray:
        """Return one of the arrays, nothing read yet."""
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._arrays)

    def __len__(self) -> int:
        """Return the number of arrays."""
        return len(self._arrays)

    def read(self) -> dict[str, NDArray[Any]]:
        """Return all arrays in fresh memory.

        Raises:
            DamagedEntryError: If a byte is not as it was written.
        """
        return {name: array[...] for name, array in self._arrays.items()}

    def read_into(self, buffers: Mapping[str, NDArray[Any]]) -> None:
        """Read whole arrays into memory that is used again and again.

        Args:
            buffers: Name to an array of the right shape and type; other arrays are not read.

        Raises:
            ShapeError: If a shape or type does not fit.
            DamagedEntryError: If a byte is not as it was written.
        """
        for name, buffer in buffers.items():
            self[name].read_into(buffer)

    def check(self) -> None:
        """Read every byte of the file and compare it with what was written.

        Raises:
            DamagedEntryError: If one differs.
        """
        position = len(HEAD)
        for start, length, expected in self._index.pieces[self._index.pieces[:, 0].argsort(kind="stable")].tolist():
            if not length:
                continue
            self._check_span(position, start - position, checksum(bytes(max(0, start - position))))
            self._check_span(start, length, expected)
            position = start + length
        self._check_span(position, self._index.start - position, checksum(bytes(max(0, self._index.start - position))))

    def _check_span(self, start: int, length: int, expected: int) -> None:
        content = b"" if self._handle is None or length <= 0 else os.pread(self._handle, length, start)
        if len(content) != length or checksum(content) != expected:
            raise DamagedEntryError(self.path, f"the {length} bytes from {start} on are altered")

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays in memory."""
        return sum(array.nbytes for array in self._arrays.values())

    def close(self) -> None:
        """Close the file; arrays that were read stay."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
            for array in self._arrays.values():
                array.close()

    def __enter__(self) -> Self:
        """Return the entry."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Have copies and other processes open the file anew: the number of an open file means nothing to them."""
        return read_entry, (self.path,)

    def __del__(self) -> None:
        """Close the file that nobody closed."""
        if getattr(self, "_handle", None) is not None:
            self.close()


def read_entry(path: str | Path, *, fresh: bool = False) -> CacheEntry:
    """Open an entry and check its index.

    Args:
        path: The file.
        fresh: Check every piece that is read, also those that this process has checked before.

    Raises:
        DamagedEntryError: If it is no whole entry of this format.
        OSError: If it cannot be opened.
    """
    file = Path(path)
    handle = os.open(file, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        return CacheEntry(file, handle, _read_index(handle), fresh=fresh)
    except (LayoutError, ValueError, KeyError, TypeError, EOFError) as error:
        os.close(handle)
        raise DamagedEntryError(file, str(error)) from error
    except BaseException:
        os.close(handle)
        raise


def is_ours(path: str | Path) -> bool:
    """Tell whether a file starts as entries of this format do, whole or not; only such are ever deleted.

    Args:
        path: The file; a link never is.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(handle).st_mode) and os.pread(handle, len(HEAD), 0) == HEAD
    except OSError:
        return False
    finally:
        os.close(handle)


def _read_index(handle: int) -> Index:
    """Return the checked index.

    Raises:
        LayoutError: If the file is no whole entry.
    """
    size = os.fstat(handle).st_size
    if os.pread(handle, len(HEAD), 0) != HEAD:
        msg = "it does not start as an entry of this format"
        raise LayoutError(msg)
    trailer = os.pread(handle, TRAILER_SIZE, max(0, size - TRAILER_SIZE))
    start, length = unpack_trailer(trailer, size)
    content = os.pread(handle, length, start)
    check_digest(trailer, content)
    return replace(Index.unpack(content), start=start)
