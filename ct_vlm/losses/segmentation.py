"""Dice + cross-entropy with deep supervision.

Paper: U-VLM, https://arxiv.org/abs/2603.00479 (stage 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch.nn.functional as F
from monai.losses.dice import DiceCELoss
from torch import nn

from ct_vlm.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class DeepSupervisionDiceCELoss(nn.Module):
    """MONAI's Dice + cross-entropy on every decoder level, weighted 1, 1/2, 1/4, ...

    Args:
        label_pooling: How the label map reaches a coarser level: ``"nearest"`` (usual, loses small
            findings) or ``"max"`` (the highest class id in a cell wins; with ids ordered organs
            first, a finding of one voxel survives).
        drop_coarsest: Whether the coarsest level has weight zero, as in nnU-Net.

    Shape:
        - logits: ``(B, K, D_l, H_l, W_l)`` each, fine to coarse.
        - target: ``(B, D, H, W)`` integer label map at the input's resolution.
        - Output: scalar.

    Raises:
        ConfigError: If ``label_pooling`` is unknown.
        ShapeError: If the target is not ``(B, D, H, W)``.

    Example:
        >>> import torch
        >>> from ct_vlm.losses import DeepSupervisionDiceCELoss
        >>> logits = [torch.zeros(1, 3, 4, 4, 4), torch.zeros(1, 3, 2, 2, 2)]
        >>> DeepSupervisionDiceCELoss()(logits, torch.ones(1, 8, 8, 8, dtype=torch.long)).ndim
        0

    References:
        U-VLM, arXiv 2603.00479, authors' code: soft Dice without background, smooth 1e-5, plus
        cross-entropy, weights 1/1. ``"max"`` pooling is ours.
    """

    def __init__(self, label_pooling: Literal["nearest", "max"] = "nearest", *, drop_coarsest: bool = False) -> None:
        super().__init__()
        if label_pooling not in ("nearest", "max"):
            cause = f"Expected `label_pooling` to be 'nearest' or 'max', but got {label_pooling!r}."
            raise ConfigError(cause, "Use 'nearest'.")
        self.label_pooling = label_pooling
        self.drop_coarsest = drop_coarsest
        self.loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, smooth_nr=1e-5, smooth_dr=1e-5)

    def forward(self, logits: Sequence[Tensor], target: Tensor) -> Tensor:
        """Return the weighted mean of the level losses."""
        used = list(logits[:-1] if self.drop_coarsest and len(logits) > 1 else logits)
        weights = [0.5**level for level in range(len(used))]
        total = logits[0].new_zeros(())
        for weight, level in zip(weights, used, strict=True):
            pooled = pool_labels(target, level.shape[2:], self.label_pooling)
            total = total + weight * self.loss(level.float(), pooled.unsqueeze(1))
        return total / sum(weights)


def pool_labels(target: Tensor, size: Sequence[int], mode: str = "nearest") -> Tensor:
    """Bring a label map to a coarser grid.

    Args:
        target: Integer label map.
        size: Target ``(D, H, W)``.
        mode: ``"nearest"`` or ``"max"`` (highest class id in the cell).

    Shape:
        - target: ``(B, D, H, W)``.
        - Output: ``(B, *size)``, int64.

    Raises:
        ShapeError: If the target is not ``(B, D, H, W)``.

    Example:
        >>> import torch
        >>> from ct_vlm.losses.segmentation import pool_labels
        >>> pool_labels(torch.tensor([[[[0, 0, 0, 7]]]]), (1, 1, 2), "max")
        tensor([[[[0, 7]]]])
    """
    if target.ndim != 4:
        msg = f"Expected a label map as (B, D, H, W), but got {tuple(target.shape)}."
        raise ShapeError(msg, "Drop other axes.")
    if tuple(target.shape[1:]) == tuple(size):
        return target.long()
    # ids are small integers, exact in float32
    values = target.unsqueeze(1).float()
    pooled = F.adaptive_max_pool3d(values, list(size)) if mode == "max" else F.interpolate(values, list(size))
    return pooled.squeeze(1).long()
