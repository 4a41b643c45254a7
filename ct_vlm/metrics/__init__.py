"""Report and label metrics as torchmetrics classes with functional twins."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ct_vlm.metrics.classifier import ClassifierScores
    from ct_vlm.metrics.clinical import ClinicalEfficacy
    from ct_vlm.metrics.crg import CRGScore
    from ct_vlm.metrics.labeler import Mention, RuleLabeler
    from ct_vlm.metrics.nlg import ReportBLEU, ReportNLG
    from ct_vlm.metrics.reliance import other_patient_permutation

_HOMES = {
    "CRGScore": "crg",
    "ClassifierScores": "classifier",
    "ClinicalEfficacy": "clinical",
    "Mention": "labeler",
    "ReportBLEU": "nlg",
    "ReportNLG": "nlg",
    "RuleLabeler": "labeler",
    "other_patient_permutation": "reliance",
}

__all__ = [
    "CRGScore",
    "ClassifierScores",
    "ClinicalEfficacy",
    "Mention",
    "ReportBLEU",
    "ReportNLG",
    "RuleLabeler",
    "other_patient_permutation",
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
