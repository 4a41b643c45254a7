"""Scores of label probabilities as a torchmetrics class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from ct_vlm.metrics.functional.classifier import classifier_scores
from ct_vlm.metrics.functional.inputs import as_label_matrix, as_probability_matrix, check_pairs
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class ClassifierScores(Metric):
    """Macro AUROC and average precision of label probabilities.

    As input to ``forward`` and ``update`` the metric accepts probabilities and 0/1 targets (NaN where
    unknown). As output of ``compute`` it returns the dict of
    :func:`~ct_vlm.metrics.functional.classifier_scores`; labels with one class only are skipped and
    listed. Its states are gathered from all processes.

    Args:
        label_names: Name of each label.
        kwargs: Settings of :class:`torchmetrics.Metric`.

    Shape:
        - probabilities, targets: ``(B, K)``.

    Example:
        >>> import torch
        >>> from ct_vlm.metrics import ClassifierScores
        >>> scores = ClassifierScores(["Nodule"])
        >>> scores.update(torch.tensor([[0.2], [0.7]]), torch.tensor([[0], [1]]))
        >>> scores.compute()["macro_auroc"]
        1.0
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    probabilities: list[Tensor]
    targets: list[Tensor]

    def __init__(self, label_names: Sequence[str] = CT_RATE_LABELS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.label_names = tuple(label_names)
        self.add_state("probabilities", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    def update(self, probabilities: Any, targets: Any) -> None:
        """Add a batch.

        Args:
            probabilities: Probability of each label.
            targets: 0/1 labels, NaN where unknown.

        Shape:
            - probabilities, targets: ``(B, K)``.
        """
        scored = as_probability_matrix(probabilities, "probabilities", len(self.label_names))
        known = as_label_matrix(targets, "targets", len(self.label_names))
        check_pairs(scored, known)
        self.probabilities.append(scored.float().to(self.device))
        self.targets.append(known.float().to(self.device))

    def compute(self) -> dict[str, Any]:
        """Return the scores over all batches."""
        if not len(self.probabilities):
            empty = torch.empty(0, len(self.label_names))
            return classifier_scores(empty, empty, self.label_names)
        return classifier_scores(dim_zero_cat(self.probabilities), dim_zero_cat(self.targets), self.label_names)
