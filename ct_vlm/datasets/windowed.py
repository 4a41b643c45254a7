"""Windowed floats on the host, into memory that is used again: for those who cannot window on the device.

Data modules do not need this: they send int16 to the device and window it there. A fresh float copy of a
volume costs more than reading it, mostly for new memory pages.
"""

from __future__ import annotations

import math
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from ct_vlm.cache.arrays import StoredArray
from ct_vlm.cache.regions import bounds_of
from ct_vlm.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from ct_vlm.cache.regions import BasicIndex
    from ct_vlm.transforms import CTPreset

_SLAB_READ = 2**21  # bytes that are decompressed, or gathered from short rows, before they are windowed
# values of one look-up stay in the processor's cache; from 2**18 on OpenCV would take threads, for which a forked
# process waits in vain
_LOOK_UP = 2**17
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
    if preset.norm in ("zscore", "minmax"):
        hu = torch.from_numpy(np.array(source[tuple(slice(*pair) for pair in bounds)]))
        torch.from_numpy(out).copy_(preset.window(hu[None, None])[0])
        return
    tables = _tables(preset)
    step = max(1, _SLAB_READ // max(1, 2 * shape[1] * shape[2]))
    for first, part in _slabs(source, bounds):
        for start in range(0, len(part), step):
            slab = part[start : start + step]
            _window(slab, tables, preset.repeat, out[:, first + start : first + start + len(slab)])


def window_batch(image: Tensor, preset: CTPreset) -> Tensor:
    """Return the windowed volumes of a batch, on the device where they are; on a CPU by look-up.

    The values are those of ``preset.window``, in about half its time on a CPU.

    Args:
        image: HU.
        preset: Its windows and normalisation.

    **Shape:**
        - image: ``(B, 1, D, H, W)`` int16.
        - Output: ``(B, C, D, H, W)`` float32.

    Example:
        >>> import torch
        >>> from ct_vlm.datasets.windowed import window_batch
        >>> from ct_vlm.transforms import get_preset
        >>> hu = torch.randint(-1000, 1000, (2, 1, 3, 4, 5), dtype=torch.int16)
        >>> torch.equal(window_batch(hu, get_preset("uvlm")), get_preset("uvlm").window(hu))
        True
    """
    if image.device.type != "cpu" or image.dtype != torch.int16 or image.ndim != 5 or image.shape[1] != 1:
        return preset.window(image)
    out = torch.empty(len(image), len(preset.windows) * preset.repeat, *image.shape[2:], dtype=torch.float32)
    for hu, windowed in zip(image[:, 0], out, strict=True):
        window_into(hu.numpy(), preset, windowed.numpy())
    return out


@lru_cache(maxsize=8)
def _tables(preset: CTPreset) -> NDArray[np.float32]:
    """Return what becomes of each HU value in each window.

    There are fewer values than voxels of a single slice, and a look-up takes one pass where clipping, shifting and
    dividing take three. It can give nothing but the values of ``preset.window``.

    **Shape:**
        - returns: ``(C, 65536)``, in the order of the values as unsigned numbers.
    """
    values = torch.from_numpy(np.arange(2**16, dtype=np.uint16).view(np.int16))
    channels = preset.window(values.view(1, 1, 1, 1, -1))[0, :: preset.repeat]
    return channels.flatten(1).contiguous().numpy()


def _window(hu: NDArray[np.int16], tables: NDArray[np.float32], repeat: int, out: NDArray[np.float32]) -> None:
    """Window a slab."""
    if not hu.flags.c_contiguous:  # a call for each short row costs more than copying them first
        rows = _scratch(hu.shape, hu.dtype)
        np.copyto(rows, hu)
        hu = rows
    numbers = hu.reshape(-1).view(np.uint16)
    for channel, table in enumerate(tables):
        place = out[channel * repeat]
        if place.flags.c_contiguous:
            _look_up(numbers, table, place.reshape(-1))
        else:
            np.copyto(place, table[numbers].reshape(place.shape))
        for copy in range(1, repeat):
            np.copyto(out[channel * repeat + copy], place)


def _look_up(numbers: NDArray[np.uint16], table: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Write the table's entries."""
    for start in range(0, len(numbers), _LOOK_UP):
        part = slice(start, start + _LOOK_UP)
        cv2.LUT(numbers[part][None], table, dst=out[part][None])


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
