"""Reading parts of stored arrays: what is touched is checked, and nothing else is read."""

from __future__ import annotations

import math
import mmap
import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ct_vlm.cache.codecs import GRANULE, checksum
from ct_vlm.cache.errors import DamagedEntryError
from ct_vlm.cache.regions import bounds_of, span_of, touched_chunks, touched_granules
from ct_vlm.errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ct_vlm.cache.layout import ArrayRecord, Pieces
    from ct_vlm.cache.regions import BasicIndex, Bounds
    from ct_vlm.cache.verified import VerifiedPieces

_KEPT, _LARGEST_KEPT = 2, 2**26
_FREE: list[np.ndarray[Any, np.dtype[np.uint8]]] = []


class StoredArray(ABC):
    """An array in an entry's file.

    Args:
        path: The file, for messages.
        handle: The open file.
        record: What the index says.
        pieces: Its rows of the table of pieces.

    Attributes:
        shape: Known without reading.
        dtype: Known without reading.
    """

    def __init__(self, path: object, handle: int, record: ArrayRecord, pieces: Pieces) -> None:
        self.shape = record.shape
        self.dtype = np.dtype(record.dtype)
        self._path, self._handle, self._record = path, handle, record
        self._pieces = pieces

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the array in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def chunk_depth(self) -> int:
        """Entries along the first axis that are best read together."""
        return 1

    def __getitem__(self, index: BasicIndex) -> NDArray[Any]:
        """Return a part in fresh memory.

        Args:
            index: Numbers, slices without a step, ``...``.

        Raises:
            DamagedEntryError: If a byte that is needed is not as it was written.
        """
        bounds, dropped = bounds_of(index, self.shape)
        out = np.empty([stop - start for start, stop in bounds], self.dtype)
        self._read(out, bounds)
        return out.reshape([size for axis, size in enumerate(out.shape) if axis not in dropped]) if dropped else out

    def read_into(self, out: NDArray[Any], index: BasicIndex = ...) -> None:
        """Read a part into memory that is used again and again.

        Args:
            out: Array of the part's shape and type.
            index: The part.

        Raises:
            ShapeError: If shape or type do not fit.
            DamagedEntryError: If a byte that is needed is not as it was written.
        """
        bounds, dropped = bounds_of(index, self.shape)
        shape = tuple(stop - start for start, stop in bounds)
        wanted = tuple(size for axis, size in enumerate(shape) if axis not in dropped)
        if out.shape != wanted or out.dtype != self.dtype:
            cause = (
                f"`{self._record.name}` needs a buffer {wanted} of {self.dtype}, but got {out.shape} of {out.dtype}."
            )
            raise ShapeError(cause, "Pass `numpy.empty(shape, dtype)` of what is read.")
        self._read(np.expand_dims(out, tuple(dropped)), bounds)

    def view(self, index: BasicIndex = ...) -> NDArray[Any] | None:  # noqa: ARG002 (mapped arrays use it)
        """Return a part as a read-only view of the mapped file, ``None`` unless the array is uncompressed.

        The view stays valid when the entry is closed. Its pages are read when they are used: a
        disk that fails then ends the process, as with any mapped file.

        Args:
            index: The part.

        Raises:
            DamagedEntryError: If a byte that is needed is not as it was written.
        """
        return None

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled: a copy would read whatever file has this one's number there."""
        msg = f"`{self._record.name}` of an open cache entry cannot be pickled; index it, or pickle the entry."
        raise TypeError(msg)

    def close(self) -> None:
        """Forget the file, which the entry closes."""
        self._handle = -1

    @abstractmethod
    def _read(self, out: NDArray[Any], bounds: Bounds) -> None:
        """Fill ``out`` with what lies in the bounds."""

    def _check(self, number: int, content: Any) -> None:
        """Raise unless a piece's bytes are as they were written."""
        _, length, expected = self._pieces[number].tolist()
        if len(content) != length or checksum(content) != expected:
            raise DamagedEntryError(self._path, f"piece {number} of `{self._record.name}` is altered")


