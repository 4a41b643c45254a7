"""BLEU of reports as a torchmetrics class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torchmetrics import Metric

from ct_vlm.metrics.functional.bleu import MAX_ORDER
from ct_vlm.metrics.functional.cleaning import cleaners
from ct_vlm.metrics.functional.nlg import count_reports, summarise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class ReportBLEU(Metric):
    """Corpus BLEU-1 to BLEU-4 under a named protocol; see :func:`~ct_vlm.metrics.functional.nlg_scores`.

    As input to ``forward`` and ``update`` the metric accepts generated reports (``None`` where
    missing) and true reports. As output of ``compute`` it returns the dict of its functional twin.
    Its states are sums of counts, so any number of processes gives the value of one.

    Args:
        protocol: ``"vlm3d"``, ``"uvlm"``, ``"ct2rep"`` or ``"raw"``.
        kwargs: Settings of :class:`torchmetrics.Metric`.

    Raises:
        ConfigError: If the protocol is unknown.

    Example:
        >>> from ct_vlm.metrics import ReportBLEU
        >>> bleu = ReportBLEU()
        >>> bleu.update(["Heart size is normal."], ["Heart size is increased."])
        >>> round(bleu.compute()["bleu_1"], 3)
        0.75
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    counts: Tensor
    totals: Tensor

    def __init__(self, protocol: str = "vlm3d", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        cleaners(protocol)
        self.protocol = protocol
        self.add_state("counts", torch.zeros(2 * MAX_ORDER + 2, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("totals", torch.zeros(2, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, predictions: Sequence[str | None], references: Sequence[str]) -> None:
        """Count a batch of reports.

        Args:
            predictions: Generated reports.
            references: True reports.
        """
        counts, missing = count_reports(predictions, references, self.protocol)
        self.counts += counts.to(self.counts.device)
        self.totals += torch.tensor([len(predictions), missing], device=self.totals.device)

    def compute(self) -> dict[str, Any]:
        """Return the scores over all batches."""
        num_samples, missing = self.totals.tolist()
        return summarise(self.counts, num_samples, missing, self.protocol)
