"""What the HU guard looks at, gathered slice by slice in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PADDING_HU = -1200
"""Noise of air stays above; scanners' padding values lie below."""
_SAMPLES = 2_000_000
_RAW_SOFT_TISSUE = (900, 1200)  # soft tissue before the usual intercept of -1024 is added
_LUNG = (-1100, -700)
_TISSUE = (-200, 200)
_VALUES = 2**16
_BLOCK = 2**18  # values that are counted at a time, so that their copy as indices stays small


@dataclass(frozen=True)
class HUStatistics:
    """What the guard looks at; all but ``minimum``, ``maximum`` and ``low_share`` leave padding out.

    Args:
        minimum: Lowest value, padding included.
        maximum: Highest value.
        low_share: Share of voxels below every tissue and below air's noise, padding included.
        stray_share: Share of such voxels that are no padding, which is one value almost everywhere.
        p1: 1st percentile.
        p5: 5th percentile.
        p50: Median.
        p95: 95th percentile.
        raw_share: Share where soft tissue lies before rescaling.
        lung_share: Share where lung and air lie.
        mirror_share: Share where lung and air would lie with the wrong sign.
        tissue_share: Share where fat, water, muscle and organs lie.
    """

    minimum: int
    maximum: int
    low_share: float
    stray_share: float
    p1: float
    p5: float
    p50: float
    p95: float
    raw_share: float
    lung_share: float
    mirror_share: float
    tissue_share: float


class HUSampler:
    """Gathers statistics of a volume whose slices arrive one by one.

    Minimum and maximum are exact; the rest comes from a regular grid of about two million voxels.

    Args:
        shape: Size of the volume; slices arrive along its first axis.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.transforms.hu_statistics import HUSampler
        >>> sampler = HUSampler((2, 1, 2))
        >>> [sampler.add(np.array([row], np.int16)) for row in ([-1000, -900], [0, 40])]
        [(-1000, -900), (0, 40)]
        >>> found = sampler.statistics()
        >>> found.minimum, found.maximum, found.p50
        (-1000, 40, -450.0)
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        size = int(np.prod(shape, dtype=np.int64))
        self._step = max(1, round((size / _SAMPLES) ** (1 / 3)))
        self._sample = np.empty([-(-n // self._step) for n in shape], dtype=np.int16)
        self._position = 0
        self.minimum, self.maximum = 32767, -32768

    def add(self, image: NDArray[np.int16]) -> tuple[int, int]:
        """Take the next slice.

        Args:
            image: HU.

        Returns:
            Its lowest and its highest value.
        """
        lowest, highest = (int(value) for value in cv2.minMaxLoc(np.ascontiguousarray(image))[:2])
        self.minimum, self.maximum = min(self.minimum, lowest), max(self.maximum, highest)
        if self._position % self._step == 0:
            self._sample[self._position // self._step] = image[:: self._step, :: self._step]
        self._position += 1
        return lowest, highest

    def statistics(self) -> HUStatistics:
        """Return the statistics of all slices."""
        sample = self._sample
        counts = _count(sample)
        lows = counts[: PADDING_HU + 32768]
        low_share = float(lows.sum() / sample.size)
        padding = _padding_counts(sample, lows)
        body = counts - padding if sample.size > padding.sum() else counts
        total = np.cumsum(body)
        p1, p5, p50, p95 = (_percentile(total, q) for q in (1, 5, 50, 95))
        return HUStatistics(
            minimum=self.minimum,
            maximum=self.maximum,
            low_share=low_share,
            stray_share=_share(total, (-32768, PADDING_HU - 1)),
            p1=p1,
            p5=p5,
            p50=p50,
            p95=p95,
            raw_share=_share(total, _RAW_SOFT_TISSUE),
            lung_share=_share(total, _LUNG),
            mirror_share=_share(total, (-_LUNG[1], -_LUNG[0])),
            tissue_share=_share(total, _TISSUE),
        )


def hu_statistics(array: NDArray[np.int16]) -> HUStatistics:
    """Measure a volume for :func:`ct_vlm.transforms.check_hu`; large volumes are sampled on a regular grid."""
    slices = array if abs(array.strides[0]) >= abs(array.strides[-1]) else array.T  # along memory
    sampler = HUSampler(slices.shape)
    for image in slices:
        sampler.add(image)
    return sampler.statistics()


def _count(values: NDArray[np.int16]) -> NDArray[np.int64]:
    """Return how often each int16 value occurs, from -32768 up."""
    counts = np.zeros(_VALUES, dtype=np.int64)
    flat = values.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        counts += np.bincount(flat[start : start + _BLOCK].astype(np.int64) + 32768, minlength=_VALUES)
    return counts


def _padding_counts(sample: NDArray[np.int16], lows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how often each value is padding.

    Padding is the value that most voxels below the scale share, and its edges, which resampling blurs.
    """
    commonest = int(lows.argmax())
    if 2 * int(lows[commonest]) <= int(lows.sum()):
        return np.zeros(_VALUES, dtype=np.int64)
    from scipy import ndimage

    near = ndimage.binary_dilation(sample == commonest - 32768, iterations=2)
    near &= sample < PADDING_HU
    return _count(sample[near])


def _percentile(total: NDArray[np.int64], q: float) -> float:
    """Return a percentile of counted values, interpolated as by :func:`numpy.percentile`."""
    place = q / 100 * (int(total[-1]) - 1)
    lower, upper = (int(np.searchsorted(total, whole, side="right")) for whole in (int(place), -int(-place // 1)))
    return lower - 32768 + (upper - lower) * (place - int(place))


def _share(total: NDArray[np.int64], bounds: tuple[int, int]) -> float:
    """Return the share of counted values within bounds, both included."""
    low, high = bounds[0] + 32768, bounds[1] + 32768
    before = int(total[low - 1]) if low else 0
    return (int(total[high]) - before) / int(total[-1])
