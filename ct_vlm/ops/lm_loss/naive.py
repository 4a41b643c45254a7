"""Reference for the loss of a language model's head: all logits, then the cross-entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor


def lm_loss_naive(hidden: Tensor, weight: Tensor, targets: Tensor, *, mean: bool) -> Tensor:
    """Project, widen half precision, and take the cross-entropy; any dtype, any device.

    Shape:
        - hidden: ``(M, E)``; weight: ``(V, E)``; targets: ``(M,)``.
        - Output: scalar.
    """
    logits = F.linear(hidden, weight)
    logits = logits.float() if logits.itemsize < 4 else logits
    return F.cross_entropy(logits, targets, reduction="mean" if mean else "sum")


def lm_losses_naive(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of each row, as :func:`lm_loss_naive`.

    Shape:
        - hidden: ``(M, E)``; weight: ``(V, E)``; targets: ``(M,)``.
        - Output: ``(M,)``.
    """
    logits = F.linear(hidden, weight)
    logits = logits.float() if logits.itemsize < 4 else logits
    return F.cross_entropy(logits, targets, reduction="none")
