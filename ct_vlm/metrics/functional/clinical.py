"""Clinical efficacy: precision, recall and F1 of abnormality labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ct_vlm.metrics.functional.inputs import as_label_matrix, check_pairs
from ct_vlm.metrics.functional.ratios import NAMES, check_zero_division, mean, ratios
from ct_vlm.metrics.functional.scans import group_scans
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]


class LabelCounts(NamedTuple):
    """Sums that clinical scores are made of; adding two of them adds two sets of reports.

    Args:
        per_label: True positives, false positives, true negatives and false negatives of each label.
        sample_sums: Sums over reports of a report's precision, recall and F1, and how many reports
            have each.
        totals: Number of reports, of reports with a known label, of missing predictions, of ignored
            targets.

    Shape:
        - per_label: ``(K, 4)``.
        - sample_sums: ``(2, 3)``.
        - totals: ``(4,)``.
    """

    per_label: Array
    sample_sums: Array
    totals: Array


def clinical_scores(
    predictions: Any,
    targets: Any,
    label_names: Sequence[str] = CT_RATE_LABELS,
    *,
    zero_division: float = 0.0,
    scans: Sequence[Hashable] | None = None,
    group_by: str | None = None,
) -> dict[str, Any]:
    """Score predicted labels against true ones, as scikit-learn does.

    All four averages are given because they differ widely and papers rarely say which one they
    print: ``micro`` pools all cells, ``macro`` is the plain mean over labels, ``weighted`` the mean
    by support, ``samples`` the mean over reports (where a report without findings that is rightly
    left empty scores 0 under ``zero_division=0`` and 1 under ``zero_division=1``).

    Several reconstructions of one scan share one report. By default every volume counts. With
    ``scans`` the unit is the scan: see :func:`~ct_vlm.metrics.functional.scans.group_scans` for what
    ``first``, ``any`` and ``mean`` do.

    Args:
        predictions: 0/1 labels; a row of ``None`` or a NaN is a missing prediction and counts as
            negative.
        targets: 0/1 labels, NaN where unknown: such a cell is left out.
        label_names: Name of each column.
        zero_division: Value of a ratio with denominator 0: 0 (scikit-learn's default, and the
            field's), 1, or NaN to leave it out of the averages.
        scans: Scan of each row, to score scans rather than volumes.
        group_by: ``"first"``, ``"any"`` or ``"mean"``; needed with ``scans``.

    Returns:
        ``{micro,macro,weighted,samples}_{precision,recall,f1}``; ``per_label`` with precision,
        recall, F1, support and the counts tp, fp, fn, tn of each; ``support`` (all positives),
        ``num_samples``, ``coverage`` (share of reports with a prediction), ``missing_predictions``,
        ``ignored_targets``, ``zero_division``, ``unit`` (``"volume"`` or ``"scan"``) and
        ``group_by``.

    Shape:
        - predictions, targets: ``(B, K)``.
        - scans: ``(B,)``.

    Raises:
        ShapeError: If sizes differ.
        DatasetError: If a value is neither 0, 1 nor NaN.
        ConfigError: If ``group_by`` or ``zero_division`` is unknown.

    Example:
        >>> from ct_vlm.metrics.functional import clinical_scores
        >>> scores = clinical_scores([[1, 0], [1, 1]], [[1, 0], [0, 1]], ["Nodule", "Effusion"])
        >>> round(scores["micro_f1"], 3), round(scores["macro_f1"], 3), scores["coverage"]
        (0.8, 0.833, 1.0)

    References:
        [1] scikit-learn ``precision_recall_fscore_support``.
    """
    counts = count_labels(predictions, targets, len(label_names), zero_division, scans, group_by)
    scores = compute_scores(counts, label_names, zero_division)
    return scores | {"unit": "volume" if scans is None else "scan", "group_by": group_by}


def count_labels(
    predictions: Any,
    targets: Any,
    num_labels: int,
    zero_division: float = 0.0,
    scans: Sequence[Hashable] | None = None,
    group_by: str | None = None,
) -> LabelCounts:
    """Count what :func:`compute_scores` needs.

    Args:
        predictions: 0/1/NaN labels.
        targets: 0/1/NaN labels.
        num_labels: Columns K.
        zero_division: Value of a report's ratio with denominator 0.
        scans: Scan of each row.
        group_by: How rows of one scan are joined.

    Shape:
        - predictions, targets: ``(B, K)``.
    """
    rows, _ = count_rows(predictions, targets, num_labels, zero_division, scans, group_by)
    return sum_rows(rows.sum(axis=0), num_labels)


def count_rows(
    predictions: Any,
    targets: Any,
    num_labels: int,
    zero_division: float = 0.0,
    scans: Sequence[Hashable] | None = None,
    group_by: str | None = None,
) -> tuple[Array, NDArray[np.int64]]:
    """Return the counts of each report, so that any set of reports is scored by a sum of rows.

    Args:
        predictions: 0/1/NaN labels.
        targets: 0/1/NaN labels.
        num_labels: Columns K.
        zero_division: Value of a report's ratio with denominator 0.
        scans: Scan of each row.
        group_by: How rows of one scan are joined.

    Returns:
        Counts, for :func:`sum_rows`, and the input row that each of them (or its scan) begins with.

    Shape:
        - predictions, targets: ``(B, K)``.
        - Output: ``(N, 4 K + 10)`` and ``(N,)``; N = B, or the number of scans.
    """
    check_zero_division(zero_division)
    predicted = as_label_matrix(predictions, "predictions", num_labels).double().numpy()
    known = as_label_matrix(targets, "targets", num_labels).double().numpy()
    check_pairs(predicted, known)
    predicted, known, weights, first = group_scans(predicted, known, scans, group_by)
    unknown = np.isnan(known)
    no_prediction = np.isnan(predicted).all(axis=1) if num_labels else np.zeros(len(predicted), bool)
    said = predicted == 1
    cells = np.stack([said & (known == 1), said & (known == 0), ~said & (known == 0), ~said & (known == 1)], axis=1)
    tp, fp, _, fn = cells.sum(axis=2, dtype=np.float64).T
    per_report = ratios(tp, fp, fn, zero_division)
    has_known = np.asarray((~unknown).any(axis=1))
    defined = has_known[:, None] & ~np.isnan(per_report)
    totals = np.stack([np.ones(len(known)), has_known, no_prediction, unknown.sum(axis=1)], axis=1)
    columns = [cells.reshape(len(cells), 4 * num_labels), np.where(defined, per_report, 0.0), defined, totals]
    return np.concatenate(columns, axis=1, dtype=np.float64) * weights[:, None], first


def sum_rows(sums: Array, num_labels: int) -> LabelCounts:
    """Name the columns of summed :func:`count_rows`.

    Args:
        sums: Sums over reports; leading axes stay.
        num_labels: Columns K.

    Shape:
        - sums: ``(..., 4 K + 10)``.
        - Output: as :class:`LabelCounts`, with the leading axes.
    """
    lead, end = sums.shape[:-1], 4 * num_labels
    per_label = np.moveaxis(sums[..., :end].reshape(*lead, 4, num_labels), -2, -1)
    return LabelCounts(per_label, sums[..., end : end + 6].reshape(*lead, 2, 3), sums[..., end + 6 :])


def average_scores(counts: LabelCounts, zero_division: float = 0.0) -> tuple[dict[str, Array], Array]:
    """Return the four averages and the scores of each label.

    Args:
        counts: Sums over reports; leading axes stay.
        zero_division: Value of a ratio with denominator 0.

    Shape:
        - Output: averages ``(..., 3)`` each, labels ``(..., K, 3)``; the last axis is precision,
          recall and F1.
    """
    tp, fp, _, fn = np.moveaxis(counts.per_label, -1, 0)
    per_label = ratios(tp, fp, fn, zero_division)
    sums, reports = counts.sample_sums[..., 0, :], counts.sample_sums[..., 1, :]
    averages = {
        "micro": ratios(tp.sum(axis=-1), fp.sum(axis=-1), fn.sum(axis=-1), zero_division),
        "macro": mean(per_label),
        "weighted": mean(per_label, tp + fn),
        "samples": np.divide(sums, reports, out=np.full(sums.shape, float(zero_division)), where=reports > 0),
    }
    return averages, per_label


def compute_scores(counts: LabelCounts, label_names: Sequence[str], zero_division: float = 0.0) -> dict[str, Any]:
    """Turn counts into scores.

    Args:
        counts: Sums over all reports.
        label_names: Name of each label.
        zero_division: Value of a ratio with denominator 0.
    """
    averages, per_label = average_scores(counts, zero_division)
    scores: dict[str, Any] = {
        f"{average}_{name}": float(value)
        for average, values in averages.items()
        for name, value in zip(NAMES, values, strict=True)
    }
    scores["per_label"] = {
        label: {
            **dict(zip(NAMES, map(float, values), strict=True)),
            "support": _number(cells[0] + cells[3]),
            **dict(zip(("tp", "fp", "tn", "fn"), map(_number, cells), strict=True)),
        }
        for label, values, cells in zip(label_names, per_label, counts.per_label, strict=True)
    }
    num_samples, _, missing, ignored = (_number(total) for total in counts.totals)
    return scores | {
        "support": _number(counts.per_label[:, [0, 3]].sum()),
        "num_samples": num_samples,
        "coverage": 1 - missing / num_samples if num_samples else 0.0,
        "missing_predictions": missing,
        "ignored_targets": ignored,
        "zero_division": zero_division,
    }


def _number(value: Any) -> float:
    """Return a whole number as int; means over the volumes of a scan may be fractions."""
    number = round(float(value), 9)
    return int(number) if number.is_integer() else number
