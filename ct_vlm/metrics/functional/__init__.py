"""Functional metrics: texts or arrays in, a dict of scores out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ct_vlm.metrics.functional.classifier import classifier_scores
    from ct_vlm.metrics.functional.clinical import clinical_scores
    from ct_vlm.metrics.functional.collapse import collapse_scores
    from ct_vlm.metrics.functional.crg import crg_score
    from ct_vlm.metrics.functional.nlg import nlg_scores

_HOMES = {
    "classifier_scores": "classifier",
    "clinical_scores": "clinical",
    "collapse_scores": "collapse",
    "crg_score": "crg",
    "nlg_scores": "nlg",
}

__all__ = ["classifier_scores", "clinical_scores", "collapse_scores", "crg_score", "nlg_scores"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torchmetrics takes seconds to import."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
