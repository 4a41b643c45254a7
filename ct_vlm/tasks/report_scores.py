"""Scores of written reports, with the shuffled-image control."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.metrics import RuleLabeler
from ct_vlm.metrics.functional import clinical_scores, nlg_scores
from ct_vlm.metrics.reliance import other_patient_permutation

if TYPE_CHECKING:
    from collections.abc import Sequence


def score_reports(records: Sequence[dict[str, Any]], shuffle_seed: int = 0) -> dict[str, Any]:
    """Score predicted reports against their references, and against another patient's.

    Labels of a prediction come from the rule labeler; labels of a reference from the data set
    where it has them, else from the rule labeler too. A model that ignores the image scores the
    same against another patient's reference as against its own.

    Args:
        records: ``prediction``, ``reference`` and optionally ``labels`` and ``patient_id`` each.
        shuffle_seed: Seed of the permutation.

    Returns:
        Label scores, BLEU, ``distinct_reports`` and ``shuffled_*`` label scores; empty without
        references.
    """
    records = [r for r in records if r.get("reference") is not None or r.get("labels") is not None]
    if not records:
        return {}
    labeler = RuleLabeler()
    predictions = [r["prediction"] for r in records]
    predicted = np.asarray(labeler(predictions))
    targets = _targets(records, labeler)
    scores: dict[str, Any] = {**clinical_scores(predicted, targets), "labeler": "rules"}
    scores["distinct_reports"] = len(set(predictions))
    if all(r.get("reference") is not None for r in records):
        scores.update(nlg_scores(predictions, [r["reference"] for r in records]))
    patients = [r.get("patient_id", r["id"]) for r in records]
    if len(set(patients)) > 1:
        order = np.asarray(other_patient_permutation(patients, shuffle_seed))
        shuffled = clinical_scores(predicted[order], targets)
        scores.update({f"shuffled_{k}": v for k, v in shuffled.items()})
    return scores


def _targets(records: Sequence[dict[str, Any]], labeler: RuleLabeler) -> np.ndarray:
    if all(r.get("labels") is not None for r in records):
        return np.asarray([r["labels"] for r in records], dtype=float)
    return np.asarray(labeler([r["reference"] for r in records]), dtype=float)
