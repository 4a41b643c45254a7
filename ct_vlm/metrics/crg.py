"""CRG score as a torchmetrics class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torchmetrics import Metric

from ct_vlm.metrics.functional.crg import compute_crg, count_crg

if TYPE_CHECKING:
    from torch import Tensor


class CRGScore(Metric):
    """CRG score of predicted labels; see :func:`~ct_vlm.metrics.functional.crg_score`.

    As input to ``forward`` and ``update`` the metric accepts 0/1 predictions and targets. As output
    of ``compute`` it returns the dict of its functional twin. Its states are sums of counts.

    Args:
        kwargs: Settings of :class:`torchmetrics.Metric`.

    Shape:
        - predictions, targets: ``(B, K)``.

    Example:
        >>> import torch
        >>> from ct_vlm.metrics import CRGScore
        >>> crg = CRGScore()
        >>> crg.update(torch.zeros(2, 3), torch.tensor([[1, 0, 0], [0, 0, 1]]))
        >>> round(crg.compute()["crg"], 3)
        0.333
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    counts: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("counts", torch.zeros(4, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, predictions: Any, targets: Any) -> None:
        """Count a batch.

        Args:
            predictions: 0/1 labels.
            targets: 0/1 labels, NaN where unknown.

        Shape:
            - predictions, targets: ``(B, K)``.
        """
        self.counts += count_crg(predictions, targets).to(self.counts.device)

    def compute(self) -> dict[str, float]:
        """Return the score over all batches."""
        return compute_crg(self.counts)
