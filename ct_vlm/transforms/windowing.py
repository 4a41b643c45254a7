"""HU to normalised channels, on the device the tensor is on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

Norm = Literal["unit", "symmetric", "affine", "zscore", "minmax"]


def apply_windows(
    image: Tensor,
    windows: Sequence[tuple[float, float]],
    norm: Norm = "unit",
    *,
    offset: float = 0.0,
    scale: float = 1.0,
) -> Tensor:
    """Clip HU to each window and normalise; one channel a window.

    Args:
        image: HU, integer or float.
        windows: ``(low, high)`` of each channel.
        norm: ``unit``, ``symmetric``, ``affine``, ``zscore`` or ``minmax``.
        offset: Added to the clipped HU by ``affine``.
        scale: Divisor of ``affine``.

    **Shape:**
        - image: ``(B, 1, D, H, W)``.
        - returns: ``(B, C, D, H, W)``, float32 for integer input.

    Example:
        >>> import torch
        >>> from ct_vlm.transforms import apply_windows
        >>> hu = torch.tensor([-2000, 0, 500], dtype=torch.int16).view(1, 1, 1, 1, 3)
        >>> apply_windows(hu, [(-1000, 1000)], "symmetric").flatten().tolist()
        [-1.0, 0.0, 0.5]
    """
    import torch  # not at the top: processes that only change geometry do without

    hu = image if image.is_floating_point() else image.float()
    result = hu.new_empty((hu.shape[0], len(windows), *hu.shape[2:]))
    for channel, (low, high) in enumerate(windows):
        target = result[:, channel : channel + 1]
        torch.clamp(hu, low, high, out=target) if not hu.requires_grad else target.copy_(hu.clamp(low, high))
        _normalise(target, norm, low, high, offset, scale)
    return result


def _normalise(target: Tensor, norm: Norm, low: float, high: float, offset: float, scale: float) -> None:
    """Normalise clipped HU in place."""
    if norm == "unit":
        target.sub_(low).div_(high - low)
    elif norm == "symmetric":
        target.sub_((low + high) / 2).div_((high - low) / 2)
    elif norm == "affine":
        target.add_(offset).div_(scale)
    elif norm == "zscore":
        axes = tuple(range(1, target.ndim))
        mean = target.mean(dim=axes, keepdim=True)
        deviation = target.std(dim=axes, keepdim=True, correction=0)
        target.sub_(mean).div_(deviation.clamp_min(1e-6))
    else:
        axes = tuple(range(1, target.ndim))
        lowest, highest = target.amin(dim=axes, keepdim=True), target.amax(dim=axes, keepdim=True)
        target.sub_(lowest).div_((highest - lowest).clamp_min(1e-6))
