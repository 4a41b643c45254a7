"""Patch embedding of gray cubes with the weights of an RGB video model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ct_vlm.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

ROWS = 2**12
"""Cubes turned into floats at a time where no gradient is needed."""


def fold_patch_embedding(
    weight: Tensor, bias: Tensor | None, mean: Sequence[float], std: Sequence[float], *, scale: float = 1 / 255
) -> tuple[Tensor, Tensor]:
    """Fold an RGB patch embedding and its normalisation into one channel.

    A gray pixel g enters the RGB model as ``(scale * g - mean_c) / std_c`` in each channel c, and the
    embedding is linear: one channel with the weights ``scale * sum_c W_c / std_c`` and a shifted
    bias gives the same. Exact (up to rounding) for pixels with R = G = B, which a gray volume has.

    Args:
        weight: Convolution or linear weights, one block a channel.
        bias: Bias, or None.
        mean: Mean of each channel that the model's processor subtracts.
        std: Standard deviation of each channel that it divides by.
        scale: What it multiplies pixels by first.

    Shape:
        - weight: ``(E, 3, *kernel)``, e.g. ``(E, 3, 2, 14, 14)``.
        - bias: ``(E,)``.
        - output: weight ``(E, k)``, k the size of the kernel, and bias ``(E,)``.

    Raises:
        ShapeError: If channels, means and deviations differ in number.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.video_cubes import fold_patch_embedding
        >>> weight, bias = fold_patch_embedding(torch.ones(1, 3, 2), None, [0.5] * 3, [0.25] * 3, scale=1.0)
        >>> weight.tolist(), bias.tolist()
        ([[12.0, 12.0]], [-12.0])
    """
    channels = weight.shape[1] if weight.ndim > 1 else 0
    if not channels == len(mean) == len(std):
        cause = f"`weight` {tuple(weight.shape)} has {channels} channels, `mean` {len(mean)} and `std` {len(std)}."
        raise ShapeError(cause, "Pass weights as (E, channels, ...) and one mean and deviation a channel.")
    # in float64: the sum of channels must not lose what half-precision weights hold
    parts = weight.double().flatten(2) / torch.tensor(std, dtype=torch.float64, device=weight.device)[:, None]
    means = torch.tensor(mean, dtype=torch.float64, device=weight.device)
    shift = (parts.sum(-1) * means).sum(1)
    folded_bias = -shift if bias is None else bias.double() - shift
    return (parts.sum(1) * scale).to(weight.dtype), folded_bias.to(weight.dtype)


def gray_patch_embedding(cubes: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Embed gray cubes with folded weights.

    Without gradients, integers become floats a few thousand cubes at a time: there is never a float
    copy of the volume.

    Args:
        cubes: Cubes of :func:`.volume_to_cubes`, any number type.
        weight: Folded weights.
        bias: Folded bias.

    Shape:
        - cubes: ``(..., n, k)``.
        - weight: ``(E, k)``.
        - bias: ``(E,)``.
        - output: ``(..., n, E)``, in the type of the weights.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.video_cubes import gray_patch_embedding
        >>> gray_patch_embedding(torch.tensor([[1, 2]], dtype=torch.uint8), torch.ones(1, 2)).tolist()
        [[3.0]]
    """
    needs_gradient = any(tensor is not None and tensor.requires_grad for tensor in (cubes, weight, bias))
    if torch.is_grad_enabled() and needs_gradient:
        return F.linear(cubes.to(weight.dtype), weight, bias)
    flat = cubes.reshape(-1, cubes.shape[-1])
    out = torch.empty(len(flat), len(weight), dtype=weight.dtype, device=cubes.device)
    for part, target in zip(flat.split(ROWS), out.split(ROWS), strict=True):
        target.copy_(F.linear(part.to(weight.dtype), weight, bias))
    return out.view(*cubes.shape[:-1], len(weight))
