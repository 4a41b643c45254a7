"""Maximum mean discrepancy with the inverse multiquadric kernel, between ragged sets of embeddings."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ct_vlm.errors import ConfigError, ShapeError


def imq_scale(dim: int, gamma: float = 5.0) -> float:
    """Return the kernel's scale ``4 gamma / (2 dim - 3)``.

    Args:
        dim: Width of the embeddings.
        gamma: Bandwidth.

    Raises:
        ConfigError: If the width is below 2, where the scale would be negative.

    Example:
        >>> from ct_vlm.losses import imq_scale
        >>> round(imq_scale(256), 5)
        0.03929

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308 (width 256, gamma 5).
    """
    if dim < 2:
        cause = f"The scale 4 gamma / (2 dim - 3) needs a width of 2 or more, but got {dim}."
        raise ConfigError(cause, "Use wider embeddings.")
    return 4 * gamma / (2 * dim - 3)


def imq_mmd(
    x: Tensor,
    y: Tensor,
    x_mask: Tensor | None = None,
    y_mask: Tensor | None = None,
    *,
    gamma: float = 5.0,
    estimator: Literal["biased", "unbiased"] = "biased",
) -> Tensor:
    """Return the mean squared MMD between two sets of a sample, kernel ``(1 + a |x - y|^2)^(-1/2)``.

    Samples in which either set is empty have no term. The biased estimate is never negative, and
    its gradient is smooth; of 32 and 3 draws of one distribution it is about 0.28, so log the
    unbiased one. A set of one point has no pairs: it counts with its kernel to itself, 1, in both.

    Args:
        x: Embeddings of the first set, e.g. visual tokens.
        y: Embeddings of the second set, e.g. texts of the positive conditions.
        x_mask: True where an embedding counts; all unless given.
        y_mask: The same for the second set.
        gamma: Bandwidth, see :func:`imq_scale`.
        estimator: ``"biased"`` (V-statistic) or ``"unbiased"`` (U-statistic).

    Shape:
        - x: ``(B, N, C)``; x_mask: ``(B, N)``.
        - y: ``(B, P, C)``; y_mask: ``(B, P)``.
        - Output: scalar; 0 if no sample has both sets.

    Raises:
        ShapeError: If widths or batch sizes differ.
        ConfigError: If the estimator is unknown.

    Example:
        >>> import torch
        >>> from ct_vlm.losses import imq_mmd
        >>> x = torch.zeros(1, 1, 256)
        >>> y = torch.zeros(1, 1, 256)
        >>> y[..., 0] = 1.0
        >>> round(imq_mmd(x, y).item(), 5), imq_mmd(x, x).item()
        (0.03817, 0.0)

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308 (phases 1 and 2). That each visual token is a point of its
        own is inferred.
    """
    _check_sets(x, y)
    if estimator not in ("biased", "unbiased"):
        cause = f"Expected `estimator` to be 'biased' or 'unbiased', but got {estimator!r}."
        raise ConfigError(cause, "Use 'biased' to train and 'unbiased' to log.")
    if x.dtype.itemsize < 4 or y.dtype.itemsize < 4:
        x, y = x.float(), y.float()
    y = y.to(x.dtype)
    in_x = torch.ones_like(x[..., 0]) if x_mask is None else x_mask.to(x.dtype)
    in_y = torch.ones_like(y[..., 0]) if y_mask is None else y_mask.to(x.dtype)
    scale, own = imq_scale(x.shape[-1], gamma), estimator == "biased"
    with torch.autocast(x.device.type, enabled=False):
        total = _within(x, in_x, scale, own=own) + _within(y, in_y, scale, own=own)
        pairs = (in_x.sum(1) * in_y.sum(1)).clamp(min=1)
        across = _kernel(x, y, scale) * in_x[:, :, None] * in_y[:, None, :]
        total = total - 2 * across.sum((1, 2)) / pairs
    both = (in_x.sum(1) > 0) & (in_y.sum(1) > 0)
    return torch.where(both, total, 0.0).sum() / both.sum().clamp(min=1)


def _within(x: Tensor, mask: Tensor, scale: float, *, own: bool) -> Tensor:
    """Return the mean kernel of a set's pairs, ``(B, N, C)`` to ``(B,)``; ``own`` counts points with themselves."""
    kernel = _kernel(x, x, scale) * mask[:, :, None] * mask[:, None, :]
    count = mask.sum(1)
    total = kernel.sum((1, 2))
    every = total / (count * count).clamp(min=1)
    if own:
        return every
    others = total - kernel.diagonal(dim1=1, dim2=2).sum(-1)
    return torch.where(count > 1, others / (count * (count - 1)).clamp(min=1), every)


def _kernel(x: Tensor, y: Tensor, scale: float) -> Tensor:
    """Return the kernel of every pair, ``(B, N, C)`` and ``(B, P, C)`` to ``(B, N, P)``."""
    # differences, not inner products: those lose the digits of close pairs
    squared = (x[:, :, None, :] - y[:, None, :, :]).square().sum(-1)
    return (1 + scale * squared).rsqrt()


def _check_sets(x: Tensor, y: Tensor) -> None:
    if x.ndim != 3 or y.ndim != 3 or x.shape[0] != y.shape[0] or x.shape[2] != y.shape[2]:
        cause = f"Expected sets (B, N, C) and (B, P, C), but got {tuple(x.shape)} and {tuple(y.shape)}."
        raise ShapeError(cause, "Bring both to one width, e.g. by the JEPA head and the whitened text.")
