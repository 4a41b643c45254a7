"""Functional metrics: texts or arrays in, a dict of scores out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ct_vlm.metrics.functional.bertscore import BertScores, bert_scores
    from ct_vlm.metrics.functional.classifier import classifier_scores
    from ct_vlm.metrics.functional.clinical import clinical_scores
    from ct_vlm.metrics.functional.collapse import collapse_scores, label_set_entropy
    from ct_vlm.metrics.functional.crg import crg_score
    from ct_vlm.metrics.functional.meteor import MeteorScores, meteor_scores
    from ct_vlm.metrics.functional.nlg import nlg_scores
    from ct_vlm.metrics.functional.overlap import NlgStatistics, nlg_statistics
    from ct_vlm.metrics.functional.permutation import PermutationResult, permutation_test
    from ct_vlm.metrics.functional.ranking import ClassifierStatistics, classifier_statistics
    from ct_vlm.metrics.functional.resampling import BootstrapResult, Interval, bootstrap, paired_difference
    from ct_vlm.metrics.functional.statistics import (
        ClinicalStatistics,
        CombinedStatistics,
        MeanStatistics,
        Statistics,
        clinical_statistics,
    )
    from ct_vlm.metrics.functional.thresholds import Thresholds, fit_thresholds, threshold_scores

_HOMES = {
    "BertScores": "bertscore",
    "MeteorScores": "meteor",
    "bert_scores": "bertscore",
    "meteor_scores": "meteor",
    "BootstrapResult": "resampling",
    "ClassifierStatistics": "ranking",
    "ClinicalStatistics": "statistics",
    "CombinedStatistics": "statistics",
    "Interval": "resampling",
    "MeanStatistics": "statistics",
    "NlgStatistics": "overlap",
    "PermutationResult": "permutation",
    "Statistics": "statistics",
    "Thresholds": "thresholds",
    "bootstrap": "resampling",
    "classifier_scores": "classifier",
    "classifier_statistics": "ranking",
    "clinical_scores": "clinical",
    "clinical_statistics": "statistics",
    "collapse_scores": "collapse",
    "crg_score": "crg",
    "fit_thresholds": "thresholds",
    "label_set_entropy": "collapse",
    "nlg_scores": "nlg",
    "nlg_statistics": "overlap",
    "paired_difference": "resampling",
    "permutation_test": "permutation",
    "threshold_scores": "thresholds",
}

__all__ = [
    "BertScores",
    "BootstrapResult",
    "ClassifierStatistics",
    "ClinicalStatistics",
    "CombinedStatistics",
    "Interval",
    "MeanStatistics",
    "MeteorScores",
    "NlgStatistics",
    "PermutationResult",
    "Statistics",
    "Thresholds",
    "bert_scores",
    "bootstrap",
    "classifier_scores",
    "classifier_statistics",
    "clinical_scores",
    "clinical_statistics",
    "collapse_scores",
    "crg_score",
    "fit_thresholds",
    "label_set_entropy",
    "meteor_scores",
    "nlg_scores",
    "nlg_statistics",
    "paired_difference",
    "permutation_test",
    "threshold_scores",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torchmetrics takes seconds to import."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
