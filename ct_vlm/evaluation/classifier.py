"""Scores of label probabilities, at thresholds that were chosen elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.errors import DatasetError
from ct_vlm.evaluation.tables import read_scores
from ct_vlm.evaluation.values import json_values
from ct_vlm.metrics.functional import classifier_scores, fit_thresholds, threshold_scores

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ct_vlm.evaluation.tables import ReportTable

ORACLE = "oracle"
_SPLIT = "calibration"
_SCORES = ("scores", "fixed")


def score_probabilities(
    path: str | Path,
    truth: ReportTable,
    calibration: str | Path | None = None,
    calibration_truth: ReportTable | None = None,
    *,
    zero_division: float = 0.0,
) -> dict[str, Any]:
    """Score label probabilities: ranking, at 0.5, and at calibrated thresholds.

    Args:
        path: Table of probabilities; every volume of it needs true labels.
        truth: True labels of the evaluated volumes.
        calibration: Probabilities of a calibration split; ``"oracle"`` fits thresholds to the
            evaluated data itself, which is no result but an upper bound.
        calibration_truth: True labels of the calibration split.
        zero_division: Value of a ratio with denominator 0.

    Returns:
        ``ranking`` (see :func:`~ct_vlm.metrics.functional.classifier_scores`), ``fixed`` and, with a
        calibration split, ``calibrated`` or ``oracle`` and ``thresholds``.

    Raises:
        DatasetError: If labels are missing, or calibration and evaluation share patients.
    """
    table, values = read_scores(path)
    labels = _labels(table, truth)
    patients = table.patients or table.ids
    fixed = fit_thresholds(values, labels, split="none", method="fixed")
    options: dict[str, Any] = {"patients": patients, "zero_division": zero_division}
    found: dict[str, Any] = {
        "num_volumes": len(table.ids),
        "num_without_probabilities": len(set(truth.ids) - set(table.ids)),
        "ranking": classifier_scores(values, labels),
        "fixed": threshold_scores(values, labels, fixed, **options)["fixed"],
    }
    if calibration is not None:
        if str(calibration) == ORACLE:
            fitted, name = fit_thresholds(values, labels, split=ORACLE, patients=patients), ORACLE
        else:
            fitted, name = _fit(calibration, calibration_truth), "calibrated"
        scored = threshold_scores(values, labels, fitted, **options)
        found |= {name: scored["scores"], "thresholds": {k: v for k, v in scored.items() if k not in _SCORES}}
    return dict(json_values(found))


def _fit(calibration: str | Path, truth: ReportTable | None) -> Any:
    """Fit thresholds on a calibration split."""
    if truth is None:
        cause = f"The calibration split `{calibration}` has no true labels."
        raise DatasetError(cause, "Pass them as `--calibration-labels FILE`.")
    table, values = read_scores(calibration)
    return fit_thresholds(values, _labels(table, truth), split=_SPLIT, patients=table.patients or table.ids)


def _labels(table: ReportTable, truth: ReportTable) -> NDArray[np.float64]:
    """Return the true labels of each volume of a table."""
    if truth.labels is None:
        cause = f"`{truth.source}` holds no true labels, which probabilities are compared with."
        raise DatasetError(cause, "Pass a table with the 18 labels of CT-RATE.")
    rows = {name: row for row, name in enumerate(truth.ids)}
    missing = [name for name in table.ids if name not in rows]
    if missing:
        cause = f"`{truth.source}` has no labels for {len(missing)} of {len(table.ids)} volumes: {missing[:5]}."
        raise DatasetError(cause, f"Check that it is of the split of `{table.source}`.")
    return np.asarray(truth.labels[[rows[name] for name in table.ids]])
