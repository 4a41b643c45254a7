"""Coarse presence: which classes a cell of an encoder level holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ct_vlm.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def cell_presence(target: Tensor, size: Sequence[int], num_classes: int) -> Tensor:
    """Tell for every cell of a coarse grid which classes have at least one voxel in it.

    Args:
        target: Integer label map.
        size: Coarse grid ``(d, h, w)``.
        num_classes: Classes with background; background is left out of the result.

    Shape:
        - target: ``(B, D, H, W)``.
        - Output: ``(B, num_classes - 1, d, h, w)``, float 0/1.

    Raises:
        ShapeError: If the target is not ``(B, D, H, W)`` or smaller than the grid.

    Example:
        >>> import torch
        >>> from ct_vlm.losses import cell_presence
        >>> cell_presence(torch.tensor([[[[0, 1, 2, 2]]]]), (1, 1, 2), 3).flatten(2)
        tensor([[[1., 0.],
                 [0., 1.]]])
    """
    if target.ndim != 4 or any(have < want for have, want in zip(target.shape[1:], size, strict=True)):
        cause = f"Expected a label map (B, D, H, W) no smaller than {tuple(size)}, but got {tuple(target.shape)}."
        raise ShapeError(cause, "Pass the label map at the input's resolution.")
    batch, grid = target.shape[0], list(size)
    cells = torch.zeros(target.shape[1:], dtype=torch.long, device=target.device)
    stride = 1
    for axis in (2, 1, 0):
        index = torch.arange(target.shape[axis + 1], device=target.device) * grid[axis] // target.shape[axis + 1]
        shape = [1, 1, 1]
        shape[axis] = -1
        cells = cells + index.view(shape) * stride
        stride *= grid[axis]
    # one flat write per voxel: no one-hot of the full volume is ever built
    flat = target.long() * stride + cells
    presence = torch.zeros(batch, num_classes * stride, device=target.device)
    presence.scatter_(1, flat.flatten(1), 1.0)
    return presence.view(batch, num_classes, *grid)[:, 1:]


def balanced_presence_loss(logits: Tensor, target: Tensor, *, negative_weight: float = 1.0) -> Tensor:
    """Binary cross-entropy in which positive and negative cells of a class weigh the same.

    A class that is present in a handful of cells would vanish in a plain mean. A batch without a
    positive cell of a class contributes that class's negatives alone.

    Args:
        logits: Class logits of every cell.
        target: 0/1 presence of every cell.
        negative_weight: Weight of the mean over negative cells.

    Shape:
        - logits, target: ``(B, K, d, h, w)``.
        - Output: scalar.

    Example:
        >>> import torch
        >>> from ct_vlm.losses import balanced_presence_loss
        >>> balanced_presence_loss(torch.zeros(1, 2, 1, 1, 2), torch.tensor([[[[[0.0, 1.0]]], [[[0.0, 0.0]]]]]))
        tensor(1.0397)
    """
    loss = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none").transpose(0, 1).flatten(1)
    positive = target.transpose(0, 1).flatten(1)
    per_positive = (loss * positive).sum(1) / positive.sum(1).clamp(min=1)
    per_negative = (loss * (1 - positive)).sum(1) / (1 - positive).sum(1).clamp(min=1)
    return (per_positive + negative_weight * per_negative).mean()
