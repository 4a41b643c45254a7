"""Ways to damage a NIfTI file, each a function of a random generator and the file's bytes."""

from __future__ import annotations

import gzip
import struct
import zlib
from typing import NamedTuple

import nibabel as nib
import numpy as np

HEADER = 348
FIELDS = nib.Nifti1Header.template_dtype.fields
"""Name to type and offset of every field of a NIfTI-1 header."""
INTERESTING = (0, 1, -1, 2, 7, 127, 128, 255, 256, 348, 512, 32767, -32768, 65535, 2**31 - 1, -(2**31))
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, -1e30, float("inf"), float("-inf"), float("nan"), 0.703125)


class Seed(NamedTuple):
    """A healthy file: header and extension bytes, and voxels after them."""

    header: bytes
    voxels: bytes

    @property
    def raw(self) -> bytes:
        """The file before compression."""
        return self.header + self.voxels


class Case(NamedTuple):
    """A damaged file.

    Args:
        kind: Name of the mutation.
        data: Bytes on disk.
        raw: The NIfTI file inside, if the file still decompresses; what an honest reader may return.
    """

    kind: str
    data: bytes
    raw: bytes | None


Rng = np.random.Generator


def _gz(raw: bytes) -> bytes:
    return gzip.compress(raw, 1, mtime=0)


def field_value(rng: Rng, seed: Seed) -> tuple[bytes, bytes | None]:
    """Put an odd value into one to three header fields."""
    header = bytearray(seed.header)
    for _ in range(int(rng.integers(1, 4))):
        name = str(rng.choice(list(FIELDS)))
        dtype, offset = FIELDS[name][:2]
        base = dtype.base
        index = int(rng.integers(dtype.itemsize // base.itemsize))
        header[offset + index * base.itemsize : offset + (index + 1) * base.itemsize] = _value(rng, base)
    raw = bytes(header) + seed.voxels
    return _gz(raw), raw


def shape_claim(rng: Rng, seed: Seed) -> tuple[bytes, bytes | None]:
    """Claim another shape: negative, zero, 10^12 voxels, sizes whose product overflows."""
    header = bytearray(seed.header)
    claims = (-32768, -1, 0, 1, 2, 100, 10_000, 32767)
    dims = [int(rng.choice((0, 1, 2, 3, 4, 7, 8, -1))), *(int(rng.choice(claims)) for _ in range(7))]
    if rng.random() < 0.5:
        dims[0] = 3
        dims[4:] = [1, 1, 1, 1]
    header[40:56] = struct.pack("<8h", *dims)
    raw = bytes(header) + seed.voxels
    return _gz(raw), raw


def header_noise(rng: Rng, seed: Seed) -> tuple[bytes, bytes | None]:
    """Overwrite a run of header bytes."""
    header = bytearray(seed.header)
    start = int(rng.integers(HEADER))
    length = int(rng.integers(1, 64))
    noise = rng.bytes(length)[: HEADER - start]
    header[start : start + len(noise)] = noise
    raw = bytes(header) + seed.voxels
    return _gz(raw), raw


def byte_order(rng: Rng, seed: Seed) -> tuple[bytes, bytes | None]:
    """Swap the bytes of one field, or of the size field that tells the order."""
    header = bytearray(seed.header)
    name = "sizeof_hdr" if rng.random() < 0.3 else str(rng.choice(list(FIELDS)))
    dtype, offset = FIELDS[name][:2]
    header[offset : offset + dtype.itemsize] = header[offset : offset + dtype.itemsize][::-1]
    raw = bytes(header) + seed.voxels
    return _gz(raw), raw


def bit_flips(rng: Rng, seed: Seed) -> tuple[bytes, bytes | None]:
    """Flip one to four bits of the compressed file."""
    data = bytearray(_gz(seed.raw))
    for position in rng.integers(len(data) * 8, size=int(rng.integers(1, 5))):
        data[position // 8] ^= 1 << (position % 8)
    return bytes(data), _inflate(bytes(data))


def truncated(rng: Rng, seed: Seed) -> tuple[bytes, bytes | None]:
    """Cut the compressed file."""
    data = _gz(seed.raw)
    data = data[: int(rng.integers(len(data)))]
    return data, _inflate(data)


def truncated_inside(rng: Rng, seed: Seed) -> tuple[bytes, bytes | None]:
    """Cut the file before it is compressed, so that the checksum is right."""
    raw = seed.raw[: int(rng.integers(len(seed.raw)))]
    return _gz(raw), raw


def trailing(rng: Rng, seed: Seed) -> tuple[bytes, bytes | None]:
    """Append zeros, noise or another member after the end."""
    tail = (b"\0" * 100, rng.bytes(50), _gz(rng.bytes(20)))[int(rng.integers(3))]
    data = _gz(seed.raw) + tail
    return data, _inflate(data)


def bomb(rng: Rng, seed: Seed) -> tuple[bytes, bytes | None]:
    """Hide many megabytes of zeros behind a small header, with or without a claim on them."""
    header = bytearray(seed.header)
    if rng.random() < 0.5:
        header[40:56] = struct.pack("<8h", 3, 2048, 2048, 2048, 1, 1, 1, 1)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    data = packer.compress(bytes(header) + seed.voxels)
    for _ in range(16):
        data += packer.compress(bytes(2**20))
    return data + packer.flush(), bytes(header) + seed.voxels + bytes(2**24)


def not_nifti(rng: Rng, seed: Seed) -> tuple[bytes, bytes | None]:
    """Write noise, text, nothing, or a gzip of them."""
    raw = (rng.bytes(int(rng.integers(4000))), b"<html>404</html>" * 40, b"")[int(rng.integers(3))]
    return (raw, raw) if rng.random() < 0.5 else (_gz(raw), raw)


def plain(rng: Rng, seed: Seed) -> tuple[bytes, bytes | None]:
    """Store a damaged header uncompressed, sometimes cut."""
    _, raw = field_value(rng, seed)
    assert raw is not None  # noqa: S101 (field values keep the file readable)
    if rng.random() < 0.5:
        raw = raw[: int(rng.integers(len(raw)))]
    return raw, raw


MUTATIONS = (
    field_value,
    shape_claim,
    header_noise,
    byte_order,
    bit_flips,
    truncated,
    truncated_inside,
    trailing,
    bomb,
    not_nifti,
    plain,
)


def make_case(number: int, seed: int, healthy: Seed) -> Case:
    """Return a damaged file that depends on its number and the seed only.

    Args:
        number: Number of the file; the kinds take turns.
        seed: Seed of the run.
        healthy: The file to damage.
    """
    rng = np.random.default_rng((seed, number))
    mutation = MUTATIONS[number % len(MUTATIONS)]
    return Case(mutation.__name__, *mutation(rng, healthy))


def _value(rng: Rng, dtype: np.dtype) -> bytes:
    """Return an odd value of a type."""
    if dtype.kind == "S":
        return rng.bytes(dtype.itemsize)
    if dtype.kind == "f":
        return np.asarray(rng.choice(FLOATS), dtype).tobytes()
    number = int(rng.choice(INTERESTING))
    mask = (1 << 8 * dtype.itemsize) - 1
    return (number & mask).to_bytes(dtype.itemsize, "little")


def _inflate(data: bytes) -> bytes | None:
    """Return what the standard library reads, or None where it refuses."""
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return None
