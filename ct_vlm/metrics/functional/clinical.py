"""Clinical efficacy: precision, recall and F1 of abnormality labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torchmetrics.functional.classification import multilabel_stat_scores

from ct_vlm.metrics.functional.inputs import as_label_matrix, check_pairs
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_IGNORED = -1


class LabelCounts(NamedTuple):
    """Sums that clinical scores are made of; adding two of them adds two sets of reports.

    Args:
        per_label: True positives, false positives, true negatives and false negatives of each label.
        sample_sums: Sums over reports of a report's precision, recall and F1.
        totals: Number of reports, of reports with a known label, of missing predictions, of ignored
            targets.

    Shape:
        - per_label: ``(K, 4)``.
        - sample_sums: ``(3,)``.
        - totals: ``(4,)``.
    """

    per_label: Tensor
    sample_sums: Tensor
    totals: Tensor


def clinical_scores(predictions: Any, targets: Any, label_names: Sequence[str] = CT_RATE_LABELS) -> dict[str, Any]:
    """Score predicted labels against true ones, as scikit-learn does with ``zero_division=0``.

    All four averages are given because they differ widely and papers rarely say which one they
    print: ``micro`` pools all cells, ``macro`` is the plain mean over labels, ``weighted`` the mean
    by support, ``samples`` the mean over reports (where a report without findings that is rightly
    left empty scores 0, by the same convention).

    Args:
        predictions: 0/1 labels; a row of ``None`` or a NaN is a missing prediction and counts as
            negative.
        targets: 0/1 labels, NaN where unknown: such a cell is left out.
        label_names: Name of each column.

    Returns:
        ``{micro,macro,weighted,samples}_{precision,recall,f1}``; ``per_label`` with precision,
        recall, F1 and support of each; ``support`` (all positives), ``num_samples``, ``coverage``
        (share of reports with a prediction), ``missing_predictions``, ``ignored_targets`` and
        ``zero_division``.

    Shape:
        - predictions, targets: ``(B, K)``.

    Raises:
        ShapeError: If sizes differ.
        DatasetError: If a value is neither 0, 1 nor NaN.

    Example:
        >>> from ct_vlm.metrics.functional import clinical_scores
        >>> scores = clinical_scores([[1, 0], [1, 1]], [[1, 0], [0, 1]], ["Nodule", "Effusion"])
        >>> round(scores["micro_f1"], 3), round(scores["macro_f1"], 3), scores["coverage"]
        (0.8, 0.833, 1.0)

    References:
        [1] scikit-learn ``precision_recall_fscore_support``.
    """
    return compute_scores(count_labels(predictions, targets, len(label_names)), label_names)


def count_labels(predictions: Any, targets: Any, num_labels: int) -> LabelCounts:
    """Count what :func:`compute_scores` needs.

    Args:
        predictions: 0/1/NaN labels.
        targets: 0/1/NaN labels.
        num_labels: Columns K.

    Shape:
        - predictions, targets: ``(B, K)``.
    """
    predicted = as_label_matrix(predictions, "predictions", num_labels)
    known_targets = as_label_matrix(targets, "targets", num_labels)
    check_pairs(predicted, known_targets)  # type: ignore[arg-type]
    unknown = torch.isnan(known_targets)
    no_prediction = torch.isnan(predicted).all(dim=1)
    totals = torch.tensor(
        [len(predicted), int((~unknown).any(dim=1).sum()), int(no_prediction.sum()), int(unknown.sum())]
    )
    if not len(predicted):
        return LabelCounts(torch.zeros(num_labels, 4, dtype=torch.long), torch.zeros(3, dtype=torch.float64), totals)
    # one count a cell; summed over reports or over labels below
    cells = multilabel_stat_scores(
        torch.nan_to_num(predicted, nan=0.0).long().unsqueeze(-1),
        known_targets.masked_fill(unknown, _IGNORED).long().unsqueeze(-1),
        num_labels=num_labels,
        average="none",
        multidim_average="samplewise",
        ignore_index=_IGNORED,
        validate_args=False,
    )
    cells = cells.reshape(len(predicted), num_labels, -1)[..., :4]  # torchmetrics drops the axis of a single report
    return LabelCounts(cells.sum(dim=0), torch.stack(_ratios(cells.sum(dim=1)), dim=-1).sum(dim=0), totals)


def compute_scores(counts: LabelCounts, label_names: Sequence[str]) -> dict[str, Any]:
    """Turn counts into scores.

    Args:
        counts: Sums over all reports.
        label_names: Name of each label.
    """
    per_label = counts.per_label.cpu()
    precision, recall, f1 = _ratios(per_label)
    support = (per_label[:, 0] + per_label[:, 3]).double()
    num_samples, num_known, missing, ignored = counts.totals.tolist()
    averages = {
        "micro": torch.stack(_ratios(per_label.sum(dim=0))),
        "macro": torch.stack([precision, recall, f1]).mean(dim=1),
        "weighted": torch.stack([precision, recall, f1]) @ support / support.sum().clamp(min=1),
        "samples": counts.sample_sums.cpu() / max(num_known, 1),
    }
    scores: dict[str, Any] = {
        f"{average}_{name}": float(value)
        for average, values in averages.items()
        for name, value in zip(("precision", "recall", "f1"), values, strict=True)
    }
    scores["per_label"] = {
        name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)}
        for name, p, r, f, s in zip(label_names, precision, recall, f1, support, strict=True)
    }
    return scores | {
        "support": int(support.sum()),
        "num_samples": num_samples,
        "coverage": 1 - missing / num_samples if num_samples else 0.0,
        "missing_predictions": missing,
        "ignored_targets": ignored,
        "zero_division": 0,
    }


def _ratios(counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return precision, recall and F1 from ``(..., 4)`` counts, 0 where undefined."""
    tp, fp, _, fn = counts.double().unbind(dim=-1)
    return tp / (tp + fp).clamp(min=1), tp / (tp + fn).clamp(min=1), 2 * tp / (2 * tp + fp + fn).clamp(min=1)
