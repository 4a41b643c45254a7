"""Clinical efficacy of reports as a torchmetrics class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torchmetrics import Metric

from ct_vlm.metrics.functional.clinical import LabelCounts, compute_scores, count_labels
from ct_vlm.metrics.functional.inputs import as_predicted_texts
from ct_vlm.metrics.functional.ratios import check_zero_division
from ct_vlm.metrics.labeler import RuleLabeler
from ct_vlm.text.labels import CT_RATE_LABELS
from ct_vlm.text.sections import clean_missing, is_missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

GIVEN = "given"


class Labeler(Protocol):
    """What turns reports into labels: a name for the results, and a call."""

    name: str

    def __call__(self, texts: Sequence[str]) -> Any:
        """Return ``(B, K)`` labels."""


class ClinicalEfficacy(Metric):
    """Precision, recall and F1 of abnormality labels; see :func:`~ct_vlm.metrics.functional.clinical_scores`.

    As input to ``forward`` and ``update`` the metric accepts predictions and targets, each as reports
    (labelled here) or as ``(B, K)`` labels. As output of ``compute`` it returns the dict of its
    functional twin with ``labeler`` and ``target_labeler``: the labeler's name, or ``"given"``. Its
    states are sums of counts, so any number of processes gives the value of one.

    Args:
        labeler: Labels reports; the rule labeler by default.
        label_names: Name of each label.
        zero_division: Value of a ratio with denominator 0: 0, 1 or NaN.
        kwargs: Settings of :class:`torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> from ct_vlm.metrics import ClinicalEfficacy
        >>> efficacy = ClinicalEfficacy()
        >>> truth = torch.zeros(1, 18)
        >>> truth[0, 2] = 1
        >>> efficacy.update(["Heart size increased."], truth)
        >>> scores = efficacy.compute()
        >>> scores["micro_f1"], scores["labeler"], scores["target_labeler"]
        (1.0, 'rules', 'given')
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    per_label: Tensor
    sample_sums: Tensor
    totals: Tensor
    sources: Tensor

    def __init__(
        self,
        labeler: Labeler | None = None,
        label_names: Sequence[str] = CT_RATE_LABELS,
        zero_division: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.zero_division = check_zero_division(zero_division)
        self.labeler: Labeler = RuleLabeler() if labeler is None else labeler
        self.label_names = tuple(label_names)
        self.add_state("per_label", torch.zeros(len(self.label_names), 4, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("sample_sums", torch.zeros(2, 3, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("totals", torch.zeros(4, dtype=torch.long), dist_reduce_fx="sum")
        # batches whose predictions (targets) were texts, and were labels
        self.add_state("sources", torch.zeros(2, 2, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, predictions: Any, targets: Any) -> None:
        """Count a batch.

        Args:
            predictions: Reports (``None`` where missing) or 0/1 labels.
            targets: Reports or 0/1 labels, NaN where unknown.

        Shape:
            - predictions, targets as labels: ``(B, K)``.
        """
        for row, values in enumerate((predictions, targets)):
            self.sources[row, 0 if _are_texts(values) else 1] += 1
        counts = count_labels(
            self._labels(predictions), self._labels(targets), len(self.label_names), self.zero_division
        )
        per_label, sample_sums, totals = (torch.from_numpy(values) for values in counts)
        self.per_label += per_label.to(self.per_label)
        self.sample_sums += sample_sums.to(self.sample_sums)
        self.totals += totals.to(self.totals)

    def compute(self) -> dict[str, Any]:
        """Return the scores over all batches."""
        states = (self.per_label, self.sample_sums, self.totals)
        counts = LabelCounts(*(state.cpu().double().numpy() for state in states))
        scores = compute_scores(counts, self.label_names, self.zero_division)
        return scores | {"labeler": self._source(0), "target_labeler": self._source(1)}

    def _labels(self, values: Any) -> Any:
        """Label reports; a missing report has unknown labels."""
        if not _are_texts(values):
            return values
        texts, _ = as_predicted_texts(values)
        labels = torch.as_tensor(self.labeler(texts)).double().cpu()
        missing = torch.tensor([not clean_missing(text) for text in texts], dtype=torch.bool)
        return labels.masked_fill(missing.unsqueeze(-1), torch.nan)

    def _source(self, row: int) -> str:
        """Name where labels came from."""
        texts, labels = self.sources[row].tolist()
        return " and ".join(name for name, used in ((self.labeler.name, texts), (GIVEN, labels)) if used) or GIVEN


def _are_texts(values: Any) -> bool:
    """Tell whether values are reports rather than labels."""
    if hasattr(values, "ndim"):
        return bool(values.ndim == 1)
    return len(values) > 0 and all(isinstance(v, str) or is_missing(v) for v in values)
