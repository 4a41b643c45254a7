"""Image noise of a reconstruction kernel."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.phantoms.streams import stream

if TYPE_CHECKING:
    from ct_vlm.phantoms.shapes import Array

_BANK = (96, 128, 128)


def add_noise(hu: Array, rng: np.random.Generator, sigma: float, *, smooth: bool) -> None:
    """Add Gaussian noise in place, correlated in the plane for a smooth kernel.

    The noise is cut from one periodic bank at a random offset and sign: drawing a number for each
    voxel would dominate the cost of a phantom, and the noise of distant voxels carries no meaning.

    Args:
        hu: Volume in HU, float32.
        rng: Noise stream of this reconstruction.
        sigma: Standard deviation in HU.
        smooth: Whether neighbours in the plane share noise.

    Shape:
        - hu: ``(D, H, W)``.
    """
    bank = _bank(smooth)
    scale = np.float32(sigma if rng.random() < 0.5 else -sigma)
    offsets = [int(rng.integers(n)) for n in _BANK]
    spans = [_spans(n, offset, period) for n, offset, period in zip(hu.shape, offsets, _BANK, strict=True)]
    for z, bank_z in spans[0]:
        for y, bank_y in spans[1]:
            for x, bank_x in spans[2]:
                hu[z, y, x] += scale * bank[bank_z, bank_y, bank_x]


@functools.lru_cache(maxsize=2)
def _bank(smooth: bool) -> Array:
    """Return periodic noise with unit deviation."""
    bank = stream(0, "noise bank", int(smooth)).standard_normal(_BANK, dtype=np.float32)
    if smooth:
        for axis in (1, 2):
            bank = bank + np.float32(0.5) * (np.roll(bank, 1, axis) + np.roll(bank, -1, axis))
    bank /= bank.std(dtype=np.float64).astype(np.float32)
    bank.flags.writeable = False
    return bank


def _spans(size: int, offset: int, period: int) -> list[tuple[slice, slice]]:
    """Pair the stretches of an axis with the stretches of the periodic bank that cover them."""
    spans, start = [], 0
    while start < size:
        low = (start + offset) % period
        length = min(period - low, size - start)
        spans.append((slice(start, start + length), slice(low, low + length)))
        start += length
    return spans
