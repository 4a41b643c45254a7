"""Which part of an array an index means, and which pieces of its file that part touches."""

from __future__ import annotations

import math
from types import EllipsisType
from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.cache.codecs import GRANULE
from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BasicIndex = int | slice | EllipsisType | tuple[int | slice | EllipsisType, ...]
"""Numbers, slices without a step, ``...``."""

Bounds = list[tuple[int, int]]
"""Start and stop of every axis."""


def bounds_of(index: BasicIndex, shape: Sequence[int]) -> tuple[Bounds, list[int]]:
    """Return start and stop of every axis, and the axes that numbers drop.

    Args:
        index: Numbers, slices without a step, ``...``.
        shape: Shape of the array.

    Raises:
        ConfigError: If it is another kind of index, or one too many.
        IndexError: If a number is out of range.

    Example:
        >>> from ct_vlm.cache.regions import bounds_of
        >>> bounds_of((-1, ..., slice(2, 99)), (4, 5, 6))
        ([(3, 4), (0, 5), (2, 6)], [0])
    """
    parts = list(index) if isinstance(index, tuple) else [index]
    # by identity: arrays among the parts would compare element by element
    places = [place for place, part in enumerate(parts) if part is ...]
    place = places[0] if places else len(parts)
    parts[place : place + bool(places)] = [slice(None)] * (len(shape) - len(parts) + bool(places))
    if len(parts) != len(shape):
        cause = f"Expected an index of at most {len(shape)} axes, but got {index!r}."
        raise ConfigError(cause, "Give one number or slice an axis, and `...` once.")
    bounds: Bounds = []
    dropped = []
    for axis, (part, size) in enumerate(zip(parts, shape, strict=True)):
        if isinstance(part, slice) and part.step in (None, 1):
            start, stop, _ = part.indices(size)
            bounds.append((start, max(start, stop)))
        elif isinstance(part, int | np.integer) and not isinstance(part, bool):
            if not -size <= part < size:
                msg = f"index {part} is out of bounds for axis {axis} with size {size}"
                raise IndexError(msg)
            bounds.append((int(part) % size, int(part) % size + 1))
            dropped.append(axis)
        else:
            cause = f"{part!r} cannot index a stored array."
            raise ConfigError(cause, "Use numbers and slices without a step, and index the result further.")
    return bounds, dropped


def span_of(shape: Sequence[int], bounds: Bounds) -> tuple[int, int] | None:
    """Return where a part of a C-ordered array starts and stops if it lies in one piece, else ``None``.

    Args:
        shape: Shape of the array.
        bounds: The part.

    Example:
        >>> from ct_vlm.cache.regions import span_of
        >>> span_of((4, 5, 6), [(1, 3), (0, 5), (0, 6)]), span_of((4, 5, 6), [(1, 3), (0, 5), (0, 5)])
        ((30, 90), None)
    """
    start, size, stride, is_whole = 0, 1, 1, True
    for length, (low, high) in zip(reversed(shape), reversed(bounds), strict=True):
        if not is_whole and high - low != 1:
            return None
        start, size = start + low * stride, size * (high - low)
        is_whole, stride = is_whole and high - low == length, stride * length
    return start, start + size


def touched_granules(shape: Sequence[int], itemsize: int, bounds: Bounds) -> NDArray[np.int64]:
    """Return the granules of a C-ordered array that a part reaches into, or a few more."""
    # along the last axis everything between the ends counts, which spares a run a row
    run_axis = max(0, len(shape) - 2)
    strides = [math.prod(shape[axis + 1 :]) * itemsize for axis in range(len(shape))]
    starts = np.zeros(1, dtype=np.int64)
    for stride, (start, stop) in zip(strides[:run_axis], bounds, strict=False):
        starts = (starts[:, None] + np.arange(start, stop) * stride).ravel()
    low, high = bounds[run_axis] if bounds else (0, 1)
    stride = strides[run_axis] if strides else itemsize
    first, last = (starts + low * stride) // GRANULE, (starts + high * stride - 1) // GRANULE
    steps = np.zeros(int(last.max()) + 2, dtype=np.int64)
    np.add.at(steps, first, 1)
    np.add.at(steps, last + 1, -1)
    return np.flatnonzero(np.cumsum(steps))


def touched_chunks(shape: Sequence[int], chunks: Sequence[int], bounds: Bounds) -> NDArray[np.int64]:
    """Return the numbers of the chunks that a part reaches into."""
    ranges = [np.arange(start // size, -(-stop // size)) for (start, stop), size in zip(bounds, chunks, strict=True)]
    grid = [-(-length // size) for length, size in zip(shape, chunks, strict=True)]
    numbers = np.zeros(1, dtype=np.int64)
    for part, count in zip(ranges, grid, strict=True):
        numbers = (numbers[:, None] * count + part).ravel()
    return numbers
