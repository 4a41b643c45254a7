"""Losses over 0/1 labels of which some are unknown: cross-entropy with capped weights, focal, multiple instances."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from monai.losses.focal_loss import sigmoid_focal_loss
from torch import Tensor

from ct_vlm.errors import ShapeError


def positive_weights(labels: Any, cap: float = 10.0) -> Tensor:
    """Return ``min(negatives / positives, cap)`` of each label.

    Args:
        labels: 0/1 labels, NaN where unknown.
        cap: Largest weight; also that of a label without a positive.

    Shape:
        - labels: ``(B, K)``.
        - Output: ``(K,)``.

    Raises:
        ShapeError: If the labels are not ``(B, K)``.

    Example:
        >>> from ct_vlm.losses import positive_weights
        >>> positive_weights([[1, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]])
        tensor([ 3.0000, 10.0000,  0.3333])

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308: ``w_c = min(n_neg / n_pos, 10)``.
    """
    known = torch.as_tensor(labels, dtype=torch.float32)
    if known.ndim != 2:
        cause = f"Expected labels (B, K), but got {tuple(known.shape)}."
        raise ShapeError(cause, "Pass one row a sample.")
    positives = (known == 1).sum(0)
    negatives = (known == 0).sum(0)
    return torch.where(positives > 0, negatives / positives.clamp(min=1), cap).clamp(max=cap)


def masked_bce(logits: Tensor, labels: Tensor, pos_weight: Tensor | None = None) -> Tensor:
    """Return the mean binary cross-entropy over the known labels; 0 if none is known.

    Args:
        logits: Logits.
        labels: 0/1 labels, NaN where unknown.
        pos_weight: Weight of the positives of each label, e.g. of :func:`positive_weights`.

    Shape:
        - logits, labels: ``(B, K)``.
        - pos_weight: ``(K,)``.
        - Output: scalar.

    Raises:
        ShapeError: If logits and labels differ in shape.

    Example:
        >>> import torch
        >>> from ct_vlm.losses import masked_bce
        >>> masked_bce(torch.zeros(1, 2), torch.tensor([[1.0, float("nan")]]))
        tensor(0.6931)
    """
    _check_pair(logits, labels)
    weight = None if pos_weight is None else pos_weight.to(logits.device, torch.float32)
    target = labels.float().nan_to_num()
    loss = F.binary_cross_entropy_with_logits(logits.float(), target, pos_weight=weight, reduction="none")
    return _known_mean(loss, labels)


def focal_loss(logits: Tensor, labels: Tensor, gamma: float = 2.0) -> Tensor:
    """Return the mean focal loss over the known labels: cross-entropy times ``(1 - p_true)^gamma``.

    Args:
        logits: Logits.
        labels: 0/1 labels, NaN where unknown.
        gamma: 0 gives plain cross-entropy.

    Shape:
        - logits, labels: ``(B, K)``.
        - Output: scalar.

    Raises:
        ShapeError: If logits and labels differ in shape.

    Example:
        >>> import torch
        >>> from ct_vlm.losses import focal_loss
        >>> focal_loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
        tensor(0.1733)

    References:
        Focal loss, arXiv 1708.02002, without its class weight; gamma 2 as in Ker-VLJEPA-3B.
    """
    _check_pair(logits, labels)
    return _known_mean(sigmoid_focal_loss(logits.float(), labels.float().nan_to_num(), gamma), labels)


def multiple_instance_loss(token_logits: Tensor, labels: Tensor, pos_weight: Tensor | None = None) -> Tensor:
    """Cross-entropy of the most suspicious region: the maximum of each label's logits over regions.

    A finding sits in one region, so the mean over regions would dilute it.

    Args:
        token_logits: Logits of each region token.
        labels: 0/1 labels of the volume, NaN where unknown.
        pos_weight: Weight of the positives of each label.

    Shape:
        - token_logits: ``(B, N, K)``.
        - labels: ``(B, K)``.
        - pos_weight: ``(K,)``.
        - Output: scalar.

    Raises:
        ShapeError: If the logits are not ``(B, N, K)``.

    Example:
        >>> import torch
        >>> from ct_vlm.losses import multiple_instance_loss
        >>> logits = torch.tensor([[[-9.0], [9.0], [-9.0]]])
        >>> round(multiple_instance_loss(logits, torch.ones(1, 1)).item(), 5)
        0.00012

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308 (phase 1). The paper pools tokens by their maximum before it
        classifies; that the maximum is taken over logits is inferred.
    """
    if token_logits.ndim != 3 or token_logits.shape[1] == 0:
        cause = f"Expected the logits of every region as (B, N, K), but got {tuple(token_logits.shape)}."
        raise ShapeError(cause, "Classify every token, and do not pool.")
    return masked_bce(token_logits.amax(1), labels, pos_weight)


def _check_pair(logits: Tensor, labels: Tensor) -> None:
    if logits.shape != labels.shape:
        cause = f"Logits {tuple(logits.shape)} and labels {tuple(labels.shape)} differ in shape."
        raise ShapeError(cause, "Pass one logit a label.")


def _known_mean(loss: Tensor, labels: Tensor) -> Tensor:
    known = ~labels.isnan()
    return (loss * known).sum() / known.sum().clamp(min=1)
