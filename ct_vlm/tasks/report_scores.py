"""Scores of written reports, with the shuffled-image control."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ct_vlm.errors import DatasetError
from ct_vlm.metrics import RuleLabeler, region_scores
from ct_vlm.metrics.functional import clinical_scores, nlg_scores
from ct_vlm.metrics.reliance import other_patient_permutation
from ct_vlm.tasks.list_scores import list_scores
from ct_vlm.text.region_reports import strip_region_prefixes

if TYPE_CHECKING:
    from collections.abc import Sequence

REGION_SCORES = ("micro_precision", "micro_recall", "micro_f1", "bleu_1", "bleu_4", "rouge_l", "coverage")
"""Scores that are kept of each region."""

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

    Reports that were written region by region are scored without the headings of their regions, and
    each region by itself too. Lists of abnormalities before a report are scored by themselves, see
    :func:`ct_vlm.tasks.list_scores.list_scores`; the other scores are those of the report alone.

    Args:
        records: ``prediction``, ``reference`` and optionally ``labels``, ``patient_id``, ``region_reports``
            and ``region_references``, ``abnormalities`` and ``abnormalities_reference`` each.
        shuffle_seed: Seed of the permutation.
        labeler: Finds the labels in reports; the rule labeler of CT-RATE's 18 labels by default.

    Returns:
        Label scores, BLEU, ROUGE-L, CIDEr, ``distinct_reports`` and ``shuffled_*`` label scores, and
        ``region/<name>/*`` and ``regions/*`` (their mean), ``list/*`` and ``both/*``; empty without references.
    """
    records = [_plain(r) for r in records if r.get("reference") is not None or r.get("labels") is not None]
    if not records:
        return {}
    labeler = labeler or RuleLabeler()
    predictions = [r["prediction"] for r in records]
    scores = _label_scores(records, labeler, shuffle_seed)
    scores["distinct_reports"] = len(set(predictions))
    if all(r.get("reference") is not None for r in records):
        # METEOR and BERTScore need resources that a training machine may lack
        scores.update(nlg_scores(predictions, [r["reference"] for r in records], metrics=("bleu", "rouge", "cider")))
    scores.update(_region_scores(records, labeler))
    if all(r.get("abnormalities") is not None for r in records):
        scores.update(list_scores(records, labeler, _targets(records, labeler)))
    return scores


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record whose texts have no headings of regions: they would count as words of the report."""
    written = record.get("region_reports")
    if written is None:
        return record
    plain = {**record, "prediction": " ".join(text for text in written.values() if text.strip())}
    if record.get("reference") is not None:
        plain["reference"] = strip_region_prefixes(record["reference"], written)
    return plain


def _region_scores(records: Sequence[dict[str, Any]], labeler: Labeler) -> dict[str, float]:
    """Return scores by region, of records that hold texts of the same regions."""
    if any(r.get("region_reports") is None or r.get("region_references") is None for r in records):
        return {}
    regions = list(dict.fromkeys(name for record in records for name in record["region_reports"]))
    found = region_scores(
        [r["region_reports"] for r in records], [r["region_references"] for r in records], regions, labeler=labeler
    )
    rows = {f"region/{name}": scores for name, scores in found.regions.items()} | {"regions": found.mean}
    return {
        f"{row}/{key}": v for row, scores in rows.items() for key in REGION_SCORES if (v := scores.get(key)) is not None
    }


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
