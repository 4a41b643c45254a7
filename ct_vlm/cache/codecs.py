"""Arrays to bytes: which compressor, which chunks, and one checksum for each piece."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ct_vlm.cache.layout import Pieces

Codec = Literal["zstd", "lz4", "uncompressed"]
CODECS: tuple[str, ...] = get_args(Codec)
GRANULE = 2**16
"""Bytes of an uncompressed array under one checksum."""

# a block is the least that is decompressed: flat and wide ones suit slices, small ones patches
_CHUNK, _BLOCK = (24, 96, 96), (12, 32, 32)
_SMALL = 4096  # bytes below which a frame's own overhead eats the gain
_ROWS_CHUNK = 2**20
_CHUNK_HEADER = 32  # bytes of a blosc2 chunk that holds nothing else


class Encoded(NamedTuple):
    """An array as bytes, with pieces whose starts count from the first of them."""

    content: memoryview
    pieces: Pieces
    layout: str


def check_codec(codec: str) -> None:
    """Raise unless a codec is known.

    Raises:
        ConfigError: If it is not.
    """
    if codec not in CODECS:
        cause = f"Expected `codec` to be one of {', '.join(CODECS)}, but got {codec!r}."
        raise ConfigError(cause, "`zstd` is smallest, `lz4` faster to read, `uncompressed` fastest for crops.")


def checksum(content: Any) -> int:
    """Return the CRC-32 of a buffer: any change of up to three bits, or of 32 in a row, changes it."""
    # isal's runs at memory speed, ten times the standard library's
    from isal import isal_zlib

    return int(isal_zlib.crc32(content))


def plain(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array little-endian and in C order.

    Raises:
        ConfigError: If its values are not numbers or booleans.
    """
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        cause = f"Arrays of type {array.dtype} cannot be cached."
        raise ConfigError(cause, "Pass booleans, integers or floating-point numbers of at most 64 bits.")
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def encode(array: NDArray[Any], codec: str) -> Encoded:
    """Encode an array.

    Args:
        array: From :func:`plain`.
        codec: One of :data:`CODECS`.
    """
    if codec == "uncompressed" or array.nbytes < _SMALL:
        return _encode_raw(array)
    return _encode_blosc2(array, codec)


def chunk_shape(shape: Sequence[int], wanted: Sequence[int]) -> tuple[int, ...]:
    """Return a chunk's shape near a wanted one that cuts every axis into nearly equal parts.

    Args:
        shape: Shape of the array.
        wanted: Wanted shape.

    Example:
        >>> from ct_vlm.cache.codecs import chunk_shape
        >>> chunk_shape((240, 500, 40), (24, 96, 96))
        (24, 100, 40)
    """
    return tuple(-(-size // max(1, round(size / want))) for size, want in zip(shape, wanted, strict=True))


def _encode_raw(array: NDArray[Any]) -> Encoded:
    content = array.reshape(-1).view(np.uint8).data
    starts = range(0, len(content), GRANULE)
    rows = [(s, len(content[s : s + GRANULE]), checksum(content[s : s + GRANULE])) for s in starts]
    return Encoded(content, _table(rows), "raw")


def _encode_blosc2(array: NDArray[Any], codec: str) -> Encoded:
    import blosc2

    fast = codec == "lz4"
    filters = [blosc2.Filter.SHUFFLE] if array.itemsize > 1 else []
    # HU of neighbours are alike, so the high bytes' differences vanish; of floats only the exponents are
    if not fast and array.dtype.kind in "iu" and array.itemsize == 2:
        filters.append(blosc2.Filter.BYTEDELTA)
    frame = blosc2.empty(
        array.shape,
        array.dtype,
        **_chunking(array),
        cparams={
            "codec": blosc2.Codec.LZ4 if fast else blosc2.Codec.ZSTD,
            "clevel": 5 if fast else 1,
            "typesize": array.itemsize,
            "filters": filters,
            "filters_meta": [0] * len(filters),
            # threads of a forked loader process would hang; volumes are what runs in parallel
            "nthreads": 1,
        },
    )
    frame[...] = array  # in C, unlike `blosc2.asarray`
    content = frame.to_cframe()
    chunks = [frame.schunk.get_chunk(number) for number in range(frame.schunk.nchunks)]
    return Encoded(memoryview(content), _pieces_of_frame(content, chunks), "blosc2")


def _chunking(array: NDArray[Any]) -> dict[str, tuple[int, ...]]:
    """Return chunks and blocks: cubes for volumes, whole rows for anything else."""
    if array.ndim >= 3 and math.prod(array.shape[-3:]) > math.prod(_BLOCK):
        chunk = chunk_shape(array.shape[-3:], _CHUNK)
        lead = (1,) * (array.ndim - 3)
        return {"chunks": (*lead, *chunk), "blocks": (*lead, *chunk_shape(chunk, _BLOCK))}
    row = max(1, array[:1].nbytes)
    return {"chunks": (min(len(array), max(1, _ROWS_CHUNK // row)), *array.shape[1:])}


def _pieces_of_frame(content: bytes, chunks: Sequence[bytes]) -> Pieces:
    """Return pieces of a frame: its chunks in order, then what precedes and what follows them.

    A chunk of zeros takes no place of its own and has a piece of no length. A frame that is laid
    out in another way has all its bytes in the piece that precedes the chunks.
    """
    places = _places_of_chunks(content, chunks) or [(len(content), 0)] * len(chunks)
    end = sum(places[-1]) if places else len(content)
    begin = places[0][0] if places else end
    view = memoryview(content)
    spans = [(start, start + length) for start, length in places]
    return _table([(s, e - s, checksum(view[s:e])) for s, e in (*spans, (0, begin), (end, len(content)))])


def _places_of_chunks(content: bytes, chunks: Sequence[bytes]) -> list[tuple[int, int]]:
    """Return start and length of each chunk, nothing if they do not lie one after the other."""
    position = next((at for at in map(content.find, chunks) if at >= 0), -1)
    places = []
    for chunk in chunks:
        is_there = position >= 0 and content.startswith(chunk, position)
        if not is_there and len(chunk) > _CHUNK_HEADER:
            return []
        places.append((position, len(chunk) if is_there else 0))
        position += places[-1][1]
    return places if position >= 0 else []


def _table(rows: Sequence[tuple[int, int, int]]) -> Pieces:
    return np.array(rows, dtype=np.uint64).reshape(-1, 3)
