"""CRG score: label agreement that neither silence nor alarm can win."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.metrics.functional.inputs import as_label_matrix, check_pairs
from ct_vlm.metrics.functional.ratios import crg_of_counts

if TYPE_CHECKING:
    from torch import Tensor


def crg_score(predictions: Any, targets: Any) -> dict[str, float]:
    r"""Return the CRG score of a set of reports.

    With X cells, A of them positive, :math:`r = (X - A) / 2A`, :math:`U = (X - A) / 2` and
    :math:`s = r \cdot TP - r \cdot FN - FP`, the score is :math:`U / (2U - s)`: 1 for perfect
    labels, 1/3 for all-negative and for all-positive ones, 1/5 for all-wrong ones. It is a corpus
    score, not a mean over reports.

    Args:
        predictions: 0/1 labels; NaN or a row of ``None`` counts as negative.
        targets: 0/1 labels; cells that are NaN are left out.

    Returns:
        ``crg`` (NaN without a positive target, where it is undefined), the counts ``tp``, ``fn``,
        ``fp``, ``positives`` and ``cells``.

    Shape:
        - predictions, targets: ``(B, K)``.

    Raises:
        ShapeError: If sizes differ, or there are no columns.
        DatasetError: If a value is neither 0, 1 nor NaN.

    Example:
        >>> from ct_vlm.metrics.functional import crg_score
        >>> crg_score([[1, 0], [0, 1]], [[1, 0], [0, 1]])["crg"]
        1.0

    References:
        [1] Hamamci et al., CRG score, 2025, https://arxiv.org/abs/2505.17167.
        [2] VLM3D challenge, ``reportgen_evaluation/crg_score.py``; it raises without a positive.
    """
    return compute_crg(count_crg(predictions, targets))


def count_crg(predictions: Any, targets: Any) -> Tensor:
    """Count true positives, false negatives, false positives and known cells.

    Args:
        predictions: 0/1/NaN labels.
        targets: 0/1/NaN labels.

    Shape:
        - predictions, targets: ``(B, K)``.
        - Output: ``(4,)``.
    """
    width = _width(targets)
    known = as_label_matrix(targets, "targets", width)
    predicted = torch.nan_to_num(as_label_matrix(predictions, "predictions", width), nan=0.0)
    check_pairs(predicted, known)
    positive, negative = known == 1, known == 0
    counts = [
        positive & (predicted == 1),
        positive & (predicted == 0),
        negative & (predicted == 1),
        positive | negative,
    ]
    return torch.stack([cells.sum() for cells in counts])


def compute_crg(counts: Tensor) -> dict[str, float]:
    """Turn counts into the score.

    Args:
        counts: Output of :func:`count_crg`, summed over reports.

    Shape:
        - counts: ``(4,)``.
    """
    tp, fn, fp, cells = counts.tolist()
    found = {"tp": tp, "fn": fn, "fp": fp, "positives": tp + fn, "cells": cells}
    return {"crg": float(crg_of_counts(tp, fn, fp, cells)), **found}


def _width(targets: Any) -> int:
    """Return the number of columns of a matrix or of the first row that has any."""
    shape = getattr(targets, "shape", None)
    if shape is not None:
        return int(shape[-1]) if len(shape) else 0
    return next((len(row) for row in targets if hasattr(row, "__len__")), 0)
