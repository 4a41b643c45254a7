"""Labelers and scorers that stand on other packages, models or a user's own code."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ct_vlm.metrics.adapters.judge import JudgeProtocol, JudgeScores, judge_scores
    from ct_vlm.metrics.adapters.radbert import TextClassifierLabeler
    from ct_vlm.metrics.adapters.scorers import available_scorers, external_scores

_HOMES = {
    "JudgeProtocol": "judge",
    "JudgeScores": "judge",
    "TextClassifierLabeler": "radbert",
    "available_scorers": "scorers",
    "external_scores": "scorers",
    "judge_scores": "judge",
}

__all__ = [
    "JudgeProtocol",
    "JudgeScores",
    "TextClassifierLabeler",
    "available_scorers",
    "external_scores",
    "judge_scores",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
