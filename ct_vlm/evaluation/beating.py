"""Scores of reports that need no image: what a system must beat."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.evaluation.labelers import get_labeler, label_texts
from ct_vlm.evaluation.progress import step
from ct_vlm.evaluation.scoring import Settings, evaluate
from ct_vlm.metrics import CallableLabeler, TemplateWriter, frequent_report, random_reports, retrieve_reports
from ct_vlm.metrics.functional.nlg import choose_families
from ct_vlm.metrics.functional.overlap import RESAMPLED

if TYPE_CHECKING:
    from ct_vlm.evaluation.pairing import Pairs
    from ct_vlm.evaluation.scoring import Evaluation
    from ct_vlm.evaluation.tables import ReportTable
    from ct_vlm.metrics.clinical import Labeler

ORACLE = " (oracle)"


def baseline_scores(pairs: Pairs, found: Evaluation, train: ReportTable, settings: Settings) -> dict[str, Any]:
    """Score reports made of training reports in the way that a system's were scored.

    ========================  ==========================================================
    baseline                  what it knows besides training reports
    ========================  ==========================================================
    most frequent report      nothing
    random reports            nothing
    template                  the labels of the system's own reports
    retrieval by labels       the labels of the system's own reports
    template (oracle)         the true labels
    ========================  ==========================================================

    A system that does not beat the template of its own labels at word overlap writes no more than its
    labels. METEOR and BERTScore are left out, and there are no intervals.

    Args:
        pairs: The system's reports.
        found: Their scores.
        train: Training reports, with labels or without.
        settings: As the system was scored.

    Returns:
        Baseline to ``nlg``, ``clinical`` and ``crg`` as of :func:`ct_vlm.evaluation.evaluate`.

    Raises:
        ConfigError: If no labeler can label what baselines write.
        DatasetError: If there are no training reports, no texts to compare with, no labels, or a
            training report is one of the evaluated volumes'.

    Example:
        >>> from ct_vlm.evaluation import ReportTable, Settings, baseline_scores, evaluate, pair_reports
        >>> truth = ReportTable(("a", "b"), ("Heart size increased.", "No nodule."))
        >>> train = ReportTable(("x", "y"), ("Cardiomegaly.", "No nodule."))
        >>> pairs, settings = pair_reports(truth, truth), Settings(n_resamples=0, metrics=["bleu"])
        >>> found = baseline_scores(pairs, evaluate(pairs, settings), train, settings)
        >>> found["template"]["clinical"]["micro_f1"], round(found["most frequent report"]["clinical"]["micro_f1"], 2)
        (1.0, 0.67)
    """
    _check(pairs, found, train)
    labeler = get_labeler(settings.labeler)
    if labeler is None:
        cause = "Baselines write texts, which `labeler='given'` cannot label."
        raise ConfigError(cause, "Choose another labeler, e.g. 'rules'.")
    if not hasattr(labeler, "label_names"):
        labeler = CallableLabeler(labeler, labeler.name)
    families = [name for name in choose_families(settings.metrics, settings.bertscore_model) if name in RESAMPLED]
    chosen = replace(settings, metrics=families or ["bleu"], n_resamples=0, bertscore_model=None, progress=False)
    with step("Writing and scoring baselines", show=settings.progress):
        return {
            name: _score(pairs, reports, chosen) for name, reports in _write(found, train, settings, labeler).items()
        }


def _check(pairs: Pairs, found: Evaluation, train: ReportTable) -> None:
    """Check that baselines can be written and scored."""
    if train.reports is None or not any(train.reports):
        cause = f"`{train.source}` holds no training reports."
        raise DatasetError(cause, "Pass the reports of the training split.")
    if pairs.references is None or found.predicted_labels is None or found.target_labels is None:
        cause = "Baselines need true reports, and labels of the system's reports."
        raise DatasetError(cause, "Pass references with text, and a labeler.")
    shared = sorted(set(train.ids) & set(pairs.ids))
    if shared:
        cause = f"{len(shared)} evaluated volume(s) are in `{train.source}` too: {', '.join(shared[:5])}."
        raise DatasetError(cause, "Pass training reports only: a baseline would copy the answer.")


def _write(found: Evaluation, train: ReportTable, settings: Settings, labeler: Labeler) -> dict[str, list[str]]:
    """Write the reports of each baseline."""
    rows = [row for row, text in enumerate(train.reports or ()) if text]
    texts = [str((train.reports or ())[row]) for row in rows]
    known = label_texts(texts, labeler) if train.labels is None else np.nan_to_num(train.labels[rows])
    writer = TemplateWriter.fit(texts, known, labeler)
    predicted, target = (np.nan_to_num(np.asarray(x)) for x in (found.predicted_labels, found.target_labels))
    count = len(found.patients)
    return {
        "most frequent report": frequent_report(texts, count),
        "random reports": random_reports(texts, count, settings.seed),
        "template": writer.write(predicted),
        "retrieval by labels": retrieve_reports(texts, known, predicted, similarity="labels"),
        f"template{ORACLE}": writer.write(target),
    }


def _score(pairs: Pairs, reports: list[str], settings: Settings) -> dict[str, Any]:
    """Score the reports of one baseline."""
    scores = evaluate(replace(pairs, predictions=list(reports), predicted_labels=None), settings).scores
    return {name: scores[name] for name in ("nlg", "clinical", "crg")}
