"""Resample a volume whose slices arrive one by one, holding two of them at a time."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ct_vlm.transforms.filters import AxisFilter, axis_filter

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

    Slices are mixed in float32 and rounded once, so a result lies within half a HU of the exact
    one. Peak memory beside the target is two slices, and a third where a filter reads more than two.

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
        self._plane = _Plane(axes[1], axes[2], interpolation, mixes=not slow.is_selection)
        self._target = target
        self._position = 0
        self._partial: dict[int, tuple[NDArray[Any], float]] = {}
        self._spare: list[NDArray[Any]] = []
        self._rounded = np.empty(target.shape[1:], dtype=np.int16)

    def push(self, image: NDArray[np.int16]) -> None:
        """Take the next slice; it may be overwritten afterwards.

        Args:
            image: Rows and columns, C-contiguous.

        **Shape:**
            - image: the source lengths of rows and columns.
        """
        jobs = self._jobs[self._position]
        self._position += 1
        if not jobs:
            return
        plane = self._plane(image)
        for index, weight, is_last in jobs:
            self._add(index, plane, weight, is_last=is_last)

    def _add(self, index: int, plane: NDArray[Any], weight: float, *, is_last: bool) -> None:
        """Add a weighted slice to a target slice; write that when it is complete."""
        held = self._partial.pop(index, None)
        if held is None:
            if is_last:
                self._write(index, lambda place: _round(plane, place))
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
        if place.flags.c_contiguous:
            make(place)
            return
        make(self._rounded)
        if abs(place.strides[0]) < abs(place.strides[1]):  # columns lie far apart: turn in the cache first
            np.copyto(place.T, cv2.transpose(self._rounded))
        else:
            np.copyto(place, self._rounded)


class _Plane:
    """Resizes one slice in its plane, into one of two buffers by turns.

    Two suffice: a filter reads slices that lie side by side, so a slice is no longer needed once
    the next one has been mixed with it.
    """

    def __init__(self, rows: AxisWindow, columns: AxisWindow, interpolation: str, *, mixes: bool) -> None:
        self._rows, self._columns = rows, columns
        self._is_resized = (rows.source, columns.source) != (rows.resized, columns.resized)
        self._matrices = None
        shape = (rows.length, columns.length)
        if self._is_resized and interpolation == "linear":
            shape = (rows.resized, columns.resized)  # the crop follows
        elif self._is_resized:
            self._matrices = (rows.filter(interpolation).matrix(), columns.filter(interpolation).matrix())
        # int16 where nothing but this step rounds
        is_float = self._is_resized and (mixes or self._matrices is not None)
        self._buffers = [np.empty(shape, np.float32 if is_float else np.int16) for _ in range(2)]
        self._values = np.empty((rows.source, columns.source), np.float32) if is_float else None

    def __call__(self, image: NDArray[np.int16]) -> NDArray[Any]:
        """Return the kept part of the resized slice."""
        self._buffers.reverse()
        buffer = self._buffers[0]
        part = (self._rows.part, self._columns.part)
        if not self._is_resized:
            np.copyto(buffer, image[part])
            return buffer
        values: NDArray[Any] = image
        if self._values is not None:
            np.copyto(self._values, image)
            values = self._values
        if self._matrices is not None:
            rows, columns = self._matrices
            np.copyto(buffer, cv2.transpose(columns @ cv2.transpose(rows @ values)))
            return buffer
        cv2.resize(values, (self._columns.resized, self._rows.resized), dst=buffer, interpolation=cv2.INTER_LINEAR)
        return buffer[part]

    def owns(self, array: NDArray[Any]) -> bool:
        """Tell whether an array lies in one of the buffers."""
        return any(array is buffer or array.base is buffer for buffer in self._buffers)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep OpenCV from waking threads for slices of a quarter of a megabyte."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _jobs(slow: AxisFilter) -> list[list[tuple[int, float, bool]]]:
    """Return for each source slice the target slices that read it: index, weight, whether it is their last."""
    jobs: list[list[tuple[int, float, bool]]] = [[] for _ in range(slow.source)]
    for index, (start, weights) in enumerate(zip(slow.starts, slow.weights, strict=True)):
        for offset, weight in enumerate(weights.tolist()):
            jobs[start + offset].append((index, weight, offset == len(weights) - 1))
    return jobs


def _round(plane: NDArray[Any], target: NDArray[np.int16]) -> None:
    """Write a slice as int16."""
    np.rint(plane, out=target, casting="unsafe") if plane.dtype != np.int16 else np.copyto(target, plane)


def _mix(first: NDArray[Any], share: float, second: NDArray[Any], weight: float, target: NDArray[Any]) -> None:
    """Write a weighted sum of two slices, rounded half to even where the target is int16."""
    kind = cv2.CV_16S if target.dtype == np.int16 else cv2.CV_32F
    cv2.addWeighted(first, share, second, weight, 0.0, dst=target, dtype=kind)
