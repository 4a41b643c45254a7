"""Resize single slices in their plane, into memory that is used again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from ct_vlm.transforms.slabs import AxisWindow

_FRACTION = np.int16(8)  # three binary digits behind the point
_FIXED_RANGE = (-4096, 4095)  # what int16 holds beside them: any HU but metal's
_MIN_KEPT = 0.25  # of a resized slice; below it, computing what is kept alone is faster, and bounds memory


class Plane:
    """Takes a slice to its target size and keeps what is wanted of it.

    Results go into one of two buffers by turns. Two suffice: a filter reads slices that lie side by
    side, so a slice is no longer needed once the next one has been mixed with it.

    Args:
        rows: What happens to the rows.
        columns: What happens to the columns.
        shape: Of a buffer.
        dtype: Of a buffer.
    """

    def __init__(self, rows: AxisWindow, columns: AxisWindow, shape: tuple[int, int], dtype: DTypeLike) -> None:
        self._size = (columns.resized, rows.resized)
        self._part = (rows.part, columns.part)
        self._buffers: list[NDArray[Any]] = [np.empty(shape, dtype) for _ in range(2)]

    def __call__(
        self,
        image: NDArray[np.int16],
        bounds: tuple[int, int] | None,  # noqa: ARG002 (one signature for all)
    ) -> tuple[NDArray[Any], float]:
        """Return the kept part of a slice, and what its values have to be multiplied by.

        Args:
            image: The slice.
            bounds: Its lowest and highest value, if known.
        """
        buffer = self._next()
        np.copyto(buffer, image[self._part])
        return buffer, 1.0

    def owns(self, array: NDArray[Any]) -> bool:
        """Tell whether an array lies in one of the buffers."""
        return any(array is buffer or array.base is buffer for buffer in self._buffers)

    def _next(self) -> NDArray[Any]:
        """Return the buffer that was filled before the last one."""
        self._buffers.reverse()
        return self._buffers[0]


class LinearPlane(Plane):
    """Bilinear, by OpenCV; the crop follows.

    Slices that will be mixed carry three binary digits behind the point where the values leave room
    for them in int16, which is half the memory of float32, and are float32 where they do not.

    Args:
        rows: What happens to the rows.
        columns: What happens to the columns.
        mixes: Whether slices are mixed afterwards, so that rounding here would be a second one.
    """

    def __init__(self, rows: AxisWindow, columns: AxisWindow, *, mixes: bool) -> None:
        super().__init__(rows, columns, (rows.resized, columns.resized), np.int16)
        self._mixes = mixes
        self._scaled = np.empty((rows.source, columns.source), np.int16)

    def __call__(self, image: NDArray[np.int16], bounds: tuple[int, int] | None) -> tuple[NDArray[Any], float]:
        """Return the kept part of the resized slice, and what its values have to be multiplied by."""
        if not self._mixes:
            return self._resized(image), 1.0
        lowest, highest = bounds or cv2.minMaxLoc(image)[:2]
        if lowest < _FIXED_RANGE[0] or highest > _FIXED_RANGE[1]:
            return cv2.resize(image.astype(np.float32), self._size, interpolation=cv2.INTER_LINEAR)[self._part], 1.0
        np.multiply(image, _FRACTION, out=self._scaled)
        return self._resized(self._scaled), 1.0 / float(_FRACTION)

    def _resized(self, image: NDArray[np.int16]) -> NDArray[np.int16]:
        """Return the kept part of the resized slice as int16."""
        buffer = self._next()
        cv2.resize(image, self._size, dst=buffer, interpolation=cv2.INTER_LINEAR)
        return buffer[self._part]


class FilteredPlane(Plane):
    """Any separable filter, by sparse matrices; only what is kept is computed.

    Args:
        rows: What happens to the rows.
        columns: What happens to the columns.
        interpolation: ``linear``, ``area`` or ``antialias``.
    """

    def __init__(self, rows: AxisWindow, columns: AxisWindow, interpolation: str) -> None:
        super().__init__(rows, columns, (rows.length, columns.length), np.float32)
        self._rows, self._columns = rows.filter(interpolation).matrix(), columns.filter(interpolation).matrix()
        self._values = np.empty((rows.source, columns.source), np.float32)

    def __call__(
        self,
        image: NDArray[np.int16],
        bounds: tuple[int, int] | None,  # noqa: ARG002 (one signature for all)
    ) -> tuple[NDArray[Any], float]:
        """Return the kept part of the filtered slice in float32."""
        buffer = self._next()
        np.copyto(self._values, image)
        np.copyto(buffer, cv2.transpose(self._columns @ cv2.transpose(self._rows @ self._values)))
        return buffer, 1.0


def plane_for(rows: AxisWindow, columns: AxisWindow, interpolation: str, *, mixes: bool) -> Plane:
    """Return what resizes slices under a filter.

    Args:
        rows: What happens to the rows.
        columns: What happens to the columns.
        interpolation: ``linear``, ``area`` or ``antialias``.
        mixes: Whether slices are mixed afterwards.
    """
    if (rows.source, columns.source) == (rows.resized, columns.resized):
        return Plane(rows, columns, (rows.length, columns.length), np.int16)
    is_mostly_cut = rows.length * columns.length < _MIN_KEPT * rows.resized * columns.resized
    if interpolation == "linear" and not is_mostly_cut:
        return LinearPlane(rows, columns, mixes=mixes)
    return FilteredPlane(rows, columns, interpolation)
