"""Keeping region tokens from saying the same thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F

from ct_vlm.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor


def orthogonality_loss(tokens: Tensor, eps: float = 1e-6) -> Tensor:
    """Return the mean squared cosine between different tokens of a sample.

    Args:
        tokens: Region tokens.
        eps: Shortest length that is divided by; a token of zeros is orthogonal to all.

    Shape:
        - tokens: ``(B, N, C)`` with N of 2 or more.
        - Output: scalar; 0 for orthogonal tokens, 1 for parallel ones.

    Raises:
        ShapeError: If there are fewer than two tokens.

    Example:
        >>> import torch
        >>> from ct_vlm.losses import orthogonality_loss
        >>> orthogonality_loss(torch.eye(3)[None]), orthogonality_loss(torch.ones(1, 4, 8))
        (tensor(0.), tensor(1.))

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308, names the loss; its formula is inferred.
    """
    if tokens.ndim != 3 or tokens.shape[1] < 2:
        cause = f"Expected two tokens or more as (B, N, C), but got {tuple(tokens.shape)}."
        raise ShapeError(cause, "Leave this loss out where there is one token.")
    unit = F.normalize(tokens.float() if tokens.dtype.itemsize < 4 else tokens, dim=-1, eps=eps)
    squared = (unit @ unit.transpose(1, 2)).square()
    count = tokens.shape[1]
    off_diagonal = squared.sum((1, 2)) - squared.diagonal(dim1=1, dim2=2).sum(-1)
    return (off_diagonal / (count * (count - 1))).mean()
