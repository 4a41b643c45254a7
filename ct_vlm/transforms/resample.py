"""Linear, area, anti-aliased and nearest resampling of axis-aligned volumes, and crop and pad."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.errors import ShapeError
from ct_vlm.transforms.slabs import AxisWindow, SlabResampler, one_thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import DTypeLike, NDArray


def resample_linear(
    array: NDArray[np.int16], size: Sequence[int], *, out: NDArray[np.int16] | None = None
) -> NDArray[np.int16]:
    """Resize an int16 volume trilinearly, rounded to the nearest integer.

    Equal sizes return the array itself. There is no low-pass filter before a reduction, as in
    the published pipelines; :func:`resample_antialias` has one.

    Args:
        array: Volume.
        size: Target ``(D, H, W)``.
        out: As for :func:`resize`.

    **Shape:**
        - array: ``(D, H, W)``.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.transforms.resample import resample_linear
        >>> resample_linear(np.array([[[0, 10, 20, 30]]], np.int16), (1, 1, 2)).tolist()
        [[[5, 25]]]
    """
    return resize(array, size, "linear", out=out)


def resample_area(
    array: NDArray[np.int16], size: Sequence[int], *, out: NDArray[np.int16] | None = None
) -> NDArray[np.int16]:
    """Resize an int16 volume by averaging the voxels that each target voxel touches.

    Args:
        array: Volume.
        size: Target ``(D, H, W)``.
        out: As for :func:`resize`.

    **Shape:**
        - array: ``(D, H, W)``.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.transforms.resample import resample_area
        >>> resample_area(np.array([[[0, 10, 20, 30, 40, 50]]], np.int16), (1, 1, 2)).tolist()
        [[[10, 40]]]
    """
    return resize(array, size, "area", out=out)


def resample_antialias(
    array: NDArray[np.int16], size: Sequence[int], *, out: NDArray[np.int16] | None = None
) -> NDArray[np.int16]:
    """Resize an int16 volume with a triangle filter as wide as the larger of the two voxels.

    Along an axis that grows it equals :func:`resample_linear`; along one that shrinks it removes
    what the coarser grid cannot hold, instead of folding it into false structures.

    Args:
        array: Volume.
        size: Target ``(D, H, W)``.
        out: As for :func:`resize`.

    **Shape:**
        - array: ``(D, H, W)``.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.transforms.resample import resample_antialias, resample_linear
        >>> lines = np.tile(np.array([0, 90], np.int16), 6)[None, None]
        >>> resample_linear(lines, (1, 1, 4)).tolist(), resample_antialias(lines, (1, 1, 4)).tolist()
        ([[[90, 0, 90, 0]]], [[[45, 40, 50, 45]]])
    """
    return resize(array, size, "antialias", out=out)


def resize(
    array: NDArray[np.int16], size: Sequence[int], interpolation: str, *, out: NDArray[np.int16] | None = None
) -> NDArray[np.int16]:
    """Resize an int16 volume by a filter of :func:`ct_vlm.transforms.filters.axis_filter`.

    Args:
        array: Volume.
        size: Target ``(D, H, W)``.
        interpolation: ``linear``, ``area`` or ``antialias``.
        out: Memory for the result, int16 and C-contiguous; used again from volume to volume it saves
            the system the work of clearing fresh memory, a quarter of the time of a large volume.

    **Shape:**
        - array: ``(D, H, W)``.

    Raises:
        ShapeError: If ``out`` has another size or type.
    """
    wanted = tuple(int(n) for n in size)
    if out is not None:
        check_out(out, wanted)
    if array.shape == wanted:
        if out is not None:
            np.copyto(out, array)
        return array if out is None else out
    result = np.empty(wanted, dtype=np.int16) if out is None else out
    depth, height, width = (AxisWindow(have, want, 0, want) for have, want in zip(array.shape, wanted, strict=True))
    fill_from_slices(array, (depth, height, width), interpolation, result)
    return result


def check_out(out: NDArray[np.int16], size: tuple[int, ...]) -> None:
    """Raise unless memory fits a result.

    Args:
        out: The memory.
        size: Size of the result.

    Raises:
        ShapeError: If it has another size, type or layout.
    """
    if out.shape != tuple(size) or out.dtype != np.int16 or not out.flags.c_contiguous:
        cause = f"Expected `out` as C-contiguous int16 of shape {tuple(size)}, but got {out.dtype} of {out.shape}."
        raise ShapeError(cause, "Leave it out to get new memory.")


def fill_from_slices(
    slices: Iterable[NDArray[np.int16]],
    axes: tuple[AxisWindow, AxisWindow, AxisWindow],
    interpolation: str,
    target: NDArray[np.int16],
) -> None:
    """Resample slices, one after the other, into a target.

    Args:
        slices: In the order of the first axis.
        axes: Slow axis, rows, columns.
        interpolation: ``linear``, ``area`` or ``antialias``.
        target: Kept voxels, in the order of the axes.
    """
    with one_thread():
        resampler = SlabResampler(axes, interpolation, target)
        for image in slices:
            resampler.push(np.ascontiguousarray(image))


def resample_nearest(array: NDArray[Any], size: Sequence[int]) -> NDArray[Any]:
    """Resize a label map by the voxel that holds each target centre.

    Args:
        array: Label map.
        size: Target ``(D, H, W)``.

    **Shape:**
        - array: ``(D, H, W)``.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.transforms.resample import resample_nearest
        >>> resample_nearest(np.array([[[1, 1, 2, 2]]]), (1, 1, 2)).tolist()
        [[[1, 2]]]
    """
    if array.shape == tuple(size):
        return array
    return array[np.ix_(*[nearest_index(have, want) for have, want in zip(array.shape, size, strict=True)])]


def nearest_index(have: int, want: int) -> NDArray[np.int64]:
    """Return for each target voxel of an axis the source voxel that holds its middle.

    Args:
        have: Length before.
        want: Length after.

    Example:
        >>> from ct_vlm.transforms.resample import nearest_index
        >>> nearest_index(5, 3).tolist()
        [0, 2, 4]
    """
    return np.minimum(((np.arange(want) + 0.5) * (have / want)).astype(np.int64), have - 1)


def crop_or_pad(array: NDArray[Any], size: Sequence[int], *, value: float, mode: str = "center") -> NDArray[Any]:
    """Cut or fill each axis to a length.

    Args:
        array: Volume or label map.
        size: Target length of each axis.
        value: What fills new voxels.
        mode: ``center`` keeps the middle; ``end`` keeps the start and cuts or fills at the end.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.transforms.resample import crop_or_pad
        >>> crop_or_pad(np.array([[[1, 2, 3]]]), (1, 1, 5), value=0).tolist()
        [[[0, 1, 2, 3, 0]]]
    """
    if array.shape == tuple(size):
        return array
    parts = [crop_window(have, want, mode) for have, want in zip(array.shape, size, strict=True)]
    result = framed(size, [(fill, length) for _, fill, length in parts], array.dtype, value)
    source = tuple(slice(cut, cut + length) for cut, _, length in parts)
    result[tuple(slice(fill, fill + length) for _, fill, length in parts)] = array[source]
    return result


def crop_window(have: int, want: int, mode: str) -> tuple[int, int, int]:
    """Return how much is cut in front, how much is filled in front, and how much is kept.

    Args:
        have: Length before.
        want: Length after.
        mode: ``center`` or ``end``.

    Example:
        >>> from ct_vlm.transforms.resample import crop_window
        >>> crop_window(3, 5, "center"), crop_window(7, 4, "end")
        ((0, 1, 3), (0, 0, 4))
    """
    length = min(have, want)
    cut, fill = ((have - length) // 2, (want - length) // 2) if mode == "center" else (0, 0)
    return cut, fill, length


def framed(
    size: Sequence[int],
    inside: Sequence[tuple[int, int]],
    dtype: DTypeLike,
    value: float,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return an array with its margins filled and its inside not yet written.

    Args:
        size: Length of each axis.
        inside: Start and length of the inside along each axis.
        dtype: Type of the array.
        value: What fills the margins.
        out: Memory for the array; new memory if ``None``.
    """
    result = np.empty(tuple(size), dtype=dtype) if out is None else out
    rest = result
    for axis, (start, length) in enumerate(inside):
        front: tuple[slice, ...] = (slice(None),) * axis
        rest[(*front, slice(None, start))] = value
        rest[(*front, slice(start + length, None))] = value
        rest = rest[(*front, slice(start, start + length))]
    return result
