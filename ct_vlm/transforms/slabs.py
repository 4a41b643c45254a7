"""Resample a volume whose slices arrive one by one, holding two of them at a time."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ct_vlm.transforms.filters import AxisFilter, axis_filter
from ct_vlm.transforms.planes import plane_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

RESAMPLER_VERSION = 2
"""Part of every cache key: goes up when the same preset gives other voxels."""


@dataclass(frozen=True)
class AxisWindow:
    """What happens to one axis: resized from ``source`` to ``resized``, of which a part is kept.

    Args:
        source: Source length.
        resized: Length after interpolation.
        start: First resized position that is kept.
        length: How many are kept.
    """

    source: int
    resized: int
    start: int
    length: int

    @property
    def part(self) -> slice:
        """Return the kept positions."""
        return slice(self.start, self.start + self.length)

    def mirrored(self) -> AxisWindow:
        """Return the same window of the axis read from its other end."""
        return AxisWindow(self.source, self.resized, self.resized - self.start - self.length, self.length)

    def filter(self, interpolation: str) -> AxisFilter:
        """Return the weights of the kept positions."""
        return axis_filter(interpolation, self.source, self.resized, self.start, self.start + self.length)


class SlabResampler:
    """Resizes each slice in its plane when it arrives and mixes slices along the slow axis.

    A result lies within 0.57 HU of the exact one: half for its rounding, a sixteenth for that of the
    slices it was mixed from, and float32's own error. Peak memory beside the target is a few slices.

    Args:
        axes: The three axes in the order in which slices arrive: slow axis, rows, columns.
        interpolation: ``linear``, ``area`` or ``antialias``.
        target: Where kept voxels go, int16; may be a transposed or flipped view. Every voxel of it
            is written.

    **Shape:**
        - target: the lengths of ``axes``.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.transforms.slabs import AxisWindow, SlabResampler
        >>> target = np.empty((1, 1, 2), np.int16)
        >>> axes = (AxisWindow(2, 1, 0, 1), AxisWindow(1, 1, 0, 1), AxisWindow(4, 2, 0, 2))
        >>> resampler = SlabResampler(axes, "linear", target)
        >>> for row in ([0, 10, 20, 30], [2, 12, 22, 32]):
        ...     resampler.push(np.array([row], np.int16))
        >>> target.tolist()
        [[[6, 26]]]
    """

    def __init__(
        self, axes: tuple[AxisWindow, AxisWindow, AxisWindow], interpolation: str, target: NDArray[np.int16]
    ) -> None:
        slow = axes[0].filter(interpolation)
        self._jobs = _jobs(slow)
        self._plane = plane_for(axes[1], axes[2], interpolation, mixes=not slow.is_selection)
        self._target = target
        self._position = 0
        self._partial: dict[int, tuple[NDArray[Any], float]] = {}
        self._spare: list[NDArray[Any]] = []
        self._rounded = np.empty(target.shape[1:], dtype=np.int16)

    def push(self, image: NDArray[np.int16], bounds: tuple[int, int] | None = None) -> None:
        """Take the next slice; it may be overwritten afterwards.

        Args:
            image: Rows and columns, C-contiguous.
            bounds: Values that none of the slice's lies below or above, if known.

        **Shape:**
            - image: the source lengths of rows and columns.
        """
        jobs = self._jobs[self._position]
        self._position += 1
        if not jobs:
            return
        plane, factor = self._plane(image, bounds)
        for index, weight, is_last in jobs:
            self._add(index, plane, weight * factor, is_last=is_last)

    def _add(self, index: int, plane: NDArray[Any], weight: float, *, is_last: bool) -> None:
        """Add a weighted slice to a target slice; write that when it is complete."""
        held = self._partial.pop(index, None)
        if held is None:
            if is_last:
                self._write(index, lambda place: _round(plane, weight, place))
            else:
                self._partial[index] = (plane, weight)  # the plane lives until the next but one
            return
        first, share = held
        if is_last:
            self._write(index, lambda place: _mix(first, share, plane, weight, place))
            self._recycle(first)
        else:
            total = self._sum_buffer() if self._plane.owns(first) else first
            _mix(first, share, plane, weight, total)
            self._partial[index] = (total, 1.0)

    def _sum_buffer(self) -> NDArray[Any]:
        """Return memory for a sum of slices."""
        return self._spare.pop() if self._spare else np.empty(self._rounded.shape, dtype=np.float32)

    def _recycle(self, buffer: NDArray[Any]) -> None:
        """Keep the memory of a finished sum."""
        if not self._plane.owns(buffer):
            self._spare.append(buffer)

    def _write(self, index: int, make: Callable[[NDArray[np.int16]], None]) -> None:
        """Have a finished slice written to its place, by way of the cache where rows do not lie in one piece."""
        place = self._target[index]
        # numpy calls a flipped axis of one voxel contiguous too, and OpenCV does not
        if place.strides == self._rounded.strides:
            make(place)
            return
        make(self._rounded)
        if abs(place.strides[0]) < abs(place.strides[1]):  # columns lie far apart: turn in the cache first
            np.copyto(place.T, cv2.transpose(self._rounded))
        else:
            np.copyto(place, self._rounded)


class _OneThread:
    """Counts who needs OpenCV on one thread, so that the last one restores what was set before."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._users = self._before = 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Keep OpenCV from waking threads for slices of a quarter of a megabyte."""
        with self._lock:
            if not self._users:
                self._before = cv2.getNumThreads()
                cv2.setNumThreads(1)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    cv2.setNumThreads(self._before)


one_thread = _OneThread()
"""Context in which OpenCV uses one thread, in any number of threads at a time."""


def _jobs(slow: AxisFilter) -> list[list[tuple[int, float, bool]]]:
    """Return for each source slice the target slices that read it: index, weight, whether it is their last."""
    jobs: list[list[tuple[int, float, bool]]] = [[] for _ in range(slow.source)]
    for index, (start, weights) in enumerate(zip(slow.starts, slow.weights, strict=True)):
        for offset, weight in enumerate(weights.tolist()):
            jobs[start + offset].append((index, weight, offset == len(weights) - 1))
    return jobs


def _round(plane: NDArray[Any], factor: float, target: NDArray[np.int16]) -> None:
    """Write a slice as int16, rounded half to even."""
    if factor != 1.0:
        _mix(plane, factor, plane, 0.0, target)
    elif plane.dtype == np.int16:
        np.copyto(target, plane)
    else:
        np.rint(plane, out=target, casting="unsafe")


def _mix(first: NDArray[Any], share: float, second: NDArray[Any], weight: float, target: NDArray[Any]) -> None:
    """Write a weighted sum of two slices, rounded half to even where the target is int16."""
    kind = cv2.CV_16S if target.dtype == np.int16 else cv2.CV_32F
    cv2.addWeighted(first, share, second, weight, 0.0, dst=target, dtype=kind)
