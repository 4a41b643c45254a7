"""Report and label metrics as torchmetrics classes with functional twins."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ct_vlm.metrics.baselines import frequent_report, random_reports, retrieve_reports
    from ct_vlm.metrics.classifier import ClassifierScores
    from ct_vlm.metrics.clinical import ClinicalEfficacy
    from ct_vlm.metrics.crg import CRGScore
    from ct_vlm.metrics.embedding_statistics import EmbeddingStatistics
    from ct_vlm.metrics.grounding import GroundedStatement, GroundingCase, GroundingScores, grounding_scores
    from ct_vlm.metrics.label_sources import CallableLabeler, LabelTable, read_labels_csv
    from ct_vlm.metrics.labeler import Decision, Explanation, Mention, RuleLabeler
    from ct_vlm.metrics.nlg import ReportBLEU, ReportNLG
    from ct_vlm.metrics.regional import RegionScores, region_scores
    from ct_vlm.metrics.reliance import ClinicalScorer, EvaluatedSamples, other_patient_permutation, visual_reliance
    from ct_vlm.metrics.reliance_plot import plot_reliance
    from ct_vlm.metrics.reliance_result import RelianceResult
    from ct_vlm.metrics.template import TemplateWriter

_HOMES = {
    "CRGScore": "crg",
    "CallableLabeler": "label_sources",
    "ClassifierScores": "classifier",
    "ClinicalEfficacy": "clinical",
    "ClinicalScorer": "reliance",
    "Decision": "labeler",
    "EmbeddingStatistics": "embedding_statistics",
    "EvaluatedSamples": "reliance",
    "Explanation": "labeler",
    "GroundedStatement": "grounding",
    "GroundingCase": "grounding",
    "GroundingScores": "grounding",
    "LabelTable": "label_sources",
    "Mention": "labeler",
    "RegionScores": "regional",
    "RelianceResult": "reliance_result",
    "ReportBLEU": "nlg",
    "ReportNLG": "nlg",
    "RuleLabeler": "labeler",
    "TemplateWriter": "template",
    "frequent_report": "baselines",
    "grounding_scores": "grounding",
    "other_patient_permutation": "reliance",
    "plot_reliance": "reliance_plot",
    "random_reports": "baselines",
    "read_labels_csv": "label_sources",
    "region_scores": "regional",
    "retrieve_reports": "baselines",
    "visual_reliance": "reliance",
}

__all__ = [
    "CRGScore",
    "CallableLabeler",
    "ClassifierScores",
    "ClinicalEfficacy",
    "ClinicalScorer",
    "Decision",
    "EmbeddingStatistics",
    "EvaluatedSamples",
    "Explanation",
    "GroundedStatement",
    "GroundingCase",
    "GroundingScores",
    "LabelTable",
    "Mention",
    "RegionScores",
    "RelianceResult",
    "ReportBLEU",
    "ReportNLG",
    "RuleLabeler",
    "TemplateWriter",
    "frequent_report",
    "grounding_scores",
    "other_patient_permutation",
    "plot_reliance",
    "random_reports",
    "read_labels_csv",
    "region_scores",
    "retrieve_reports",
    "visual_reliance",
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
