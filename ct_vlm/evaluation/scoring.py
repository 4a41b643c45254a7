"""All scores of one system's reports in one call."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ct_vlm import __version__
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.evaluation.cases import Case, make_cases
from ct_vlm.evaluation.labelers import GIVEN, get_labeler, label_texts
from ct_vlm.evaluation.progress import step
from ct_vlm.evaluation.values import json_values
from ct_vlm.metrics.functional import (
    bootstrap,
    clinical_scores,
    clinical_statistics,
    collapse_scores,
    crg_score,
    nlg_scores,
    nlg_statistics,
)
from ct_vlm.metrics.functional.nlg import choose_families
from ct_vlm.metrics.functional.overlap import RESAMPLED
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ct_vlm.evaluation.pairing import Pairs
    from ct_vlm.metrics.clinical import Labeler
    from ct_vlm.metrics.functional.overlap import NlgStatistics
    from ct_vlm.metrics.functional.statistics import ClinicalStatistics

FORMAT = 1


@dataclass(frozen=True)
class Settings:
    """What scores depend on besides the reports.

    Args:
        protocol: Protocol of the word-overlap scores.
        metrics: Families or names of word-overlap scores; all that can be computed by default.
        labeler: As in :func:`ct_vlm.evaluation.get_labeler`.
        group_by: ``first``, ``any`` or ``mean`` to score scans rather than volumes.
        zero_division: Value of a ratio with denominator 0.
        n_resamples: Bootstrap resamples; 0 for no intervals.
        confidence: Nominal coverage of the intervals.
        seed: Seed of the resamples.
        bertscore_model: Folder of a model for BERTScore.
        progress: Show progress on a terminal.
    """

    protocol: str = "vlm3d"
    metrics: Collection[str] | None = None
    labeler: str | Labeler | Callable[[Sequence[str]], Any] = "rules"
    group_by: str | None = None
    zero_division: float = 0.0
    n_resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0
    bertscore_model: str | Path | None = None
    progress: bool = False


@dataclass(frozen=True)
class Evaluation:
    """Scores of one system.

    Args:
        scores: JSON values: ``nlg``, ``clinical``, ``crg``, ``collapse`` and ``intervals`` (score to
            ``value``, ``low``, ``high``), beside what they depend on.
        cases: One record a report, for a closer look.
        text_statistics: What word-overlap scores were computed from, for comparisons; None without
            reports.
        label_statistics: The same of the clinical scores; None without labels.
        patients: Patient of each report.
        predicted_labels: Labels of the predictions, NaN for a missing one; None without labels.
        target_labels: True labels; None without labels.

    Shape:
        - predicted_labels, target_labels: ``(N, 18)``.
    """

    scores: dict[str, Any]
    cases: list[Case]
    text_statistics: NlgStatistics | None
    label_statistics: ClinicalStatistics | None
    patients: tuple[str, ...]
    predicted_labels: NDArray[np.float64] | None = None
    target_labels: NDArray[np.float64] | None = None


def evaluate(pairs: Pairs, settings: Settings | None = None) -> Evaluation:
    """Score reports: word overlap, clinical efficacy, CRG and collapse, with intervals over patients.

    Labels of a side that came with the files are used as they are (``given``); the labeler labels the
    texts of the other. Every value in the result names its protocol and its labelers.

    Args:
        pairs: From :func:`ct_vlm.evaluation.pair_reports`.
        settings: Protocol, labeler, resamples.

    Raises:
        DatasetError: If there is nothing to score.
        ConfigError: If a setting is unknown.

    Example:
        >>> from ct_vlm.evaluation import ReportTable, Settings, evaluate, pair_reports
        >>> truth = ReportTable(("a", "b"), ("Heart size increased.", "No nodule."))
        >>> found = evaluate(pair_reports(truth, truth), Settings(n_resamples=0, metrics=["bleu"]))
        >>> found.scores["clinical"]["micro_f1"], round(found.scores["nlg"]["bleu_1"], 3)
        (1.0, 1.0)
    """
    chosen = settings or Settings()
    labels = _score_labels(pairs, chosen)
    text_scores, text_statistics = _score_texts(pairs, chosen)
    if text_statistics is None and labels is None:
        cause = "There is nothing to score: no reports on both sides, and no labels."
        raise DatasetError(cause, "Pass files with reports, or with the 18 labels and `labeler='given'`.")
    statistics = None if labels is None else labels.statistics
    scores: dict[str, Any] = {
        "format": FORMAT,
        "ct_vlm": __version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "num_reports": len(pairs.ids),
        "num_patients": len(set(pairs.patients)),
        "patients_from": pairs.patients_from,
        "nlg": text_scores,
        "clinical": None if labels is None else labels.clinical,
        "crg": None if labels is None else labels.crg,
        "collapse": _collapse(pairs, labels),
        "intervals": {},
        "notes": [],
    }
    if chosen.n_resamples and scores["num_patients"] < 2:
        scores["notes"].append("no intervals: they are drawn over patients, and there is only one")
    elif chosen.n_resamples:
        scores["intervals"] = _intervals(pairs, text_statistics, statistics, chosen)
        scores["resamples"] = {
            "method": "percentile bootstrap over patients",
            "n_resamples": chosen.n_resamples,
            "confidence": chosen.confidence,
            "seed": chosen.seed,
        }
    cases = make_cases(pairs, text_statistics, None if labels is None else (labels.predicted, labels.target))
    predicted, target = (None, None) if labels is None else (labels.predicted, labels.target)
    return Evaluation(json_values(scores), cases, text_statistics, statistics, pairs.patients, predicted, target)


@dataclass(frozen=True)
class _Labels:
    """Labels of both sides and what was computed from them."""

    predicted: NDArray[np.float64]
    target: NDArray[np.float64]
    clinical: dict[str, Any]
    crg: dict[str, float]
    statistics: ClinicalStatistics


def _score_texts(pairs: Pairs, settings: Settings) -> tuple[dict[str, Any] | None, NlgStatistics | None]:
    """Return word-overlap scores and their statistics."""
    if pairs.predictions is None or pairs.references is None:
        return None, None
    texts = (pairs.predictions, pairs.references, settings.protocol)
    with step("Counting words", show=settings.progress):
        families = choose_families(settings.metrics, settings.bertscore_model)
        statistics = nlg_statistics(*texts, [name for name in families if name in RESAMPLED])
        scores = nlg_scores(*texts, settings.metrics, settings.bertscore_model, statistics)
    return scores, statistics


def _score_labels(pairs: Pairs, settings: Settings) -> _Labels | None:
    """Return clinical scores; None if a side has neither labels nor reports to label."""
    labeler = get_labeler(settings.labeler)
    show = settings.progress
    target, target_source = _labels_of(pairs.target_labels, pairs.references, labeler, "references", progress=show)
    predicted, source = _labels_of(pairs.predicted_labels, pairs.predictions, labeler, "predictions", progress=show)
    if target is None or predicted is None:
        if labeler is None:
            side = "references" if target is None else "predictions"
            cause = f"`labeler='given'` asks for labels in the files, but the {side} have none."
            raise ConfigError(cause, "Pass a file with the 18 labels, or another labeler.")
        return None
    if settings.group_by is not None and pairs.scans is None:
        cause = "Scans are not known, so reports cannot be grouped by them."
        raise DatasetError(cause, "Add a column `study_id`, or use CT-RATE's volume names.")
    options: dict[str, Any] = {"zero_division": settings.zero_division}
    if settings.group_by is not None:
        options |= {"scans": pairs.scans, "group_by": settings.group_by}
    clinical = clinical_scores(predicted, target, CT_RATE_LABELS, **options)
    clinical |= {"labeler": source, "target_labeler": target_source}
    statistics = clinical_statistics(predicted, target, CT_RATE_LABELS, **options)
    return _Labels(predicted, target, clinical, crg_score(predicted, target), statistics)


def _collapse(pairs: Pairs, labels: _Labels | None) -> dict[str, Any] | None:
    """Return how far the reports differ from each other, in words and labels."""
    if pairs.predictions is None:
        return None
    sets = () if labels is None else (labels.predicted, labels.target)
    return collapse_scores(pairs.predictions, *sets)


def _labels_of(
    given: NDArray[np.float64] | None,
    texts: Sequence[str | None] | None,
    labeler: Labeler | None,
    what: str,
    *,
    progress: bool,
) -> tuple[NDArray[np.float64] | None, str]:
    """Return the labels of one side (NaN for a missing report) and where they are from."""
    if given is not None:
        return given, GIVEN
    if texts is None or labeler is None:
        return None, ""
    return label_texts(texts, labeler, what, progress=progress), labeler.name


def _intervals(
    pairs: Pairs, texts: NlgStatistics | None, labels: ClinicalStatistics | None, settings: Settings
) -> dict[str, Any]:
    """Return the interval of every score that can be resampled."""
    found: dict[str, Any] = {}
    for statistics, rows in ((texts, range(len(pairs.ids))), (labels, None if labels is None else labels.rows)):
        if statistics is None or rows is None:
            continue
        result = bootstrap(
            statistics,
            [pairs.patients[row] for row in rows],
            n_resamples=settings.n_resamples,
            confidence=settings.confidence,
            seed=settings.seed,
            progress=settings.progress,
        )
        found |= {name: interval.to_dict() for name, interval in result.scores.items()}
    return found
