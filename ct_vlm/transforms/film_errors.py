"""How far a film's frames are from the HU they were made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.errors import ShapeError
from ct_vlm.transforms.ct_video import AB_WINDOW, STEPS, Window, check_window, frames_to_hu

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class FilmError:
    """Errors in HU within the window, and what the window itself cuts off.

    Args:
        mean: Mean absolute error.
        p99: 99th percentile of the absolute error.
        max: Largest absolute error.
        rms: Root of the mean squared error.
        clipped: Share of voxels outside the window, whose HU no film holds.
    """

    mean: float
    p99: float
    max: float
    rms: float
    clipped: float

    def to_dict(self) -> dict[str, float]:
        """Return the values by name."""
        return asdict(self)


def film_error(hu: NDArray[np.int16], frames: NDArray[np.uint8], window: Window = AB_WINDOW) -> FilmError:
    """Compare frames with the HU they show.

    HU are clipped to the window first. The numbers are exact: pairs of HU and byte are counted.

    Args:
        hu: HU.
        frames: What a film gives back.
        window: HU of the bytes 0 and 255.

    **Shape:**
        - hu: ``(D, H, W)``.
        - frames: the same.

    Raises:
        ShapeError: If shapes or types do not fit.
        ConfigError: If the window is empty.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.transforms import film_error, hu_to_frames
        >>> hu = np.arange(-1100, 300, dtype=np.int16).reshape(1, 1, -1)
        >>> error = film_error(hu, hu_to_frames(hu))
        >>> round(error.max, 2), round(error.clipped, 3)
        (2.35, 0.142)
    """
    low, high = check_window(window)
    if hu.shape != frames.shape or hu.size == 0 or hu.dtype != np.int16 or frames.dtype != np.uint8:
        cause = f"HU {hu.shape} of {hu.dtype} and frames {frames.shape} of {frames.dtype} cannot be compared."
        raise ShapeError(cause, "Pass int16 HU and the uint8 frames of the same slices, in the same order.")
    first, last = int(np.floor(low)), int(np.ceil(high))
    counts = np.zeros((last - first + 1) * (STEPS + 1), np.int64)
    clipped = 0
    for values, frame in zip(hu, frames, strict=True):
        clipped += int(((values < low) | (values > high)).sum())
        pairs = (np.clip(values.astype(np.int64), first, last) - first) * (STEPS + 1) + frame
        counts += np.bincount(pairs.ravel(), minlength=counts.size)
    shown = frames_to_hu(np.arange(STEPS + 1, dtype=np.uint8), window).astype(np.float64)
    wanted = np.clip(np.arange(first, last + 1), low, high)
    errors = np.abs(wanted[:, None] - shown[None]).ravel()
    return _summarise(errors, counts, clipped / hu.size)


def _summarise(errors: NDArray[np.float64], counts: NDArray[np.int64], clipped: float) -> FilmError:
    """Return the statistics of errors that occur ``counts`` times."""
    found = counts > 0
    errors, counts = errors[found], counts[found]
    order = np.argsort(errors)
    reached = np.cumsum(counts[order]) / counts.sum()
    return FilmError(
        mean=float(np.average(errors, weights=counts)),
        p99=float(errors[order][np.searchsorted(reached, 0.99)]),
        max=float(errors.max()),
        rms=float(np.sqrt(np.average(errors**2, weights=counts))),
        clipped=clipped,
    )
