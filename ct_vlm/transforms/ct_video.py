"""CT as video: a HU window as 8-bit frames, and back.

Paper: AbSteering, https://arxiv.org/abs/2603.12469 (240 frames of 480 x 480, HU [-1000, 200], 8 bits).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ct_vlm.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

STEPS = 255
Window = tuple[float, float]
AB_WINDOW: Window = (-1000.0, 200.0)


@overload
def hu_to_frames(hu: NDArray[Any], window: Window = ...) -> NDArray[np.uint8]: ...
@overload
def hu_to_frames(hu: Tensor, window: Window = ...) -> Tensor: ...
def hu_to_frames(hu: NDArray[Any] | Tensor, window: Window = AB_WINDOW) -> NDArray[np.uint8] | Tensor:
    """Turn HU into 8-bit frames: ``round((hu - low) / (high - low) * 255)``, clipped to the window.

    The bytes are those of ``CTPreset(windows=(window,), norm="unit").window`` times 255, rounded.
    Within the window, :func:`frames_to_hu` is at most :func:`quantisation_error` away, 2.35 HU for
    the default window.

    Args:
        hu: HU, int16 or float, an array or a tensor on any device.
        window: HU of the bytes 0 and 255 (the paper's by default).

    **Shape:**
        - hu: any, e.g. ``(D, H, W)``: a slice becomes a frame.
        - returns: the same, uint8.

    Raises:
        ConfigError: If the window is empty.
        ShapeError: If the values are neither int16 nor floats.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.transforms import frames_to_hu, hu_to_frames
        >>> hu = np.array([-2000, -1000, -400, 0, 200, 900], np.int16)
        >>> hu_to_frames(hu).tolist()
        [0, 0, 128, 212, 255, 255]
        >>> frames_to_hu(hu_to_frames(hu)).round().tolist()
        [-1000.0, -1000.0, -398.0, -2.0, 200.0, 200.0]
    """
    low, high = check_window(window)
    if isinstance(hu, np.ndarray):
        if hu.dtype == np.int16:
            return np.take(_table(low, high), hu.view(np.uint16))
        if not np.issubdtype(hu.dtype, np.floating):
            raise _wrong_type(hu.dtype)
        return _round(hu, low, high)
    import torch  # not at the top: processes that only change geometry do without

    if hu.dtype == torch.int16 and hu.device.type == "cpu":
        return torch.from_numpy(hu_to_frames(hu.numpy(), window))
    if hu.dtype != torch.int16 and not hu.is_floating_point():
        raise _wrong_type(hu.dtype)
    # the order of these steps decides which way halves are rounded
    unit = hu.float().clamp(low, high).sub_(low).div_(high - low)
    return unit.mul_(STEPS).round_().to(torch.uint8)


@overload
def frames_to_hu(frames: NDArray[np.uint8], window: Window = ...) -> NDArray[np.float32]: ...
@overload
def frames_to_hu(frames: Tensor, window: Window = ...) -> Tensor: ...
def frames_to_hu(frames: NDArray[np.uint8] | Tensor, window: Window = AB_WINDOW) -> NDArray[np.float32] | Tensor:
    """Turn 8-bit frames into HU; the inverse of :func:`hu_to_frames` up to rounding and clipping.

    Args:
        frames: Bytes, an array or a tensor on any device.
        window: HU of the bytes 0 and 255.

    **Shape:**
        - frames: any.
        - returns: the same, float32.

    Raises:
        ConfigError: If the window is empty.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.transforms import frames_to_hu
        >>> frames_to_hu(np.array([0, 255], np.uint8)).tolist()
        [-1000.0, 200.0]
    """
    low, high = check_window(window)
    if isinstance(frames, np.ndarray):
        return frames.astype(np.float32) * np.float32((high - low) / STEPS) + np.float32(low)
    return frames.float() * ((high - low) / STEPS) + low


def quantisation_error(window: Window = AB_WINDOW) -> float:
    """Return the largest error in HU that 8 bits cause within a window: half a step.

    Args:
        window: HU of the bytes 0 and 255.

    Example:
        >>> from ct_vlm.transforms.ct_video import quantisation_error
        >>> round(quantisation_error(), 2)
        2.35
    """
    low, high = check_window(window)
    return (high - low) / STEPS / 2


def check_window(window: Window) -> tuple[float, float]:
    """Return a window as two floats.

    Args:
        window: Candidate.

    Raises:
        ConfigError: If it is no pair, or empty.
    """
    values = tuple(float(value) for value in window)
    if len(values) != 2 or not values[0] < values[1]:
        cause = f"Expected a HU window (low, high), but got {tuple(window)}."
        raise ConfigError(cause, "Pass e.g. (-1000, 200).")
    return values[0], values[1]


@lru_cache(maxsize=8)
def _table(low: float, high: float) -> NDArray[np.uint8]:
    """Return the byte of every int16 value, in the order of the values as unsigned numbers."""
    values = np.arange(2**16, dtype=np.uint16).view(np.int16)
    table = _round(values, low, high)
    table.flags.writeable = False
    return table


def _round(hu: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    # float32 and this order of steps, as tensors are windowed: halves are rounded the same way
    unit = (np.clip(hu.astype(np.float32), low, high) - np.float32(low)) / np.float32(high - low)
    return np.rint(unit * np.float32(STEPS)).astype(np.uint8)


def _wrong_type(dtype: object) -> ShapeError:
    cause = f"Expected HU as int16 or floats, but got {dtype}."
    return ShapeError(cause, "Pass HU, before any window; convert other integers to int16.")
