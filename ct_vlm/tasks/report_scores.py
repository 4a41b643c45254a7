"""Scores of written reports, with the shuffled-image control."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ct_vlm.errors import DatasetError
from ct_vlm.metrics import RuleLabeler
from ct_vlm.metrics.functional import clinical_scores, nlg_scores
from ct_vlm.metrics.reliance import other_patient_permutation

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger(__name__)


class Labeler(Protocol):
    """What finds labels in reports, as :class:`ct_vlm.metrics.RuleLabeler` does.

    Attributes:
        name: Put beside the scores.
        label_names: The labels, in the order of the columns.
    """

    name: str
    label_names: tuple[str, ...]

    def __call__(self, texts: Sequence[str | None]) -> Any:
        """Return 0 or 1 for each report and label."""


def score_reports(
    records: Sequence[dict[str, Any]], shuffle_seed: int = 0, labeler: Labeler | None = None
) -> dict[str, Any]:
    """Score predicted reports against their references, and against another patient's.

    Labels of a prediction come from the labeler; labels of a reference from the data set where it
    has them, else from the labeler too. A model that ignores the image scores the same against
    another patient's reference as against its own.

    Scores that the records do not allow are left out with a warning, never an error: the reports
    have been written by then.

    Args:
        records: ``prediction``, ``reference`` and optionally ``labels`` and ``patient_id`` each.
        shuffle_seed: Seed of the permutation.
        labeler: Finds the labels in reports; the rule labeler of CT-RATE's 18 labels by default.

    Returns:
        Label scores, BLEU, ROUGE-L, CIDEr, ``distinct_reports`` and ``shuffled_*`` label scores; empty without
        references.
    """
    records = [r for r in records if r.get("reference") is not None or r.get("labels") is not None]
    if not records:
        return {}
    labeler = labeler or RuleLabeler()
    predictions = [r["prediction"] for r in records]
    scores = _label_scores(records, labeler, shuffle_seed)
    scores["distinct_reports"] = len(set(predictions))
    if all(r.get("reference") is not None for r in records):
        # METEOR and BERTScore need resources that a training machine may lack
        scores.update(nlg_scores(predictions, [r["reference"] for r in records], metrics=("bleu", "rouge", "cider")))
    return scores


def _label_scores(records: Sequence[dict[str, Any]], labeler: Labeler, shuffle_seed: int) -> dict[str, Any]:
    targets = _targets(records, labeler)
    if targets is None:
        return {}
    names = labeler.label_names
    predicted = np.asarray(labeler([r["prediction"] for r in records]))
    scores: dict[str, Any] = {**clinical_scores(predicted, targets, names), "labeler": labeler.name}
    patients = [r.get("patient_id", r["id"]) for r in records]
    if len(set(patients)) == 1:
        return scores
    try:
        order = np.asarray(other_patient_permutation(patients, shuffle_seed))
    except DatasetError as error:
        _log.warning("No score against other patients' reports. %s", error)
        return scores
    shuffled = clinical_scores(predicted[order], targets, names)
    return {**scores, **{f"shuffled_{key}": value for key, value in shuffled.items()}}


def _targets(records: Sequence[dict[str, Any]], labeler: Labeler) -> np.ndarray | None:
    """Return the true labels, or None where they are not the labeler's."""
    if not all(r.get("labels") is not None for r in records):
        # some have labels alone: then there is no text to label for them
        if any(r.get("reference") is None for r in records):
            _log.warning("No label scores: some samples have neither a reference report nor labels of all samples.")
            return None
        return np.asarray(labeler([r["reference"] for r in records]), dtype=float)
    widths = {len(r["labels"]) for r in records}
    if widths != {len(labeler.label_names)}:
        _log.warning(
            "No label scores: the samples have %s labels, but the labeler finds %d.",
            sorted(widths),
            len(labeler.label_names),
        )
        return None
    return np.asarray([r["labels"] for r in records], dtype=float)
