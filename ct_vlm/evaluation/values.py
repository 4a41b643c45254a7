"""Scores as JSON values, looked up and written by name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_CLINICAL = [f"{a}_{s}" for a in ("micro", "macro", "weighted", "samples") for s in ("precision", "recall", "f1")]
_COUNTS = {"num_samples", "coverage", "missing_predictions"}


def json_values(value: Any) -> Any:
    """Return plain Python values; NaN and infinity, which JSON lacks, become ``None``.

    Args:
        value: Dicts, lists, numbers, strings, and numpy's or torch's scalars and arrays.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.evaluation.values import json_values
        >>> json_values({"a": np.float64(0.5), "b": [float("nan"), np.int64(3)]})
        {'a': 0.5, 'b': [None, 3]}
    """
    if isinstance(value, dict):
        return {str(key): json_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [json_values(item) for item in value]
    if hasattr(value, "tolist"):
        return json_values(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def score_names(systems: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the names of the scores that any system has, word overlap first.

    Args:
        systems: Name of each system to its scores.
    """
    found: dict[str, None] = {}
    for scores in systems.values():
        found |= dict.fromkeys(name for name, value in (scores["nlg"] or {}).items() if _is_score(name, value))
    for scores in systems.values():
        if scores["clinical"]:
            found |= dict.fromkeys([*_CLINICAL, "crg"])
    return list(found)


def _is_score(name: str, value: Any) -> bool:
    """Tell whether an entry is a score rather than what it depends on."""
    return name not in _COUNTS and (value is None or isinstance(value, int | float))


def score_value(scores: Mapping[str, Any], name: str) -> float | None:
    """Return one of a system's scores, ``None`` if it lacks it.

    Args:
        scores: From :func:`ct_vlm.evaluation.evaluate`.
        name: One of :func:`score_names`.
    """
    value = None
    for part in ("nlg", "clinical", "crg"):
        value = (scores[part] or {}).get(name, value)
    return value


def with_interval(scores: Mapping[str, Any], name: str) -> str:
    """Return a score and its interval as text, "" without one.

    Args:
        scores: From :func:`ct_vlm.evaluation.evaluate`.
        name: One of :func:`score_names`.
    """
    value, interval = score_value(scores, name), scores["intervals"].get(name)
    if value is None:
        return ""
    if not interval or interval["low"] is None:
        return f"{value:.3f}"
    return f"{value:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"
