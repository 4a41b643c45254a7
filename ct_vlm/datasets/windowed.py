"""Windowed floats on the host, into memory that is used again: for those who cannot window on the device.

Data modules do not need this: they send int16 to the device and window it there. A fresh float copy of a
volume costs more than reading it, mostly for new memory pages.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ct_vlm.cache.arrays import StoredArray
from ct_vlm.cache.regions import bounds_of
from ct_vlm.errors import ShapeError
from ct_vlm.transforms.window_tables import POINTWISE, look_up, window_tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ct_vlm.cache.regions import BasicIndex
    from ct_vlm.transforms import CTPreset

_SLAB_READ = 2**21  # bytes that are decompressed, or gathered from short rows, before they are windowed
_SCRATCH = threading.local()


def window_into(
    source: StoredArray | NDArray[np.int16], preset: CTPreset, out: NDArray[np.float32], region: BasicIndex = ...
) -> None:
    """Window HU slab by slab into a buffer; the values are those of ``preset.window``.

    Args:
        source: HU, in memory or in a cache entry, of which little more than the region is read.
        preset: Its windows and normalisation; ``zscore`` and ``minmax`` need the whole region at
            once, and with them a fresh copy.
        out: Buffer that is written over; e.g. the NumPy view of page-locked memory
            (``torch.empty(shape, pin_memory=True).numpy()``).
        region: Part of the volume, by slices.

    **Shape:**
        - source: ``(D, H, W)`` int16.
        - out: ``(C, D, H, W)`` float32, of the region.

    Raises:
        ShapeError: If the buffer does not fit, or the source is no int16.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.datasets.windowed import window_into
        >>> from ct_vlm.transforms import CTPreset
        >>> buffer = np.empty((1, 1, 1, 2), np.float32)
        >>> hu = np.array([[[-2000, 0, 500]]], np.int16)
        >>> window_into(hu, CTPreset("p", windows=((-1000, 1000),), norm="symmetric"), buffer, np.s_[..., 1:])
        >>> buffer.ravel().tolist()
        [0.0, 0.5]
    """
    bounds, dropped = bounds_of(region, source.shape)
    shape = tuple(stop - start for start, stop in bounds)
    channels = len(preset.windows) * preset.repeat
    if len(shape) != 3 or dropped or out.shape != (channels, *shape) or out.dtype != np.float32:
        cause = f"Expected a float32 buffer {(channels, *shape)} and slices, but got {out.dtype} {out.shape}."
        raise ShapeError(cause, "Pass `numpy.empty(shape, numpy.float32)`, and slices as the region.")
    if source.dtype != np.int16:
        cause = f"Expected HU as int16, but got {source.dtype}."
        raise ShapeError(cause, "Use `preset.window` for other types.")
    if preset.norm not in POINTWISE:
        hu = torch.from_numpy(np.array(source[tuple(slice(*pair) for pair in bounds)]))
        torch.from_numpy(out).copy_(preset.window(hu[None, None])[0])
        return
    tables = window_tables(preset.windows, preset.norm, preset.offset, preset.scale)
    step = max(1, _SLAB_READ // max(1, 2 * shape[1] * shape[2]))
    for first, part in _slabs(source, bounds):
        for start in range(0, len(part), step):
            slab = part[start : start + step]
            _window(slab, tables, preset.repeat, out[:, first + start : first + start + len(slab)])


def _window(hu: NDArray[np.int16], tables: NDArray[np.float32], repeat: int, out: NDArray[np.float32]) -> None:
    """Window a slab."""
    if not hu.flags.c_contiguous:  # a call for each short row costs more than copying them first
        rows = _scratch(hu.shape, hu.dtype)
        np.copyto(rows, hu)
        hu = rows
    look_up(hu, tables, repeat, out)


def _scratch(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return memory of this thread that earlier calls used too."""
    needed = math.prod(shape) * dtype.itemsize
    memory = getattr(_SCRATCH, "memory", None)
    if memory is None or len(memory) < needed:
        memory = np.empty(needed, dtype=np.uint8)
        _SCRATCH.memory = memory
    return memory[:needed].view(dtype).reshape(shape)


def _slabs(source: Any, bounds: list[tuple[int, int]]) -> Iterator[tuple[int, NDArray[np.int16]]]:
    """Yield parts of a region and where they start, one after the other: compressed ones lie in one buffer."""
    (start, stop), *plane = bounds
    rest = tuple(slice(*pair) for pair in plane)
    if not isinstance(source, StoredArray):
        yield 0, source[(slice(start, stop), *rest)]
        return
    size = tuple(high - low for low, high in plane)
    # whole chunks: none is decompressed twice
    depth = max(source.chunk_depth, _SLAB_READ // max(1, math.prod(size)) // source.chunk_depth * source.chunk_depth)
    while start < stop:
        end = min(stop, start - start % depth + depth)
        part = source.view((slice(start, end), *rest))
        if part is None:
            part = _scratch((end - start, *size), source.dtype)
            source.read_into(part, (slice(start, end), *rest))
        yield start - bounds[0][0], part
        start = end
