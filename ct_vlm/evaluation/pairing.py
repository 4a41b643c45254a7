"""Predictions beside their references, one row a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.errors import DatasetError
from ct_vlm.metrics.functional.inputs import match_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ct_vlm.evaluation.tables import ReportTable

_SHOWN = 5


@dataclass(frozen=True)
class Pairs:
    """Predictions and references in one order.

    Args:
        ids: Volume of each row.
        predictions: Predicted report of each row; ``None`` where it is missing. ``None`` as a whole
            if predictions are labels only.
        references: True report of each row; ``None`` as a whole if there are labels only.
        predicted_labels: Labels that came with the predictions.
        target_labels: Labels that came with the references.
        patients: Patient of each row.
        patients_from: ``file``, or ``reports`` if every report counts as a patient of its own.
        scans: Scan of each row, if known.

    Shape:
        - predicted_labels, target_labels: ``(N, 18)``.
    """

    ids: tuple[str, ...]
    predictions: list[str | None] | None
    references: list[str] | None
    predicted_labels: NDArray[np.float64] | None
    target_labels: NDArray[np.float64] | None
    patients: tuple[str, ...]
    patients_from: str
    scans: tuple[str, ...] | None


def pair_reports(predictions: ReportTable, references: ReportTable, labels: ReportTable | None = None) -> Pairs:
    """Put predictions beside their references.

    A reference without a prediction stays, with a missing prediction. A prediction without a
    reference is an error: it hints at another split or another way to name volumes.

    Args:
        predictions: What a system wrote.
        references: What is true.
        labels: True labels, if they lie in a file of their own.

    Raises:
        DatasetError: If ids do not match or a true report is missing; the message names them.

    Example:
        >>> from ct_vlm.evaluation import ReportTable, pair_reports
        >>> pairs = pair_reports(ReportTable(("b",), ("No nodule.",)), ReportTable(("a", "b"), ("Normal.", "Normal.")))
        >>> pairs.predictions
        [None, 'No nodule.']
    """
    rows = match_ids(predictions.ids, references.ids)
    if all(row is None for row in rows):
        cause = f"No id of `{predictions.source}` occurs in `{references.source}`, e.g. {references.ids[0]!r}."
        raise DatasetError(cause, "Check that both files are of one split and name volumes in the same way.")
    truths = None if references.reports is None else _complete(references)
    patients = references.patients or _pick_texts(predictions.patients, rows)
    return Pairs(
        ids=references.ids,
        predictions=None if predictions.reports is None else _pick(predictions.reports, rows),
        references=truths,
        predicted_labels=_pick_labels(predictions.labels, rows),
        target_labels=references.labels if labels is None else _labels_for(references, labels),
        patients=patients or references.ids,
        patients_from="file" if patients else "reports",
        scans=references.scans or _pick_texts(predictions.scans, rows),
    )


def _complete(references: ReportTable) -> list[str]:
    """Return the true reports, none of which may be missing."""
    reports = references.reports or ()
    missing = [name for name, report in zip(references.ids, reports, strict=True) if not report]
    if missing:
        shown = ", ".join(missing[:_SHOWN])
        cause = f"`{references.source}` has no report for {len(missing)} of {len(reports)} volumes: {shown}."
        raise DatasetError(cause, "Delete these rows, or read another section of the report (`sections`).")
    return [report for report in reports if report]


def _pick(values: Sequence[str | None], rows: Sequence[int | None]) -> list[str | None]:
    """Return the value of each row, ``None`` where there is no row."""
    return [None if row is None else values[row] for row in rows]


def _pick_texts(values: Sequence[str] | None, rows: Sequence[int | None]) -> tuple[str, ...] | None:
    """Return the value of each row, or None if one is missing."""
    if values is None or any(row is None for row in rows):
        return None
    return tuple(values[row] for row in rows if row is not None)


def _pick_labels(labels: NDArray[np.float64] | None, rows: Sequence[int | None]) -> NDArray[np.float64] | None:
    """Return the labels of each row, NaN where there is no row."""
    if labels is None:
        return None
    picked = np.full((len(rows), labels.shape[1]), np.nan)
    for target, row in enumerate(rows):
        if row is not None:
            picked[target] = labels[row]
    return picked


def _labels_for(references: ReportTable, labels: ReportTable) -> NDArray[np.float64]:
    """Return true labels in the references' order; every reference needs some."""
    if labels.labels is None:
        cause = f"`{labels.source}` holds no label columns."
        raise DatasetError(cause, "Pass a table with the 18 labels of CT-RATE.")
    position = {name: row for row, name in enumerate(labels.ids)}
    missing = [name for name in references.ids if name not in position]
    if missing:
        shown = ", ".join(missing[:_SHOWN])
        cause = f"`{labels.source}` has no labels for {len(missing)} of {len(references.ids)} volumes: {shown}."
        raise DatasetError(cause, "Pass labels of the same split.")
    return labels.labels[[position[name] for name in references.ids]]
