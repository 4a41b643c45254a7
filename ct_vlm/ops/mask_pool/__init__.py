"""Mask pooling: mean or sum of a 3D feature map over label maps or overlapping masks, without one-hot tensors.

An index (:class:`RegionIndex`) holds the cells of each region. It is built once from

- a label map (:func:`index_labels`: one sort),
- masks that may overlap, binary or soft (:func:`index_masks`: no sort),
- a label map at full resolution (:func:`index_coverage`: exact soft weights in one pass), or
- a label map for all levels of a pyramid (:func:`index_pyramid`: one sort for all),

and then serves any number of feature maps, forward and backward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.ops.dispatch import Backend, dispatch, triton_usable
from ct_vlm.ops.mask_pool.coverage import index_coverage
from ct_vlm.ops.mask_pool.index import RegionIndex, index_labels, index_masks
from ct_vlm.ops.mask_pool.naive import mask_sum_naive
from ct_vlm.ops.mask_pool.pyramid import index_pyramid
from ct_vlm.ops.mask_pool.torch_path import mask_sum_torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["RegionIndex", "index_coverage", "index_labels", "index_masks", "index_pyramid", "mask_pool"]


def mask_pool(
    features: Tensor, index: RegionIndex, *, reduce: Literal["mean", "sum"] = "mean", backend: str = "auto"
) -> Tensor:
    """Pool features over regions.

    The one-hot mask tensor and the product of features and masks are never made. Channels-last
    features (``memory_format=torch.channels_last_3d``, or tokens) are read in place and fastest.
    The result is the same in every run, on CPU and GPU: no atomic additions.

    Args:
        features: Feature map, or its tokens in ``(D, H, W)`` order.
        index: Cells of each region, on the grid of the features.
        reduce: ``mean`` (weighted by the index's weights; an empty region gives zeros) or ``sum``.
        backend: ``auto``, ``triton``, ``torch`` or ``naive``.

    Shape:
        - features: ``(B, C, D, H, W)`` or ``(B, N, C)``.
        - output: ``(B, R, C)``, in the type of the features; sums are taken in float32 or better.

    Raises:
        ShapeError: If the features do not fit the index.
        ConfigError: If features and index are on different devices, ``reduce`` is unknown, or the
            backend cannot run the inputs.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.mask_pool import index_labels, mask_pool
        >>> index = index_labels(torch.tensor([[[[1, 1, 0, 2]]]]), num_regions=3)
        >>> features = torch.tensor([1.0, 3.0, 5.0, 7.0]).view(1, 1, 1, 1, 4)
        >>> mask_pool(features, index).tolist()
        [[[2.0], [7.0], [0.0]]]
    """
    if reduce not in {"mean", "sum"}:
        cause = f"Expected `reduce` to be `mean` or `sum`, but got {reduce!r}."
        raise ConfigError(cause, "Use one of them.")
    tokens = _tokens(features, index)
    pooled: Tensor = dispatch("mask_pool", BACKENDS, backend, tokens, index)
    if reduce == "mean":
        # an empty region's sum is 0 already
        total = torch.where(index.total > 0, index.total, 1.0)
        pooled = pooled / total.to(pooled.dtype)[..., None]
    return pooled.to(features.dtype)


def example_inputs(device: str | torch.device) -> dict[str, Any]:
    """Return the inputs of a small typical call, for ``ct-vlm env``."""
    labels = torch.zeros(1, 2, 4, 4, dtype=torch.uint8, device=device)
    return {"tokens": torch.zeros(1, 32, 8, device=device), "index": index_labels(labels, 6)}


def _tokens(features: Tensor, index: RegionIndex) -> Tensor:
    """Return the features as a ``(B, N, C)`` view, checked against the index."""
    if features.ndim == 5:
        grid, tokens = tuple(features.shape[2:]), features.flatten(2).transpose(1, 2)
    else:
        grid, tokens = index.grid, features
    expected = (index.batch, index.num_cells)
    if grid != index.grid or tokens.ndim != 3 or tuple(tokens.shape[:2]) != expected:
        cause = f"Features {tuple(features.shape)} do not fit an index of {index.batch} x {index.grid} cells."
        raise ShapeError(cause, "Pass features as (B, C, D, H, W) or (B, D * H * W, C) of the index's grid.")
    if tokens.device != index.cells.device:
        cause = f"The features are on `{tokens.device}`, the index is on `{index.cells.device}`."
        raise ConfigError(cause, "Move the index with `index.to(device)`.")
    return tokens


def _mask_sum_triton(tokens: Tensor, index: RegionIndex) -> Tensor:
    from ct_vlm.ops.mask_pool.kernel import mask_sum_triton

    return mask_sum_triton(tokens, index)


def _why_not_triton(tokens: Tensor, index: RegionIndex) -> str | None:  # noqa: ARG001 (the op's signature)
    if tokens.dtype not in {torch.float32, torch.float16, torch.bfloat16}:
        return f"the kernel sums in float32, and tokens are {tokens.dtype}"
    return triton_usable(tokens.device)


def _never(tokens: Tensor, index: RegionIndex) -> str | None:  # noqa: ARG001 (the op's signature)
    return None


BACKENDS = (
    Backend("triton", _mask_sum_triton, _why_not_triton),
    Backend("torch", mask_sum_torch, _never),
    Backend("naive", mask_sum_naive, _never),
)