class RawArray(StoredArray):
    """An uncompressed array: small ones and parts in one piece are read, other parts are mapped into memory."""

    def __init__(
        self, path: object, handle: int, record: ArrayRecord, pieces: Pieces, verified: VerifiedPieces
    ) -> None:
        super().__init__(path, handle, record, pieces)
        self._verified = verified
        self._bytes: memoryview | None = None

    def view(self, index: BasicIndex = ...) -> NDArray[Any]:
        """Return a part as a read-only view.

        Args:
            index: The part.

        Raises:
            DamagedEntryError: If a byte that is needed is not as it was written.
        """
        bounds, dropped = bounds_of(index, self.shape)
        part = self._checked(bounds)
        return part[tuple(0 if axis in dropped else slice(None) for axis in range(part.ndim))]

    def _read(self, out: NDArray[Any], bounds: Bounds) -> None:
        span = span_of(self.shape, bounds)
        if span is None or not out.flags.c_contiguous or self._record.length <= GRANULE:
            np.copyto(out, self._checked(bounds))
        elif out.size:
            self._read_span(out.reshape(-1).view(np.uint8).data, span[0] * self.dtype.itemsize)

    def _read_span(self, content: memoryview, start: int) -> None:
        """Fill a buffer from the file: the system copies faster than a program does from mapped pages."""
        self._fetch(content, start)
        stop = start + len(content)
        numbers = np.arange(start // GRANULE, -(-stop // GRANULE))
        first = self._record.first_piece
        for number in numbers[~self._verified.state[first + numbers]].tolist():
            low, high = number * GRANULE, min((number + 1) * GRANULE, self._record.length)
            if start <= low and high <= stop:
                self._check(number, content[low - start : high - start])
            else:  # it goes on beyond what is asked for
                granule = memoryview(bytearray(high - low))
                self._fetch(granule, low)
                self._check(number, granule)
        self._verified.add(first + numbers)

    def _fetch(self, content: memoryview, start: int) -> None:
        """Fill a buffer from a place of the array.

        Raises:
            DamagedEntryError: If the file ends before.
        """
        if _read_exactly(self._handle, content, self._record.start + start):
            raise DamagedEntryError(self._path, "it was cut off")

    def _checked(self, bounds: Bounds) -> NDArray[Any]:
        """Return a part of the file's bytes whose checksums are right."""
        shape = [stop - start for start, stop in bounds]
        if not math.prod(shape):
            return np.empty(shape, self.dtype)
        content = self._content()
        touched = touched_granules(self.shape, self.dtype.itemsize, bounds)
        first = self._record.first_piece
        for number in touched[~self._verified.state[first + touched]].tolist():
            self._check(number, content[number * GRANULE : (number + 1) * GRANULE])
        self._verified.add(first + touched)
        array = np.frombuffer(content, self.dtype).reshape(self.shape)
        return array[tuple(slice(*pair) for pair in bounds)]

    def _content(self) -> memoryview:
        """Return the array's bytes."""
        if self._bytes is None:
            start, length = self._record.start, self._record.length
            if length <= GRANULE:
                self._bytes = memoryview(os.pread(self._handle, length, start))
                # these are other bytes than those of an earlier reading
                self._verified.state[self._record.first_piece :][: self._record.num_pieces] = False
            else:
                self._bytes = self._mapped()[start : start + length]
        if len(self._bytes) != self._record.length:
            raise DamagedEntryError(self._path, "it was cut off")
        return self._bytes

    def _mapped(self) -> memoryview:
        """Return the whole file."""
        try:
            return memoryview(mmap.mmap(self._handle, 0, access=mmap.ACCESS_READ))
        except ValueError as error:  # nothing is left of it
            raise DamagedEntryError(self._path, "it was cut off") from error


class CompressedArray(StoredArray):
    """A blosc2 frame of which only checked bytes are in memory.

    The frame's memory is reserved and filled where something is asked for; the decompressor sees
    the checked bytes themselves, never the file.
    """

    def __init__(self, path: object, handle: int, record: ArrayRecord, pieces: Pieces) -> None:
        super().__init__(path, handle, record, pieces)
        self._loaded = np.zeros(len(pieces), dtype=bool)
        self._memory: NDArray[np.uint8] | None = None
        self._frame: Any = None

    def _read(self, out: NDArray[Any], bounds: Bounds) -> None:
        if not out.size:
            return
        frame = self._open()
        self._load(touched_chunks(self.shape, frame.chunks, bounds))
        target = out if out.flags.c_contiguous else np.empty(out.shape, out.dtype)
        start, stop = zip(*bounds, strict=True)
        frame.get_slice_numpy(target, (start, stop))
        if target is not out:
            np.copyto(out, target)

    @property
    def chunk_depth(self) -> int:
        """Entries along the first axis that are decompressed together."""
        return int(self._open().chunks[0])

    def _open(self) -> Any:
        """Return the frame; its first chunk is looked at in opening."""
        if self._frame is None:
            import blosc2

            self._memory = _take_memory(self._record.length)
            last = len(self._pieces) - 1
            self._load(np.array([0, last - 1, last]))
            try:
                frame = blosc2.ndarray_from_cframe(self._memory, copy=False)
            except (RuntimeError, ValueError) as error:  # written by a version that knows more
                raise DamagedEntryError(self._path, f"blosc2 cannot read `{self._record.name}`: {error}") from error
            frame.schunk.dparams = blosc2.DParams(nthreads=1)
            if (tuple(frame.shape), frame.dtype) != (self.shape, self.dtype):
                raise DamagedEntryError(self._path, f"`{self._record.name}` is not what the index says")
            self._frame = frame
        return self._frame

    def close(self) -> None:
        """Forget the file and hand the memory on."""
        super().close()
        memory, self._memory, self._frame = self._memory, None, None
        if memory is not None:
            self._loaded[:] = False
            _hand_on(memory)

    def _load(self, numbers: NDArray[np.int64]) -> None:
        """Bring pieces into memory, those that follow each other in the file in one call."""
        assert self._memory is not None  # noqa: S101
        missing = np.unique(numbers[~self._loaded[numbers]])
        view = self._memory.data
        base = self._record.start
        for run in _runs(self._pieces, missing):
            start, stop = int(self._pieces[run[0]][0]) - base, int(sum(self._pieces[run[-1]][:2])) - base
            _read_exactly(self._handle, view[start:stop], base + start)
            for number in run:
                begin, length, _ = self._pieces[number].tolist()
                self._check(number, view[begin - base : begin - base + length])
        self._loaded[missing] = True


def _take_memory(length: int) -> NDArray[np.uint8]:
    """Return memory for a frame, where possible such as was used before: new pages cost as much as reading."""
    try:
        memory = _FREE.pop()
    except IndexError:
        memory = np.empty(0, dtype=np.uint8)
    return memory[:length] if len(memory) >= length else np.empty(length, dtype=np.uint8)


def _hand_on(memory: NDArray[np.uint8]) -> None:
    """Keep a frame's memory for the next one."""
    whole = memory if memory.base is None else memory.base
    if isinstance(whole, np.ndarray) and whole.nbytes <= _LARGEST_KEPT and len(_FREE) < _KEPT:
        _FREE.append(whole)


def _runs(pieces: Pieces, numbers: NDArray[np.int64]) -> list[list[int]]:
    """Return pieces in the order of the file, those without a gap between them together."""
    runs: list[list[int]] = []
    end = -1
    for number in numbers[np.argsort(pieces[numbers, 0], kind="stable")].tolist():
        start, length, _ = pieces[number].tolist()
        if not length:
            continue
        if start == end:
            runs[-1].append(number)
        else:
            runs.append([number])
        end = start + length
    return runs


def _read_exactly(handle: int, view: memoryview, position: int) -> int:
    """Fill a buffer from a place of the file; return how many bytes the file lacks, which stay as they were."""
    while view:
        count = os.preadv(handle, [view], position)
        if not count:
            break
        view, position = view[count:], position + count
    return len(view)
