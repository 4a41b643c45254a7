"""Scores of label probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from ct_vlm.metrics.functional.inputs import as_label_matrix, as_probability_matrix, check_pairs
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Sequence


def classifier_scores(probabilities: Any, targets: Any, label_names: Sequence[str] = CT_RATE_LABELS) -> dict[str, Any]:
    """Return macro AUROC and average precision of label probabilities.

    Args:
        probabilities: Probability of each label.
        targets: 0/1 labels, NaN where unknown: such a cell is left out.
        label_names: Name of each column.

    Returns:
        ``macro_auroc`` and ``macro_average_precision`` (mean over the labels that have both
        classes; NaN if none has), ``per_label``, ``skipped`` (labels with one class only) and
        ``num_samples``.

    Shape:
        - probabilities, targets: ``(B, K)``.

    Raises:
        ShapeError: If sizes differ.
        DatasetError: If a probability is outside [0, 1] or a target is neither 0, 1 nor NaN.

    Example:
        >>> from ct_vlm.metrics.functional import classifier_scores
        >>> scores = classifier_scores([[0.1, 0.9], [0.8, 0.2]], [[0, 1], [1, 1]], ["Nodule", "Effusion"])
        >>> scores["macro_auroc"], scores["skipped"]
        (1.0, ['Effusion'])
    """
    scored = as_probability_matrix(probabilities, "probabilities", len(label_names))
    known = as_label_matrix(targets, "targets", len(label_names))
    check_pairs(scored, known)
    per_label: dict[str, dict[str, float]] = {}
    for column, name in enumerate(label_names):
        rows = ~torch.isnan(known[:, column])
        values, truth = scored[rows, column], known[rows, column].long()
        if truth.unique().numel() == 2:
            per_label[name] = {
                "auroc": float(binary_auroc(values, truth)),
                "average_precision": float(binary_average_precision(values, truth)),
                "support": int(truth.sum()),
            }
    return {
        "macro_auroc": _mean(per_label, "auroc"),
        "macro_average_precision": _mean(per_label, "average_precision"),
        "per_label": per_label,
        "skipped": [name for name in label_names if name not in per_label],
        "num_samples": len(scored),
    }


def _mean(per_label: dict[str, dict[str, float]], key: str) -> float:
    """Return the mean over labels, NaN without any."""
    return sum(values[key] for values in per_label.values()) / len(per_label) if per_label else float("nan")
