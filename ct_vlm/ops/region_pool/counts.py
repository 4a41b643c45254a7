"""Pixels of each region in each slice, in one pass over the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ct_vlm.errors import ShapeError
from ct_vlm.ops.dispatch import Backend, dispatch, triton_usable
from ct_vlm.ops.region_pool.naive import slice_counts_naive

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

FEW_REGIONS = 16
"""Up to here, comparing a cached slice with each region is faster than a histogram of it."""
_TORCH_COUNTS = (np.uint8, np.int16, np.int32, np.int64)
MANY_PIXELS = 2 * 256 * 256
"""From here, a histogram of pairs of bytes is faster than one of bytes: its table has 256 x 256 counters."""


def region_slice_counts(labels: Tensor, num_regions: int, *, backend: str = "auto") -> Tensor:
    """Count the pixels of each region in each slice.

    The label map is read from memory once: a slice is compared with every region, or turned into a
    histogram, while it is in the cache.

    Args:
        labels: Integers; ``r + 1`` is region r, other values are background.
        num_regions: R.
        backend: ``auto``, ``triton``, ``torch`` or ``naive``.

    Shape:
        - labels: ``(B, D, H, W)``.
        - output: int64 ``(B, R, D)``.

    Raises:
        ShapeError: If labels have a wrong rank or are not integers.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.region_pool import region_slice_counts
        >>> labels = torch.tensor([[[[0, 1, 2]], [[2, 2, 2]]]])
        >>> region_slice_counts(labels, 2).tolist()
        [[[1, 0], [1, 3]]]
    """
    if labels.ndim != 4 or labels.is_floating_point() or labels.dtype == torch.bool:
        cause = f"Expected integer `labels` as (B, D, H, W), but got {labels.dtype} {tuple(labels.shape)}."
        raise ShapeError(cause, "Pass a label map; masks go to `mask_slice_counts`.")
    counts: Tensor = dispatch("region_pool", COUNT_BACKENDS, backend, labels, num_regions)
    return counts


def mask_slice_counts(masks: Tensor) -> Tensor:
    """Count the pixels of each mask in each slice; masks may overlap.

    Args:
        masks: Bool or numbers; all but 0 count.

    Shape:
        - masks: ``(B, R, D, H, W)``.
        - output: int64 ``(B, R, D)``.

    Raises:
        ShapeError: If masks have a wrong rank.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.region_pool import mask_slice_counts
        >>> mask_slice_counts(torch.tensor([[[[[0, 1, 1]]]]], dtype=torch.uint8)).tolist()
        [[[2]]]
    """
    if masks.ndim != 5:
        cause = f"Expected `masks` as (B, R, D, H, W), but got {tuple(masks.shape)}."
        raise ShapeError(cause, "Add the missing batch or region axis.")
    if masks.device.type != "cpu":
        return (masks != 0).sum((3, 4))
    slices = masks.detach().flatten(0, 2)
    # slice by slice: the comparison stays in the cache
    counts = [np.count_nonzero((one != 0).numpy()) for one in slices]
    return torch.tensor(counts, dtype=torch.int64).view(masks.shape[:3])


def slice_counts_torch(labels: Tensor, num_regions: int) -> Tensor:
    """Count on the CPU; arguments and shapes as :func:`.naive.slice_counts_naive`."""
    batch, slices = labels.shape[:2]
    pixels = labels.reshape(batch * slices, -1).numpy()
    counts = np.zeros((batch * slices, num_regions), dtype=np.int64)
    count = _compare if num_regions <= FEW_REGIONS else _histogram
    for row, one in zip(counts, pixels, strict=True):
        count(one, row)
    return torch.from_numpy(counts).view(batch, slices, num_regions).transpose(1, 2).contiguous()


def _compare(pixels: NDArray[np.integer], counts: NDArray[np.int64]) -> None:
    """Count a few regions: comparison and count are vector instructions."""
    is_region = np.empty(pixels.shape, dtype=bool)
    # a region that the type cannot hold has no pixel, and numpy refuses to compare with its number
    for region in range(min(len(counts), int(np.iinfo(pixels.dtype).max))):
        np.equal(pixels, region + 1, out=is_region)
        counts[region] = np.count_nonzero(is_region)


def _histogram(pixels: NDArray[np.integer], counts: NDArray[np.int64]) -> None:
    """Count many regions."""
    width = len(counts) + 1
    if pixels.dtype == np.uint8 and len(pixels) >= MANY_PIXELS and len(pixels) % 2 == 0:
        pairs = np.bincount(pixels.view(np.uint16), minlength=2**16).reshape(256, 256)
        found = pairs.sum(0) + pairs.sum(1)
    elif pixels.dtype in _TORCH_COUNTS and len(pixels) and pixels.min() >= 0 and pixels.max() < 2**16:
        found = torch.bincount(torch.from_numpy(pixels), minlength=width).numpy()
    else:
        found = np.bincount(np.where((pixels >= 0) & (pixels < width), pixels, 0), minlength=width)
    found = found[1:width]
    counts[: len(found)] = found


def _slice_counts_triton(labels: Tensor, num_regions: int) -> Tensor:
    from ct_vlm.ops.region_pool.kernel import slice_counts_triton

    return slice_counts_triton(labels, num_regions)


def _why_not_triton(labels: Tensor, num_regions: int) -> str | None:
    if num_regions > 4095:
        return f"the kernel keeps the counters of all regions in registers, and there are {num_regions}"
    return triton_usable(labels.device)


def _why_not_torch(labels: Tensor, num_regions: int) -> str | None:  # noqa: ARG001 (the op's signature)
    return None if labels.device.type == "cpu" else "it counts in host memory"


def _never(labels: Tensor, num_regions: int) -> str | None:  # noqa: ARG001 (the op's signature)
    return None


COUNT_BACKENDS = (
    Backend("triton", _slice_counts_triton, _why_not_triton),
    Backend("torch", slice_counts_torch, _why_not_torch),
    Backend("naive", slice_counts_naive, _never),
)
