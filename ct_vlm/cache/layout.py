"""Where things lie in an entry's file, and how every byte of it is checked.

::

    head      64 bytes   magic and format number, zeros
    payload              the arrays, each from a multiple of 64 on
    index                length of the JSON, JSON (key, arrays), table of pieces
    trailer   64 bytes   magic, place and length of the index, length of the file, SHA-256

The SHA-256 covers head, index and the numbers of the trailer. The index holds a CRC-32 of every
piece of the payload, so any part can be read and checked without the rest. What lies before the
trailer is only looked at where the digest or a piece's checksum says that it is whole; no
decompressor sees a byte before that.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

FORMAT = 2
"""Number of the format; entries of another one count as absent."""

ALIGNMENT = 64
MAGIC = b"ctvlm\xffAC"
HEAD = (MAGIC + struct.pack("<I", FORMAT)).ljust(ALIGNMENT, b"\0")
_END_MAGIC = b"ctvlm\xffEN"
_NUMBERS = struct.Struct("<8sQQQ")
TRAILER_SIZE = _NUMBERS.size + hashlib.sha256().digest_size
_LARGEST_INDEX = 2**28

Pieces = NDArray[np.uint64]
"""Rows of start in the file, length and CRC-32, ``(M, 3)``."""


class LayoutError(ValueError):
    """The bytes are no whole entry; the message says why."""


@dataclass(frozen=True)
class ArrayRecord:
    """One array of an entry.

    Args:
        name: Its name.
        dtype: NumPy's name of the type, little-endian.
        shape: Its shape.
        layout: ``raw`` (C order, pieces of equal length) or ``blosc2`` (a contiguous frame, whose
            pieces are its chunks in order, then what precedes and what follows them).
        start: First byte in the file.
        length: Number of bytes.
        first_piece: Row of the table of pieces.
        num_pieces: Number of rows.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: str
    start: int
    length: int
    first_piece: int
    num_pieces: int


@dataclass
class Index:
    """What an entry says of itself.

    Args:
        codec: Name of the codec it was written with.
        key: JSON values it was made from.
        meta: Further JSON values of whoever wrote it.
        arrays: Its arrays.
        pieces: Checksummed parts of the payload.
        start: Where the index lies in the file that it was read from.
    """

    codec: str
    key: dict[str, Any] | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    arrays: list[ArrayRecord] = field(default_factory=list)
    pieces: Pieces = field(default_factory=lambda: np.empty((0, 3), dtype=np.uint64))
    start: int = 0

    def pack(self) -> bytes:
        """Return the index as bytes."""
        values = {
            "codec": self.codec,
            "key": self.key,
            "meta": self.meta,
            "arrays": [asdict(record) for record in self.arrays],
        }
        text = json.dumps(values).encode()
        return struct.pack("<Q", len(text)) + text + self.pieces.astype("<u8").tobytes()

    @classmethod
    def unpack(cls, content: bytes) -> Self:
        """Return the index that :meth:`pack` made; call it on bytes whose digest is right."""
        (length,) = struct.unpack_from("<Q", content)
        values = json.loads(content[8 : 8 + length])
        arrays = [ArrayRecord(**{**record, "shape": tuple(record["shape"])}) for record in values.pop("arrays")]
        pieces = np.frombuffer(content, dtype="<u8", offset=8 + length).reshape(-1, 3)
        return cls(arrays=arrays, pieces=pieces, **values)


def pack_trailer(index: bytes, start: int) -> bytes:
    """Return the end of the file.

    Args:
        index: Bytes of the index.
        start: Where they start.
    """
    numbers = _NUMBERS.pack(_END_MAGIC, start, len(index), start + len(index) + TRAILER_SIZE)
    return numbers + _digest(numbers, index)


def unpack_trailer(trailer: bytes, file_size: int) -> tuple[int, int]:
    """Return where the index starts and how long it is.

    Raises:
        LayoutError: If they cannot be.
    """
    if len(trailer) != TRAILER_SIZE:
        msg = "it is shorter than a trailer"
        raise LayoutError(msg)
    magic, start, length, total = _NUMBERS.unpack_from(trailer)
    if magic != _END_MAGIC or total != file_size or start + length + TRAILER_SIZE != file_size:
        msg = "its end is missing or altered"
        raise LayoutError(msg)
    if length > _LARGEST_INDEX or start < len(HEAD):
        msg = "its index cannot be where it says"
        raise LayoutError(msg)
    return start, length


def check_digest(trailer: bytes, index: bytes) -> None:
    """Raise unless the digest of the trailer is that of the index.

    Raises:
        LayoutError: If it is another one.
    """
    if _digest(trailer[: _NUMBERS.size], index) != trailer[_NUMBERS.size :]:
        msg = "its index is altered"
        raise LayoutError(msg)


def padding(position: int) -> int:
    """Return how many bytes lie between a position and the next aligned one."""
    return -position % ALIGNMENT


def _digest(numbers: bytes, index: bytes) -> bytes:
    return hashlib.sha256(HEAD + numbers + index).digest()
