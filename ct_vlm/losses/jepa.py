"""Predicting the embedding of a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F

from ct_vlm.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor


def cosine_prediction_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the mean of ``1 - cos(predicted, target)``; no gradient reaches the target.

    Args:
        predicted: What the visual side predicts.
        target: Embedding of the text.

    Shape:
        - predicted, target: ``(B, C)``.
        - Output: scalar, from 0 (parallel) to 2 (opposite).

    Raises:
        ShapeError: If the shapes differ.

    Example:
        >>> import torch
        >>> from ct_vlm.losses import cosine_prediction_loss
        >>> cosine_prediction_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]]))
        tensor(1.)

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308 (phase 3), names the loss; its formula is inferred.
    """
    if predicted.shape != target.shape or predicted.ndim != 2:
        cause = f"Expected embeddings (B, C), but got {tuple(predicted.shape)} and {tuple(target.shape)}."
        raise ShapeError(cause, "Pool tokens first, and bring both to one width.")
    if predicted.dtype.itemsize < 4:
        predicted = predicted.float()
    return (1 - F.cosine_similarity(predicted, target.detach().to(predicted.dtype), dim=-1)).mean()
