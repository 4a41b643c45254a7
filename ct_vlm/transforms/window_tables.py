"""Windows of int16 HU by look-up, for volumes on a CPU.

There are fewer HU values than voxels of a single slice, and a look-up takes one pass where clipping, shifting and
dividing take three. It can give nothing but the values of the window that made the table.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ct_vlm.transforms.windowing import Norm, apply_windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

POINTWISE: tuple[Norm, ...] = ("unit", "symmetric", "affine")
"""Normalisations that make the same of a HU value wherever it stands."""

# values of one look-up stay in the processor's cache; from 2**18 on OpenCV would take threads, for which a forked
# process waits in vain
_LOOK_UP = 2**17


@lru_cache(maxsize=8)
def window_tables(
    windows: tuple[tuple[float, float], ...], norm: Norm, offset: float, scale: float
) -> NDArray[np.float32]:
    """Return what becomes of each HU value in each window.

    Args:
        windows: ``(low, high)`` of each channel.
        norm: One of :data:`POINTWISE`.
        offset: As in :func:`ct_vlm.transforms.apply_windows`.
        scale: As in :func:`ct_vlm.transforms.apply_windows`.

    **Shape:**
        - returns: ``(C, 65536)``, in the order of the values as unsigned numbers.

    Example:
        >>> from ct_vlm.transforms.window_tables import window_tables
        >>> window_tables(((0.0, 100.0),), "unit", 0.0, 1.0)[0, [50, 200, -1]].tolist()
        [0.5, 1.0, 0.0]
    """
    import torch  # not at the top: processes that only change geometry do without

    values = torch.from_numpy(np.arange(2**16, dtype=np.uint16).view(np.int16))
    channels = apply_windows(values.view(1, 1, 1, 1, -1), windows, norm, offset=offset, scale=scale)
    return channels.flatten(0, 3).contiguous().numpy()


def look_up(hu: NDArray[np.int16], tables: NDArray[np.float32], repeat: int, out: NDArray[np.float32]) -> None:
    """Write each window of a volume ``repeat`` times.

    Args:
        hu: HU, contiguous.
        tables: Of :func:`window_tables`.
        repeat: Channels that each window gets.
        out: Written over.

    **Shape:**
        - hu: ``(D, H, W)``.
        - out: ``(C * repeat, D, H, W)``.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.transforms.window_tables import look_up, window_tables
        >>> out = np.empty((2, 1, 1, 1), np.float32)
        >>> look_up(np.full((1, 1, 1), 50, np.int16), window_tables(((0.0, 100.0),), "unit", 0.0, 1.0), 2, out)
        >>> out.ravel().tolist()
        [0.5, 0.5]
    """
    numbers = hu.reshape(-1).view(np.uint16)
    for channel, table in enumerate(tables):
        place = out[channel * repeat]
        if place.flags.c_contiguous:
            _flat(numbers, table, place.reshape(-1))
        else:
            np.copyto(place, table[numbers].reshape(place.shape))
        for copy in range(1, repeat):
            np.copyto(out[channel * repeat + copy], place)


def _flat(numbers: NDArray[np.uint16], table: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Write the table's entries."""
    for start in range(0, len(numbers), _LOOK_UP):
        part = slice(start, start + _LOOK_UP)
        cv2.LUT(numbers[part][None], table, dst=out[part][None])
