"""Linear, area and nearest resampling of axis-aligned volumes, one slab of slices at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_SLAB_VOXELS = 2**20  # a slab of float32 slices stays near the size of the processor's cache


def linear_taps(size: int, target: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the two source positions of each target position and the weight of the second.

    Voxels are boxes of equal size and values sit at their centres (``align_corners=False``);
    positions beyond the outermost centres take the outermost value.

    Args:
        size: Source length.
        target: Target length.

    Example:
        >>> from ct_vlm.transforms.resample import linear_taps
        >>> lower, upper, weight = linear_taps(4, 2)
        >>> lower.tolist(), upper.tolist(), weight.tolist()
        ([0, 2], [1, 3], [0.5, 0.5])
    """
    position = np.clip((np.arange(target) + 0.5) * (size / target) - 0.5, 0, size - 1)
    lower = np.minimum(position.astype(np.int64), size - 1)
    return lower, np.minimum(lower + 1, size - 1), position - lower


def resample_linear(array: NDArray[np.int16], size: Sequence[int]) -> NDArray[np.int16]:
    """Resize an int16 volume trilinearly, rounded to the nearest integer.

    Equal sizes return the array itself. There is no low-pass filter before a reduction, as in
    the published pipelines.

    Args:
        array: Volume.
        size: Target ``(D, H, W)``.

    **Shape:**
        - array: ``(D, H, W)``.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.transforms.resample import resample_linear
        >>> resample_linear(np.array([[[0, 10, 20, 30]]], np.int16), (1, 1, 2)).tolist()
        [[[5, 25]]]
    """
    import torch
    from torch.nn import functional as F

    depth, height, width = (int(n) for n in size)
    if array.shape == (depth, height, width):
        return array
    lower, upper, weight = linear_taps(array.shape[0], depth)
    result = np.empty((depth, height, width), dtype=np.int16)
    step = max(1, _SLAB_VOXELS // (array.shape[1] * array.shape[2]))
    for start in range(0, depth, step):
        part = slice(start, start + step)
        slab = array[lower[part]].astype(np.float32)
        if array.shape[0] != depth:
            share = weight[part, None, None].astype(np.float32)
            slab += share * (array[upper[part]].astype(np.float32) - slab)
        if array.shape[1:] != (height, width):
            tensor = torch.from_numpy(slab)[:, None]
            slab = F.interpolate(tensor, size=(height, width), mode="bilinear", align_corners=False)[:, 0].numpy()
        result[part] = np.rint(slab)
    return result


def resample_area(array: NDArray[np.int16], size: Sequence[int]) -> NDArray[np.int16]:
    """Resize an int16 volume by averaging the boxes that each target voxel covers.

    Args:
        array: Volume.
        size: Target ``(D, H, W)``.

    **Shape:**
        - array: ``(D, H, W)``.
    """
    import torch
    from torch.nn import functional as F

    if array.shape == tuple(size):
        return array
    tensor = torch.from_numpy(array.astype(np.float32))[None, None]
    return np.rint(F.interpolate(tensor, size=tuple(size), mode="area")[0, 0].numpy()).astype(np.int16)


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
    indices = [
        np.minimum(((np.arange(target) + 0.5) * (source / target)).astype(np.int64), source - 1)
        for source, target in zip(array.shape, size, strict=True)
    ]
    return array[np.ix_(*indices)]


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
    result = np.full(tuple(size), value, dtype=array.dtype)
    source, target = [], []
    for have, want in zip(array.shape, size, strict=True):
        length = min(have, want)
        cut, fill = ((have - length) // 2, (want - length) // 2) if mode == "center" else (0, 0)
        source.append(slice(cut, cut + length))
        target.append(slice(fill, fill + length))
    result[tuple(target)] = array[tuple(source)]
    return result
